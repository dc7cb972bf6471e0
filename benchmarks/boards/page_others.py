"""The parts of results/boards.md about other cores than the X60, and about whole models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.boards.instructions import Compared
from benchmarks.boards.models import SOURCE as MODELS_SOURCE
from benchmarks.boards.models import Predicted
from benchmarks.boards.others import SOURCE, Modelled
from benchmarks.results import table

_GOAL = 0.25
"""How far streams and FMAs of other cores may be off: the goal that was set before they were compared."""

_FMAS = ("vfmacc.vv", "fmla v{}.4s, v30.4s, v31.4s", "vfma.f32 q")
"""How the FMA of a whole register begins in each instruction set."""

_WHOLE = ("", "e32m1")


def others_section(others: Sequence[Modelled]) -> list[str]:
    """Return the streams of other cores."""
    rows = [
        [
            m.stream.target,
            m.stream.kind,
            m.stream.board,
            f"{m.published:.2f}",
            f"{m.modelled:.2f}",
            f"{m.published / m.modelled:.2f}",
        ]
        for m in others
    ]
    within = sum(abs(m.published / m.modelled - 1) <= _GOAL for m in others)
    return [
        "## Other cores: streams in DRAM",
        "",
        f"{SOURCE}. Bytes a cycle. Within {_GOAL:.0%}: {within} of {len(others)}.",
        "The targets' bandwidths were set to these rates: agreement says that the rules of the model put a loop's",
        "parts together as the boards do, not that it predicts them.",
        "",
        *table(["target", "loop", "board", "published", "modelled", "modelled / published (time)"], rows),
        "",
    ]


def peaks_section(instructions: Sequence[Compared]) -> list[str]:
    """Return how fast float32 FMAs of whole registers follow each other, published and modelled."""
    peaks = [
        compared
        for compared in instructions
        if compared.published.instruction.startswith(_FMAS) and compared.published.vtype in _WHOLE
    ]
    rows = [
        [
            c.published.target,
            f"`{c.published.instruction}`",
            c.published.source,
            f"{c.published.cycles:g}",
            f"{c.modelled:.2f}",
            f"{c.modelled / c.published.cycles:.2f}",
        ]
        for c in peaks
    ]
    within = sum(abs(c.error) <= _GOAL for c in peaks)
    return [
        "## Peak FMA",
        "",
        f"Cycles from one FMA of a whole vector register to the next. Within {_GOAL:.0%}: {within} of {len(peaks)}.",
        "",
        *table(["target", "instruction", "source", "published", "modelled", "modelled / published"], rows),
        "",
        "Not in the table: the SiFive U74 and P550, whose FMAs nobody published a measurement of (the target says one",
        "scalar FMA a cycle for the U74, as its vendor does), and the P670, of which no board is sold.",
        "",
    ]


def models_section(models: Sequence[Predicted]) -> list[str]:
    """Return the whole models."""
    rows = [
        [
            p.timed.model,
            p.timed.target,
            f"{p.timed.board}, {p.timed.clock_mhz:g} MHz",
            p.timed.runtime,
            p.timed.arithmetic,
            str(p.timed.threads),
            f"{p.timed.milliseconds:.1f}",
            f"{p.modelled:.1f}",
            f"{p.ratio:.2f}",
        ]
        for p in models
    ]
    alike = [p for p in models if p.timed.is_like]
    ratios = [p.ratio for p in alike]
    cores = ", ".join(
        f"`{target}` {float(np.median([p.ratio for p in alike if p.timed.target == target])):.2f}"
        for target in dict.fromkeys(p.timed.target for p in alike)
    )
    heads = ["model", "target", "board", "runtime", "arithmetic", "threads", "published ms", "our library, modelled ms"]
    return [
        "## Whole models",
        "",
        f"{MODELS_SOURCE}. The first published times of whole models on these cores, beside what the",
        "meter says of the library that `lrfdse build` makes of the same architecture (224x224, batch 1, float32, one",
        "core; at the board's clock, DRAM's nanoseconds kept). **Code of others is compared with code of ours**: a",
        "ratio holds the error of the model and what one code is better than the other.",
        "",
        *table([*heads, "modelled / published"], rows),
        "",
        f"Like for like are {len(alike)} rows: float32, one core, the same arithmetic but for a convolution of 4 %",
        "that ncnn's MobileNetV2 has besides, and the weights of last layers, which ncnn keeps as float16. There the",
        f"ratio is {float(np.median(ratios)):.2f} in the median, {min(ratios):.2f} to {max(ratios):.2f}.",
        f"By core: {cores}. The code of either side is nearly the same on all cores of one instruction",
        "set: what their ratios differ by is mostly the error of the model, and whoever compares two cores by it must",
        "expect as much. The Cortex-A7 (`armv7`) has no model of its own at LLVM, and its stand-in is the likely",
        "reason.",
        "",
        "The others say less. ncnn on the A55 and both runtimes on the X60 compute in float16, with twice the lanes",
        "and half the bytes. Of ncnn on the X60 only times of eight threads were published.",
        "",
        "Not predicted: networks of 3x3 convolutions such as ResNet-18 (ncnn takes Winograd's algorithm, which does",
        "less than half of the multiplications), int8 models (our kernels are float32), ViT-B/16, AlexNet and",
        "SqueezeNet (no architecture here), MLPerf Tiny's anomaly detection (published for Cortex-M7 and M4, Andes",
        "D25, D45 and NX27V, of which there are no targets), the U74 (published of four threads only), and IREE's and",
        "OpenBLAS's products on the X60 (published as GFLOP/s only: what their loops are is not said).",
        "",
    ]
