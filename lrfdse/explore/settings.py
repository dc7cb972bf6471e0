"""What the user asks of an exploration."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lrfdse.design import SearchSpace, Target


def default_cache() -> Path:
    """Return the folder of everything that can be computed again: ``$XDG_CACHE_HOME/lrfdse`` or ``~/.cache/lrfdse``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lrfdse"


@dataclass(frozen=True, slots=True)
class Limits:
    """What the recommended design must satisfy."""

    max_drop: float = 0.01
    """Largest loss of accuracy (or fidelity) on the data that chooses, a fraction."""
    max_params: int | None = None
    max_latency_us: float | None = None


@dataclass(frozen=True, slots=True)
class Data:
    """Where the data lie; each is an ``.npz`` file or absent."""

    calib: Path | None = None
    """Inputs that factorizations are fitted on, no labels."""
    eval: Path | None = None
    """Inputs, with labels where there are some, that choose among designs."""
    test: Path | None = None
    """Inputs and labels that the reported accuracy is taken on; they choose nothing."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One exploration."""

    model: Path
    target: Target
    target_source: str
    """The name or path that the target was read from."""
    space: SearchSpace
    space_source: str
    output: Path
    data: Data = Data()
    shape: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    meter: Literal["auto", "host", "model"] = "auto"
    limits: Limits = Limits()
    budget: int = 60
    """Plans evaluated on data, baselines included."""
    keep: int = 8
    """Designs whose files are written beside the recommended one's."""
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    seed: int = 0
    study: str | None = None
    """Optuna storage URL; None means an SQLite file in the output folder."""
    cache: Path = field(default_factory=default_cache)
