"""A fitted target as a TOML file of the user's own: the original's text with the fitted values and their sources."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lrfdse.base.files import write_atomically
from lrfdse.base.folders import data_folder
from lrfdse.base.temporary import temporary_folder
from lrfdse.base.text import one_line
from lrfdse.board.result import LONGEST_LINE, board_line
from lrfdse.calibrate.fit import Calibration, Fitted
from lrfdse.calibrate.record import Record
from lrfdse.errors import InputError, ToolError
from lrfdse.targets.catalog import load_target

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

_MARK = ", calibrated on a board"
_SECTIONS = {"clock_mhz": "core"}
"""Tables of a target file that hold fitted fields; those that are not named here are in `memory`."""


def check_target_path(output: Path) -> None:
    """Refuse a path that ``--target`` would not take for a file."""
    if output.suffix != ".toml":
        raise InputError(f"--output {output}: a target file ends in .toml, so that --target takes it for one")


def write_target(calibration: Calibration, source: str, records: Sequence[Record], output: Path) -> None:
    """Write the target that `source` names, with the fitted values, by atomic rename.

    Parameters
    ----------
    calibration
        The fit.
    source
        Name or path that the target was read from.
    records
        What it was fitted to, for the comments.
    output
        The file, which ends in ``.toml``.

    Raises
    ------
    InputError
        The path does not end in ``.toml``, or cannot be written.
    """
    import tomlkit

    check_target_path(output)
    path = Path(source) if source.endswith(".toml") else data_folder("targets") / f"{source}.toml"
    document = tomlkit.parse(path.read_text(encoding="utf-8"))
    document.pop("name", None)
    for key in ("summary", "core"):
        _mark(document, key)
    for parameter in calibration.parameters:
        _set(document, parameter)
    text = "".join(f"# {line}\n" for line in _head(calibration, source, records)) + tomlkit.dumps(document)
    with temporary_folder() as folder:
        trial = folder / "trial.toml"
        trial.write_text(text, encoding="utf-8")
        made = load_target(str(trial))
        if any(getattr(made, p.name) != _rounded(p.after) for p in calibration.parameters if not p.held):
            raise ToolError(f"{path}: its layout is not understood: the fitted values could not be put in")
    write_atomically(output, text)


def _head(calibration: Calibration, source: str, records: Sequence[Record]) -> list[str]:
    points = len(calibration.residuals)
    lines = [
        f"Target {one_line(Path(source).stem, LONGEST_LINE)}, calibrated by lrfdse to {points} kernels and cache "
        "regimes.",
        *(
            f"Measured on: {board_line(record.board)} ({one_line(record.path.name, LONGEST_LINE)})"
            for record in records
        ),
        f"Median error of the modelled latency: {calibration.error_before:.1%} before, "
        f"{calibration.error_after:.1%} after.",
    ]
    if calibration.scale is not None:
        lines.append(
            f"Scale: {calibration.scale:.3f} (the board's own clock over the fitted one, which takes up a constant "
            "factor of all modelled cycles)."
        )
    return [*lines, *(one_line(note, LONGEST_LINE) for note in calibration.notes)]


def _set(document: TOMLDocument, parameter: Fitted) -> None:
    import tomlkit

    name = parameter.name
    section = document if name in document else document.get(_SECTIONS.get(name, "memory"))
    if section is None or name not in section:
        return
    if parameter.held:
        section[name].comment(f"held: {parameter.held}")
        return
    value = tomlkit.item(_rounded(parameter.after))
    value.comment(f"fitted: was {parameter.before:g}, standard error {parameter.standard_error:.1%}")
    section[name] = value
    document["provenance"][name] = f"fitted: by lrfdse calibrate to measurements on a board (was {parameter.before:g})"


def _mark(document: TOMLDocument, key: str) -> None:
    """Have the texts that reports print say that the target is no longer the one that ships."""
    section = document if isinstance(document.get(key), str) else document.get("core")
    if section is not None and isinstance(section.get(key), str) and not section[key].endswith(_MARK):
        section[key] = str(section[key]) + _MARK


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
