"""Help texts name what is registered."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lrfdse.board.transport import RUNNERS
from lrfdse.cli.names import with_plugins
from lrfdse.meters.meter import METERS
from lrfdse.quality.metrics import METRICS
from lrfdse.search.samplers.builtin import SAMPLERS


def words_of(command: str, option: str) -> set[str]:
    """The words of an option's help text."""
    code = f"from lrfdse.cli import run; run(['{command}', '--help'])"
    text = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    part = text.partition(f" {option} ")[2].partition(" --")[0]
    assert part
    return {word.strip("(),.:") for word in part.split()}


@pytest.mark.parametrize(
    ("command", "option", "registry"),
    [
        ("explore", "--meter", METERS),
        ("explore", "--metric", METRICS),
        ("explore", "--sampler", SAMPLERS),
        ("explore", "--runner", RUNNERS),
        ("bench", "--runner", RUNNERS),
    ],
)
def test_help_names_all_that_is_registered(command, option, registry):
    assert set(registry.names()) <= words_of(command, option)


def test_the_names_of_plug_ins_are_added(tmp_path, monkeypatch):
    info = tmp_path / "more-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: more\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[lrfdse.meters]\nzoom = nowhere:X\ncounted = nowhere:Y\n")
    assert with_plugins("auto, host{lrfdse.meters}.") == "auto, host."
    monkeypatch.syspath_prepend(str(tmp_path))
    assert with_plugins("auto, host{lrfdse.meters}.") == "auto, host, counted, zoom."


def test_asking_for_help_imports_no_numbers():
    code = (
        "import sys; from lrfdse.cli import run; run(['explore', '--help'])\n"
        "print(sorted({'numpy', 'optuna', 'onnx', 'rich', 'lrfdse.explore.run', 'lrfdse.api'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"
