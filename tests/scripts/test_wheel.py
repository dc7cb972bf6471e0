from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from lrfdse.base.version import __version__

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


@pytest.mark.slow
def test_an_installed_wheel_works_without_the_checkout(tmp_path: Path) -> None:
    """In an environment of its own lrfdse comes from the wheel alone; what it depends on lies in this environment."""
    import sysconfig

    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, TOP]
    subprocess.run(command, check=True, capture_output=True, text=True)
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "bare"], check=True)
    python = tmp_path / "bare" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", wheel], check=True, capture_output=True)
    (site,) = (tmp_path / "bare" / "lib").glob("python3*/site-packages")
    # A path in such a file is searched last; files of this kind in it, an editable lrfdse's among them, are not read.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LRFDSE_CACHE": str(tmp_path / "cache")}

    def lrfdse(*words: str) -> str:
        program = [tmp_path / "bare" / "bin" / "lrfdse", *words]
        ran = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert ran.returncode == 0, (words, ran.stdout, ran.stderr)
        return ran.stdout

    assert lrfdse("--version").split() == ["lrfdse", __version__]
    assert wheel.name.split("-")[1] == __version__
    assert "riscv64" in lrfdse("targets")
    told = json.loads(lrfdse("doctor", "--target", "host", "--json"))
    assert told["healthy"] and {"numpy", "onnx", "apache-tvm"} <= {part["name"] for part in told["packages"]}
    shutil.copy(TOP / "examples" / "lenet300-fashion" / "model.onnx", tmp_path)
    assert "784 x 300" in lrfdse("inspect", "model.onnx")


@pytest.mark.slow
def test_a_source_distribution_gives_the_same_wheel(tmp_path: Path) -> None:
    """Built by the backend that pyproject names, in an environment that pip would make for it."""
    pip = [sys.executable, "-m", "pip"]
    subprocess.run([*pip, "install", "--quiet", "--target", tmp_path / "backend", "hatchling>=1.26"], check=True)
    build = "import hatchling.build, sys; print(hatchling.build.build_sdist(sys.argv[1]))"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "backend")}
    subprocess.run([sys.executable, "-c", build, tmp_path], cwd=TOP, env=environment, check=True, capture_output=True)
    (archive,) = tmp_path.glob("lrfdse-*.tar.gz")
    names = {}
    for kind, source in (("sdist", archive), ("checkout", TOP)):
        folder = tmp_path / kind
        subprocess.run([*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, source], check=True)
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as file:
            names[kind] = {name: file.getinfo(name).CRC for name in file.namelist() if not name.endswith("/RECORD")}
    assert names["sdist"] == names["checkout"]
