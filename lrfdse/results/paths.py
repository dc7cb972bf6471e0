"""Paths as seen from the output folder, so that a checkout can move."""

from __future__ import annotations

import os
from pathlib import Path


def relative(path: Path, folder: Path) -> str:
    """Return `path` as seen from `folder`."""
    return os.path.relpath(path.resolve(), folder.resolve())


def source(name_or_path: str, folder: Path) -> str:
    """Return a target or search space as it is found from `folder`: a name as it is, a TOML file as a path."""
    return relative(Path(name_or_path), folder) if name_or_path.endswith(".toml") else name_or_path
