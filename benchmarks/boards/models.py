"""Whole models that others timed on boards, beside what the meter of whole models says of our libraries for them."""

from __future__ import annotations

import dataclasses
import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.keys import code
from benchmarks.records import Records
from benchmarks.whole_model.models import named
from lrfdse.base.events import silent
from lrfdse.base.folders import cache_folder
from lrfdse.base.store import Store
from lrfdse.library.build import LibraryOptions, library_of
from lrfdse.meters.whole_model import WholeModelMeter
from lrfdse.targets.catalog import load_target, noun_digest
from lrfdse.targets.target import Target

NCNN = "ncnn"
VENDOR = "SpacemiT"
SOURCE = "Tencent/ncnn, benchmark/README.md (averages); SpacemiT, docs-ai, model zoo, runtime 2.0.6"


@dataclass(frozen=True, slots=True)
class Timed:
    """One published time of a whole model."""

    target: str
    clock_mhz: float
    """Of the board; the target's may be another."""
    board: str
    model: str
    """By the name of `benchmarks.whole_model.models`."""
    runtime: str
    arithmetic: str
    threads: int
    milliseconds: float

    @property
    def is_like(self) -> bool:
        """Whether the board did the arithmetic that our library does: float32 on one core."""
        return self.arithmetic == "float32" and self.threads == 1


_PI4 = ("aarch64", 1800.0, "Raspberry Pi 4B")
_PI3 = ("aarch64-a53", 1400.0, "Raspberry Pi 3B+")
_ZERO = ("armv7", 1200.0, "Banana Pi M2 Zero")
_CM4 = ("aarch64-a55", 1800.0, "Orange Pi CM4, RK3566")
_K1 = ("riscv64", 1600.0, "SpacemiT K1")

TIMED = (
    Timed(*_PI4, "mobilenet_v2", NCNN, "float32", 1, 93.48),
    Timed(*_PI4, "mobilenet_v3", NCNN, "float32", 1, 72.81),
    Timed(*_PI3, "mobilenet_v2", NCNN, "float32", 1, 158.80),
    Timed(*_PI3, "mobilenet_v3", NCNN, "float32", 1, 127.23),
    Timed(*_ZERO, "mobilenet_v3", NCNN, "float32", 1, 585.57),
    Timed(*_K1, "mobilenet_v3", VENDOR, "float16", 1, 65.8),
    Timed(*_K1, "mobilenet_v3", NCNN, "float16", 8, 147.74),
    Timed(*_CM4, "mobilenet_v3", NCNN, "float16", 1, 47.98),
)
"""What was published of architectures that `benchmarks.whole_model` has, on cores that there are targets of."""


@dataclass(frozen=True, slots=True)
class Predicted:
    """A published time beside the modelled one of our library, in milliseconds."""

    timed: Timed
    modelled: float

    @property
    def ratio(self) -> float:
        """Modelled over published time."""
        return self.modelled / self.timed.milliseconds


def at_clock(target: Target, mhz: float) -> Target:
    """Return a target at another clock: caches keep their cycles, DRAM its nanoseconds."""
    slower = target.clock_mhz / mhz
    names = ("dram_bytes_per_cycle", "dram_fill_bytes_per_cycle", "dram_copy_bytes_per_cycle")
    rates = {name: rate * slower for name in names if (rate := getattr(target, name)) is not None}
    return dataclasses.replace(target, clock_mhz=mhz, dram_latency=target.dram_latency / slower, **rates)


def predictions(records: Records, say: Callable[[str], None]) -> list[Predicted]:
    """Return every published time with the modelled one, from the records where it is known."""
    made = code(library_of, WholeModelMeter)
    found = []
    for timed in TIMED:
        target = at_clock(load_target(timed.target), timed.clock_mhz)
        (model,) = named([timed.model])
        with tempfile.TemporaryDirectory(prefix="lrfdse-bench-") as folder:
            path = model.write(Path(folder), None)
            identity = "\0".join((made, noun_digest(target), hashlib.sha256(path.read_bytes()).hexdigest()))
            key = hashlib.sha256(identity.encode()).hexdigest()[:32]
            if not records.ask(key):
                say(f"{timed.target} at {timed.clock_mhz:g} MHz, {timed.model}")
                facts = library_of(path, target, LibraryOptions(meter="model"), Store(cache_folder()), silent).facts
                if facts.warm is None:
                    raise ValueError(f"{timed.model} has no latency on {timed.target}")
                records.put({"key": key, "name": f"{timed.target} {timed.model}", "us": facts.warm.us})
        record = records.get(key)
        assert record is not None
        found.append(Predicted(timed, float(record["us"]) / 1e3))
    return found
