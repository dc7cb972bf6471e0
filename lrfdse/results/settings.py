"""What the user asks of an exploration."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lrfdse.base.folders import cache_folder
from lrfdse.errors import InputError
from lrfdse.ir.space import SearchSpace
from lrfdse.targets.target import Target


@dataclass(frozen=True, slots=True)
class Limits:
    """What the recommended design must satisfy."""

    max_drop: float = 0.01
    """Largest loss of the metric on the data that choose; 0.01 is one point."""
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
    meter: str = "auto"
    """What obtains latencies, a name of `lrfdse.meters.meter.METERS`; "auto" lets the target decide."""
    limits: Limits = Limits()
    budget: int = 60
    """Plans evaluated on data, baselines included."""
    keep: int = 8
    """Designs whose files are written beside the recommended one's."""
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Processes on this machine that measure kernels, and that evaluate plans."""
    helped_after: float = 20.0
    """Seconds of evaluation ahead from which on more than one process evaluates plans: each reads model and data."""
    seed: int = 0
    metric: str | None = None
    """What designs are chosen by, a name of `lrfdse.quality.metrics`; None means top-1, without labels fidelity."""
    eval_samples: int | None = None
    """Samples drawn from the evaluation data to choose by; None means all."""
    proxy: str = "loss"
    """What the knapsack adds up over layers, a name of `lrfdse.explore.plans.proxy`."""
    correct: bool = True
    """Whether layers are fitted again to what the compressed layers before them feed them, and the best plans refined
    by the whole model's outputs; needs calibration data."""
    study: str | None = None
    """Optuna storage URL, or the path of a journal; None means an SQLite file in the output folder."""
    study_name: str | None = None
    """Of the study; None means a name that tells model, target and what else results depend on."""
    sampler: str = "nsga2"
    """What proposes plans around the knapsack's, a name of `lrfdse.search.samplers.builtin`."""
    minutes: float | None = None
    """After which no new plan is proposed; None means never."""
    accept_unverified: bool = False
    """Whether a design may be recommended though no evaluation data say what it loses."""
    runner: str | None = None
    """What runs a program on a board, see `lrfdse.board.transport.open_transport`; None means that nothing does."""
    artifacts: Path | None = None
    """Artifact store for those who join the study; None means `artifacts` in the output folder."""
    cache: Path = field(default_factory=cache_folder)
    """Where results lie that can be computed again; what zig built lies in `lrfdse.base.folders.cache_folder`."""


PROXIES = ("loss", "output", "weight", "fidelity", "score")
"""Measured divergence of the model's outputs (the default); squared relative error of the layer's output, or of its
weight; measured loss of fidelity, or of the metric."""


def check_proxy(kind: str) -> None:
    """Raise `InputError` where there is no such proxy."""
    if kind not in PROXIES:
        raise InputError(f"--proxy takes {', '.join(PROXIES)}, but got {kind!r}")
