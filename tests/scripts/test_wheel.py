from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]

PROBE = """
import json, lrfdse
from lrfdse.targets import catalog
kinds = ("targets", "search_spaces", "qemu")
print(json.dumps({"at": lrfdse.__file__, **{kind: str(catalog.data_folder(kind)) for kind in kinds}}))
for name in catalog.names("targets"): catalog.load_target(name)
for name in catalog.names("search_spaces"): catalog.load_search_space(name)
"""


@pytest.mark.slow
def test_wheel_holds_targets_search_spaces_and_qemu_sources(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, TOP]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")

    ran = subprocess.run(
        [sys.executable, "-c", PROBE],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    found = {key: Path(value) for key, value in json.loads(ran.stdout).items()}
    assert found.pop("at").is_relative_to(tmp_path)
    for kind, folder in found.items():
        assert folder.is_relative_to(tmp_path), kind
        assert _files(folder) == _files(TOP / kind), kind
    assert _files(tmp_path / "installed" / "lrfdse") >= _files(TOP / "lrfdse")
    assert {path.name for path in (tmp_path / "installed").iterdir() if path.suffix != ".dist-info"} == {"lrfdse"}


def _files(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and not any(part.startswith(".") for part in path.parts[-2:])
    }
