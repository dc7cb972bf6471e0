"""Folders of designs: which of their files lrfdse wrote, and for whom, so that nothing else is ever removed."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lrfdse.base.codec import from_plain, to_plain
from lrfdse.base.files import folder_below, read_regular, write_atomically
from lrfdse.errors import InputError

DESIGNS = "designs"
"""Name of their folder in an output folder."""

_MANIFEST = ".lrfdse.json"
LIBRARY = "library"
"""Name of the folder with the C library of the whole model, in a design's folder."""

_INNER = ("kernels", LIBRARY)
_FILE = re.compile(rf"(?:(?:{'|'.join(_INNER)})/)?[^/\0]+")
"""Every file of a design lies in its folder, in `kernels` or in `library`."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What lrfdse wrote into a design's folder."""

    kept_by: Literal["explore", "export"]
    """An exploration removes what explorations kept; what the user exported stays until the user removes it."""
    files: tuple[str, ...]
    """Relative to the folder."""


def design_folder(designs: Path, identity: str) -> Path:
    """Return the folder of a design, made where it is missing; `designs` is that of all in an output folder.

    Raises
    ------
    InputError
        ``designs`` or the design's own folder is a link or a file, or cannot be made.
    """
    return folder_below(designs.parent, designs.name, identity)


def mark(folder: Path, files: Iterable[str], *, exported: bool) -> None:
    """Note which files of a design's folder are about to be written, beside those that were before.

    Parameters
    ----------
    folder
        The design's folder.
    files
        Their paths in it.
    exported
        Whether the user asked for this design; that stays so when an exploration writes it again.
    """
    known = manifest(folder)
    kept_by: Literal["explore", "export"] = "explore"
    if exported or (known is not None and known.kept_by == "export"):
        kept_by = "export"
    every = {*files, *(() if known is None else known.files)}
    write_atomically(folder / _MANIFEST, json.dumps(to_plain(Manifest(kept_by, tuple(sorted(every)))), indent=1) + "\n")


def manifest(folder: Path) -> Manifest | None:
    """Return what lrfdse wrote into a folder; None where nothing says that it wrote there."""
    try:
        found = from_plain(Manifest, json.loads(read_regular(folder / _MANIFEST, links=False)))
    except (OSError, ValueError, RecursionError, InputError):
        return None
    return found if all(_FILE.fullmatch(name) and ".." not in name.split("/") for name in found.files) else None


def remove_other_designs(designs: Path, kept: Iterable[str]) -> None:
    """Remove the designs in a folder that earlier explorations kept, except those of the identities `kept`.

    Of each, the files are removed that its manifest names, and the folder where nothing else is in it. A link is no
    design; nor is a folder without a manifest.
    """
    stay = set(kept)
    if designs.is_symlink() or not designs.is_dir():
        return
    for folder in sorted(designs.iterdir()):
        if folder.name in stay or folder.is_symlink():
            continue
        if (found := manifest(folder)) is not None and found.kept_by == "explore":
            _remove(folder, found)


def _remove(folder: Path, found: Manifest) -> None:
    # Where a file cannot be removed, the folder stays with it: a later exploration tries again.
    with contextlib.suppress(OSError):
        _unlink(folder, found.files)
        (folder / _MANIFEST).unlink()
        folder.rmdir()


def _unlink(folder: Path, files: Iterable[str]) -> None:
    """Remove files of a design and folders in it that are empty then; nothing behind a link."""
    links = {name for name in _INNER if (folder / name).is_symlink()}
    for name in files:
        if "/" not in name or name.split("/")[0] not in links:
            (folder / name).unlink(missing_ok=True)
    for name in _INNER:
        if name not in links and (folder / name).is_dir():
            with contextlib.suppress(OSError):
                (folder / name).rmdir()
