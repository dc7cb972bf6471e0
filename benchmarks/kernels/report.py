"""Writing results/kernels.md and the numbers behind it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from benchmarks.kernels.peaks import Peaks
from benchmarks.kernels.table import GOALS, Result, document, reasons, target_section
from benchmarks.machine import described, machine
from benchmarks.results import write
from lrfdse.targets.catalog import load_target
from lrfdse.targets.target import Target


def write_pages(
    results: Sequence[Result], peaks: Peaks | None, variants: dict[str, list[str]], about: str, out: Path
) -> None:
    """Write the tables and the numbers behind them: modelled and measured targets on a page each."""
    facts = machine("apache-tvm", "onnxruntime", "ziglang", "iree-base-compiler", "ai-edge-litert")
    targets = {name: load_target(name) for name in dict.fromkeys(result.target for result in results)}
    for page, is_native in (("kernels", False), ("kernels_host", True)):
        mine = [result for result in results if targets[result.target].is_native == is_native]
        if not mine:
            continue
        named = {name: listed for name, listed in variants.items() if targets[name].is_native == is_native}
        data = {
            "machine": facts,
            "run": about,
            "peaks": dataclasses.asdict(peaks) if is_native and peaks else None,
            "iree_variants": named,
            "cases": [document(result) for result in mine],
        }
        beside = [] if is_native else ["Those that were timed on x86-64 are in [kernels_host.md](kernels_host.md).", ""]
        head = [*_HEAD, *(_RUNTIMES if is_native else []), *_LEGEND, *beside]
        lines = [_TITLE[is_native], "", *head, f"This table: {about}.", *_variants(named), "", described(facts), ""]
        for name in dict.fromkeys(result.target for result in mine):
            target = targets[name]
            goals = GOALS.get("host" if is_native else name, ())
            lines += target_section(_title(target), _note(target, peaks), [r for r in mine if r.target == name], goals)
        lines += ["## Rows without a number", "", *(reasons(mine) or ["None."]), ""]
        write(out, page, lines, data)


_TITLE = {False: "# Kernels against those of others", True: "# Kernels against those of others, on the host"}

_HEAD = [
    "Written by `python -m benchmarks.kernels`. Latency of one call with the weights just used. Every output was",
    "checked against float64. Forms: the dense layer; `svd` at 4x; `tt2` and `tt3`, tensor trains of two and three",
    "cores near 8x, of the family of the reference method (no unit modes, equal ranks) the ones with the fewest FLOPs.",
    "",
    "- IREE: its kernels called directly from C, without its runtime. Default flags take the model as Reshape, MatMul,",
    "  Transpose; the best is, for each case after the fact, the fastest of those that took part of {einsum, matmul,",
    "  broadcast} x {default, O2, O3 + data tiling, + microkernels}.",
    "- TVM: its default Relax pipeline, no schedules; the fastest of the same three forms.",
    "- clang, Polly, Pluto: the reference paper's einsum loops in C (`-O3 -ffast-math`), by zig's clang, by clang 19",
    "  with Polly, rewritten by Pluto where `polycc` is installed. plain C: matrix products without transposes, by",
    "  zig's clang.",
]
_RUNTIMES = [
    "- IREE runtime (iree-benchmark-module, default flags), onnxruntime, LiteRT, NumPy: one thread, called as a user",
    "  calls them; a call of the last three goes through Python. The fastest of the forms that each was given.",
]
_LEGEND = [
    "- `(2.00x)`: twice as long as ours. `c` and `m` after a share: bound by FMAs or by memory. In the memory's bound",
    "  are the weights, not the results. †: the weights exceed the last-level cache; where by little, a",
    "  part stays there from call to call, and a share may exceed 100 %. ‡: they fit, but not with inputs and outputs:",
    "  the case counts in no mean. –: no number, the reasons are at the end.",
    "",
]


def _variants(variants: dict[str, list[str]]) -> list[str]:
    """Say which of IREE's variants take part where not all do."""
    targets: dict[str, list[str]] = {}
    for name, chosen in variants.items():
        if chosen:
            targets.setdefault(", ".join(chosen), []).append(name)
    if not targets:
        return []
    return [
        "",
        "IREE took part with these variants, or with all of them in the layers of a quick run (`--help`):",
        "",
        *(f"- {', '.join(names)}: {chosen}" for chosen, names in targets.items()),
    ]


def _title(target: Target) -> str:
    return f"{target.name}: {'wall clock' if target.is_native else 'modelled'}"


def _note(target: Target, peaks: Peaks | None) -> str:
    if not target.is_native:
        return (
            f"{target.summary}. Latency is modelled (docs/meter.md), in "
            f"microseconds at {target.clock_mhz:g} MHz, with thousands of executed instructions."
        )
    assert peaks is not None
    rates = ", ".join(f"{size >> 10} KiB {rate:.0f}" for size, rate in peaks.read_bytes_per_ns[1::3])
    return (
        "Median of rounds in which all peers of a case take turns on one core. Measured peaks: "
        f"{peaks.fma_per_ns:.1f} FMA/ns; reads in byte/ns by size: {rates}. "
        f"Last-level cache: {peaks.last_level_bytes >> 20} MiB."
    )
