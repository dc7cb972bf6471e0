"""What the model meter counts of the X60's published loops and products, kept from one run to the next."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.boards.code import BLOCKS, INNER, Case, assembled, gemm_case, stream_case
from benchmarks.boards.x60 import GEMMS, STREAM_KIB, STREAMS, Gemm
from benchmarks.keys import code
from benchmarks.records import Records
from lrfdse.calibrate.record import fixed_digest
from lrfdse.meters.counts import Counter
from lrfdse.meters.memory import memory_cycles
from lrfdse.meters.trace import Traffic
from lrfdse.targets.target import Target

_TIMEOUT = 600.0
"""Seconds, far more than the emulator takes for any of the cases."""


@dataclass(frozen=True, slots=True)
class Row:
    """One published number, and what was counted of the program that stands for it."""

    name: str
    group: str
    """What is left out together where a fit is tried on what it has not seen: one loop, or one tile."""
    published: float
    """Cycles of one step of a product; of a stream, cycles that its buffer took."""
    compute: float
    """Modelled cycles, in the same unit, with all data in the first level."""
    traffic: Traffic
    scale: float
    """Steps of the program, by which its traffic is divided."""
    vlenb: float = 0.0
    """Reads of the vector length in one step."""
    bytes: int = 0
    """Of a stream's buffer; 0 for a product."""
    flops: int = 0
    """Of one step of a product; 0 for a stream."""

    @property
    def is_stream(self) -> bool:
        """Whether it is a loop over a buffer."""
        return self.bytes > 0

    def modelled(self, target: Target, more_compute: float = 0.0) -> float:
        """Return the modelled cycles under a target's assumptions, in the unit of `published`."""
        return memory_cycles(self.traffic, target).low(self.scale * (self.compute + more_compute)) / self.scale


def rows(target: Target, records: Records, say: Callable[[str], None]) -> list[Row]:
    """Run what has no record yet under the emulator, and return every published number with its counts."""
    counter = Counter(target, _TIMEOUT)
    made = code(Counter.count, assembled)

    def counted(name: str, case: Case, regime: str) -> tuple[float, Traffic]:
        identity = "\0".join((fixed_digest(target), made, case.text, repr(case.sizes)))
        key = hashlib.sha256(identity.encode()).hexdigest()[:32]
        if not records.ask(key):
            say(name)
            counts = counter.count(assembled(case, target), *case.arrays())
            regimes = {"warm": dataclasses.asdict(counts.warm), "cold": dataclasses.asdict(counts.cold)}
            records.put({"key": key, "name": name, "compute": counts.core.cycles, **regimes})
        record = records.get(key)
        assert record is not None
        return float(record["compute"]), Traffic(**record[regime])

    found = [_gemm_row(gemm, *counted(str(gemm), gemm_case(gemm), "cold")) for gemm in GEMMS]
    for (kind, lmul), published in STREAMS.items():
        for kib, rate in zip(STREAM_KIB, published, strict=True):
            name = f"{kind} m{lmul} {kib} KiB"
            compute, traffic = counted(name, stream_case(kind, lmul, kib), "warm")
            size = 1024 * kib
            found.append(Row(name, f"{kind} m{lmul}", size / rate, compute, traffic, 1.0, bytes=size))
    return found


def _gemm_row(gemm: Gemm, compute: float, traffic: Traffic) -> Row:
    steps = BLOCKS * INNER
    return Row(
        str(gemm),
        gemm.group,
        gemm.cycles,
        compute / steps,
        traffic,
        steps,
        vlenb=gemm.vlenb / gemm.unroll,
        flops=2 * gemm.rows * gemm.columns,
    )
