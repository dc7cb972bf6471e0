"""results/boards.md: predicted against published."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.boards.fit import MEMORY, VLENB
from benchmarks.boards.instructions import Compared
from benchmarks.boards.models import Predicted
from benchmarks.boards.others import Modelled
from benchmarks.boards.page_others import models_section, others_section, peaks_section
from benchmarks.boards.readings import Reading
from benchmarks.boards.run import Row
from benchmarks.boards.x60 import GEMM_SOURCE, STREAM_KIB, STREAM_SOURCE, STREAMS
from benchmarks.machine import described
from benchmarks.numbers import spearman
from benchmarks.results import table

_WITHIN = 0.2
"""Errors of single instructions up to which they are counted only."""


@dataclass(frozen=True, slots=True)
class Found:
    """Everything that the page tells."""

    about: dict[str, object]
    rows: Sequence[Row]
    shipped: Sequence[float]
    """Modelled over published of every row, as the target stands."""
    unseen: Sequence[float]
    """The same, with the fitted numbers fitted to all rows but those of the row's loop or tile."""
    values: Mapping[str, float]
    best: Mapping[str, float]
    """The fitted numbers as the target has them, and as a fit to all rows gives them."""
    readings: Sequence[Reading]
    instructions: Sequence[Compared]
    others: Sequence[Modelled]
    models: Sequence[Predicted]


@dataclass(frozen=True, slots=True)
class Errors:
    """How far ratios of modelled to published are from 1."""

    count: int
    median: float
    ninth: float
    """Nine in ten are within."""
    least: float
    most: float

    @classmethod
    def of(cls, ratios: Sequence[float]) -> Errors:
        """Summarise ratios."""
        wrong = np.abs(np.array(ratios) - 1)
        return cls(len(ratios), float(np.median(wrong)), float(np.quantile(wrong, 0.9)), min(ratios), max(ratios))

    def cells(self) -> list[str]:
        """Return the cells of a table."""
        return [str(self.count), f"{self.median:.1%}", f"{self.ninth:.1%}", f"{self.least:.2f}", f"{self.most:.2f}"]


KINDS: dict[str, Callable[[Row], bool]] = {
    "float32 products": lambda row: row.name.startswith("f32"),
    "... that do not spill": lambda row: row.name.startswith("f32") and not row.vlenb,
    "... that spill": lambda row: row.name.startswith("f32") and row.vlenb > 0,
    "float64 products": lambda row: row.name.startswith("f64"),
    "streams of 8 KiB to 8 MiB": lambda row: row.is_stream,
    "... in L1 (to 24 KiB)": lambda row: 0 < row.bytes <= 24 * 1024,
    "... in L2 (48 to 256 KiB)": lambda row: 48 * 1024 <= row.bytes <= 256 * 1024,
    "... about L2's size (384 KiB to 1 MiB)": lambda row: 384 * 1024 <= row.bytes <= 1024 * 1024,
    "... in DRAM (from 2 MiB)": lambda row: row.bytes >= 2048 * 1024,
}
"""Rows of the first table, by name."""


def errors(found: Found, which: Callable[[Row], bool]) -> tuple[Errors, Errors]:
    """Return the errors of some rows as the target stands, and where they were left out of the fit."""
    chosen = [index for index, row in enumerate(found.rows) if which(row)]
    return Errors.of([found.shipped[i] for i in chosen]), Errors.of([found.unseen[i] for i in chosen])


def ranks(found: Found) -> float:
    """Return the rank correlation of modelled and published cycles of a FLOP over the float32 products."""
    chosen = [(row, ratio) for row, ratio in zip(found.rows, found.shipped, strict=True) if row.name.startswith("f32")]
    published = [row.published / row.flops for row, _ in chosen]
    return spearman(published, [row.published * ratio / row.flops for row, ratio in chosen])


def page_of(found: Found) -> list[str]:
    """Return the lines of the page."""
    return [
        "# The model meter against published measurements of boards",
        "",
        f"Written by `python -m benchmarks.boards`. {described(found.about)}.",
        "",
        "No board was at hand. Others published what theirs took, and loops and micro-kernels of our own writing that",
        "are shaped like theirs are given to the model meter. All numbers of ours are modelled. *Modelled / published*",
        "is a ratio of times: above 1 the model is too slow, below 1 too fast.",
        "",
        *_x60(found),
        *others_section(found.others),
        *peaks_section(found.instructions),
        *models_section(found.models),
        *_instructions(found),
    ]


def _x60(found: Found) -> list[str]:
    lines = ["## SpacemiT X60", "", f"Products: {GEMM_SOURCE}. Streams: {STREAM_SOURCE}.", ""]
    summary = []
    for name, which in KINDS.items():
        shipped, unseen = errors(found, which)
        summary.append([name, *shipped.cells(), f"{unseen.median:.1%}", f"{unseen.ninth:.1%}"])
    heads = ["", "rows", "median error", "90 % within", "least", "most", "left out: median", "left out: 90 % within"]
    lines += [*table(heads, summary), ""]
    lines += [
        f"Ranks of the float32 products by cycles a FLOP: Spearman {ranks(found):.3f}.",
        "",
        "*Left out*: the numbers below are fitted to everything but the one loop (all its sizes) or the one tile",
        "(however unrolled) that is then predicted. The rules of the model (docs/meter.md), and the times of single",
        "instructions, were chosen with all rows in view.",
        "",
        *table(
            ["fitted", "in targets/riscv64.toml", "by a fit to all rows"],
            [[f"`{name}`", f"{found.values[name]:g}", f"{found.best[name]:.2f}"] for name in (*MEMORY, VLENB)],
        ),
        "",
        "### Products",
        "",
        "Cycles of one step along the inner axis. A tile's name is element, rows x columns, LMUL, unrolling; *vlenb*",
        "is how often a step of the published code reads the vector length to find a spilled accumulator.",
        "",
    ]
    products = [
        [
            row.name,
            f"{row.published:.1f}",
            f"{ratio * row.published:.1f}",
            f"{ratio:.2f}",
            f"{unseen:.2f}",
            f"{row.vlenb:g}",
        ]
        for row, ratio, unseen in zip(found.rows, found.shipped, found.unseen, strict=True)
        if not row.is_stream
    ]
    lines += table(["product", "published", "modelled", "modelled / published", "left out", "vlenb"], products)
    lines += [
        "",
        "What a scalar costs that is loaded for an FMA: each reading of the products that do not spill, fitted to",
        "those of one element type and tried on the other. A step is counted by hand (benchmarks/boards/readings.py).",
        "",
        *table(
            ["reading", "fitted to", "cycles a scalar", "a line", "median error there", "median error of the others"],
            [
                [r.name, r.fitted_to, f"{r.scalar:.2f}", f"{r.line:.2f}", f"{r.seen:.1%}", f"{r.unseen:.1%}"]
                for r in found.readings
            ],
        ),
    ]
    lines += ["", "### Streams", "", "Modelled / published, by size of one buffer in KiB (a copy has two).", ""]
    by_group: dict[str, list[str]] = {}
    for row, ratio in zip(found.rows, found.shipped, strict=True):
        if row.is_stream:
            by_group.setdefault(row.group, []).append(f"{ratio:.2f}")
    lines += table(["loop", *map(str, STREAM_KIB)], [[group, *cells] for group, cells in by_group.items()])
    lines += ["", "Published bytes a cycle.", ""]
    published = [[f"{kind} m{lmul}", *map(str, rates)] for (kind, lmul), rates in STREAMS.items()]
    return [*lines, *table(["loop", *map(str, STREAM_KIB)], published), "", *_NOT_REACHED.splitlines(), ""]


_NOT_REACHED = """\
### What the model does not say

- Loops that read 48 and 64 KiB take twelve cycles a line longer than in L1, whatever they compute; from 192 KiB
  on it is three to five. The model charges one number everywhere: too fast just above L1's size.
- Copies of 8 and 16 KiB, which lie in L1 with their results, take a third longer than those of 24 KiB, which do
  not. Nothing in the model does.
- `f64 8x8 m1 u1`: its panel of 256 KiB and its rows share L2, and the board takes longer than for the same tile
  with twice the arithmetic. The model finds the panel in L2.
- How the vector length is read (`csrr`) explains what spilling costs in these kernels, with many reads and with
  few; that a reload waits for its store is not needed besides, and is not modelled. A kernel that spills without
  reading the vector length, and yet takes far longer than its loads, stores and FMAs, would show that it must be.
- In all published products the scalars of a step are loaded before its first FMA. That they do not overlap with
  FMAs then is the rule that the model has: one load or store a cycle, in order. Whether an FMA between two of them
  hides a load is not published: kernels that mix them may come out too fast.
"""


def _instructions(found: Found) -> list[str]:
    by_target: dict[str, list[Compared]] = {}
    for compared in found.instructions:
        by_target.setdefault(compared.published.target, []).append(compared)
    counts = [
        [
            target,
            str(len(its)),
            str(sum(abs(c.llvm / c.published.cycles - 1) > _WITHIN for c in its)),
            str(sum(abs(c.error) > _WITHIN for c in its)),
        ]
        for target, its in by_target.items()
    ]
    far = [
        [
            c.published.target,
            f"`{c.published.instruction}`",
            c.published.vtype,
            f"{c.published.cycles:g}",
            f"{c.llvm:.2f}",
            f"{c.modelled:.2f}",
        ]
        for c in found.instructions
        if abs(c.error) > _WITHIN
    ]
    return [
        "## Single instructions",
        "",
        "Cycles an instruction, of many that do not depend on each other. "
        f"How many are off by more than {_WITHIN:.0%}:",
        "",
        *table(["target", "published", "by LLVM's model", "with the target's corrections"], counts),
        "",
        "Those that still are:",
        "",
        *table(["target", "instruction", "", "published", "LLVM", "modelled"], far),
    ]
