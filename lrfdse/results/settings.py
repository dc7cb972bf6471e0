"""What the user asks of an exploration."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict, get_args

from lrfdse.base.arguments import number_between, positive_number, whole_number
from lrfdse.base.folders import cache_folder
from lrfdse.errors import InputError
from lrfdse.ir.form import Form
from lrfdse.ir.layer import DEFAULT_KINDS, Kind
from lrfdse.ir.space import SearchSpace
from lrfdse.ir.storage import FLOAT16, asked_storages
from lrfdse.targets.target import Target


@dataclass(frozen=True, slots=True)
class Limits:
    """What the recommended design must satisfy."""

    max_drop: float = 0.01
    """Largest loss of the metric on the evaluation data; 0.01 is one point."""
    max_params: int | None = None
    """Most parameters of all fully-connected layers; None asks for nothing."""
    max_latency_us: float | None = None
    """Highest latency of all fully-connected layers, in microseconds; None asks for nothing."""
    max_other_drop: float | None = None
    """Largest loss of every other output that counts, of its agreement with the original model, its R² or its cosine;
    None means `max_drop`."""
    max_size: int | None = None
    """Most bytes that the weights of all fully-connected layers take, as they are stored: 4 a parameter in float32, 1
    and its part of a scale in int8; None asks for nothing."""
    max_model_latency_us: float | None = None
    """Highest warm latency of the whole model, in microseconds, as it is estimated from the layers' kernels and what
    everything else takes; None asks for nothing."""

    @property
    def most_other_drop(self) -> float:
        """Largest loss of every other output that counts."""
        return self.max_drop if self.max_other_drop is None else self.max_other_drop

    def checked(self) -> Limits:
        """Return the same limits, their numbers Python's own.

        Raises
        ------
        InputError
            One makes no sense, such as a loss of more than all.
        """
        most, slowest, other, size = self.max_params, self.max_latency_us, self.max_other_drop, self.max_size
        whole = self.max_model_latency_us
        return Limits(
            number_between("max_drop (a fraction: 0.01 is one point)", self.max_drop, 0, 1),
            None if most is None else whole_number("max_params", most, 1),
            None if slowest is None else positive_number("max_latency_us", slowest),
            None if other is None else number_between("max_other_drop (a fraction)", other, 0, 1),
            None if size is None else whole_number("max_size", size, 1),
            None if whole is None else positive_number("max_model_latency_us", whole),
        )


@dataclass(frozen=True, slots=True)
class Data:
    """Where the data lie; each is an ``.npz`` file or absent."""

    calib: Path | None = None
    """The calibration data, which factorizations are fitted on: inputs without labels."""
    eval: Path | None = None
    """The evaluation data, which choose among designs: inputs, and labels where there are some."""
    test: Path | None = None
    """The test data, which reported scores are of and which choose nothing: inputs and labels."""


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
    value: Mapping[str, str] = field(default_factory=dict)
    """Numbers that inputs are fixed to, as texts, by the input's name."""
    meter: str = "auto"
    """What obtains latencies, a name of `lrfdse.meters.meter.METERS`; "auto" lets the target decide."""
    limits: Limits = Limits()
    budget: int = 60
    """Largest number of plans evaluated on data, the original and uniform SVD included."""
    keep: int = 8
    """Largest number of designs whose files are written beside the recommended one's."""
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Processes on this machine that measure kernels, and that evaluate plans."""
    helped_after: float = 20.0
    """Seconds of evaluation ahead from which on more than one process evaluates plans: each reads model and data."""
    seed: int = 0
    metric: str | None = None
    """What designs are chosen by, a name of `lrfdse.quality.metrics`; None means top-1, without labels fidelity, and
    explained variance or a cosine where the judged output is none of classes."""
    judge: tuple[str, ...] = ()
    """Names of the outputs that count, the judged one first and those that weigh more repeated; empty means all of
    floating point."""
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
    """Name of the study; None means one made of model, target and what else results depend on."""
    sampler: str = "nsga2"
    """What proposes plans around the knapsack's, a name of `lrfdse.search.samplers.builtin`."""
    minutes: float | None = None
    """Minutes after which no new plan is proposed; None means no such limit."""
    int8: bool = True
    """Whether the original and the designs that are written out are made with int8 weights, too."""
    effort: str = "normal"
    """How much work the answer is worth, a key of `lrfdse.results.effort.EFFORTS`."""
    storage: str = "float32"
    """In what the weights of factorized layers may be stored, see `lrfdse.ir.storage.asked_storages`."""
    accept_unverified: bool = False
    """Whether a design may be recommended though no evaluation data say what it loses."""
    runner: str | None = None
    """What runs a program on a board, see `lrfdse.board.transport.open_transport`; None means that nothing does."""
    artifacts: Path | None = None
    """Artifact store for those who join the study; None means `artifacts` in the output folder."""
    layers: tuple[Kind, ...] = DEFAULT_KINDS
    """The kinds of layers that are looked for; weights of others stay as they are."""
    heal: bool = False
    """Whether the designs that are written out are trained on data at the end."""
    heal_data: Path | None = None
    """Training data for that, maybe with labels."""
    heal_minutes: float = 10.0
    """Minutes that training may take, all designs together."""
    heal_teacher: str | None = None
    """What training goes by, a name of `lrfdse.healing.losses.TEACHERS`; None takes both where there are labels, else
    the original's outputs."""
    format: tuple[Form, ...] = ()
    """The formats in which designs are written, beside ONNX, which each is; empty means the model's own where that is
    TensorFlow Lite."""
    runtime: str | None = None
    """In which runtime the files of the kept designs are timed at the end, a name of
    `lrfdse.runtimes.program.RUNTIME_FORMS`; None times none."""
    library: bool = True
    """Whether the original, the recommended design and SVD at equal size are compiled as whole models, too."""
    cache: Path = field(default_factory=cache_folder)
    """Where results lie that can be computed again; what zig built lies in `lrfdse.base.folders.cache_folder`."""


def checked_kinds(names: Iterable[str], option: str) -> tuple[Kind, ...]:
    """Return kinds of layers in their order, each once.

    Raises
    ------
    InputError
        There is no such kind, or none is named; `option` says where the names come from.

    >>> checked_kinds(["conv", "fc", "fc"], "--layers")
    ('fc', 'conv')
    """
    known, named = get_args(Kind), list(names)
    if unknown := [name for name in named if name not in known] or ([] if named else [""]):
        raise InputError(f"{option} takes some of {', '.join(known)}, but got {unknown[0]!r}")
    return tuple(kind for kind in known if kind in named)


def checked_formats(names: Iterable[str], option: str) -> tuple[Form, ...]:
    """Return formats of designs in their order, each once.

    Raises
    ------
    InputError
        There is no such format, or none is named; `option` says where the names come from.

    >>> checked_formats(["tflite", "onnx"], "--format")
    ('onnx', 'tflite')
    """
    known, named = get_args(Form), list(names)
    if unknown := [name for name in named if name not in known] or ([] if named else [""]):
        raise InputError(f"{option} takes some of {', '.join(known)}, but got {unknown[0]!r}")
    return tuple(form for form in known if form in named)


class Options(TypedDict, total=False):
    """The fields of `Settings` that callers hand on as keywords, so that a wrong name or type is found when checked."""

    meter: str
    limits: Limits
    budget: int
    keep: int
    workers: int
    helped_after: float
    seed: int
    metric: str | None
    judge: tuple[str, ...]
    eval_samples: int | None
    proxy: str
    correct: bool
    study: str | None
    study_name: str | None
    sampler: str
    minutes: float | None
    int8: bool
    effort: str
    storage: str
    accept_unverified: bool
    runner: str | None
    artifacts: Path | None
    layers: tuple[Kind, ...]
    heal: bool
    heal_data: Path | None
    heal_minutes: float
    heal_teacher: str | None
    format: tuple[Form, ...]
    runtime: str | None
    library: bool
    cache: Path


PROXIES = ("loss", "output", "weight", "fidelity", "score")
"""What can predict losses, in this order: measured divergence of the model's outputs (the default); squared relative
error of the layer's output, or of its weight; measured loss of fidelity, or of the metric."""


def check_storage(text: str, target: Target) -> None:
    """Raise `InputError` where an exploration for a target cannot be asked for such storages."""
    if FLOAT16 in asked_storages(text) and not target.widens_halves:
        raise InputError(
            f"--storage {text}: target {target.name} has no instruction that makes float32 of float16 (docs/int8.md)"
        )


def check_proxy(kind: str) -> None:
    """Raise `InputError` where there is no such proxy."""
    if kind not in PROXIES:
        raise InputError(f"--proxy takes {', '.join(PROXIES)}, but got {kind!r}")
