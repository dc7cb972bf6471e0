"""Our kernels against those of others: writes results/kernels.md, and results/kernels_host.md of the machine at hand.

Layers of known models, each dense, as SVD at 4x, and as tensor trains of two and of three cores near 8x. Every peer
gets the same weights and inputs as a function of plain C pointers (or, on the host, also through its own runtime);
each output is checked against float64. On emulated targets the latency is modelled (docs/meter.md) and the executed
instruction count stands beside it; on the host all peers of a case take turns on one core.

``--quick`` takes six layers at one row, on the SpacemiT X60 and on the host, with all peers and all of IREE's variants.
The full run does that first, to find IREE's two best variants for each of the two, and goes on with them. ``--small``
takes the same layers at one row on all targets; ``--target``, ``--peer`` and ``--iree`` say on which, with whom, and
with which of IREE's variants. Finished rows are kept in a file, so a run that was ended goes on where it was, and
``--kept`` writes the page of what several runs have made. A row that takes more than 60 s is "too slow".

Needs: pip install 'lrfdse[bench-kernels]', and apt-get install qemu-user llvm-22 clang-19 libpolly-19-dev.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from benchmarks.kernels.layers import LAYERS, QUICK, Case, cases, named
from benchmarks.kernels.peaks import measure_peaks
from benchmarks.kernels.peers import DIRECT, GROUPS, Peer, missing, peers
from benchmarks.kernels.report import write_pages
from benchmarks.kernels.rows import RowCache
from benchmarks.kernels.running import Bench, best_variants
from benchmarks.kernels.table import Result
from benchmarks.program import parser
from lrfdse.base.folders import cache_folder
from lrfdse.targets.catalog import load_target
from lrfdse.targets.target import Target

EMULATED = ("riscv64", "riscv64-u74", "riscv64-p670", "riscv64-x280", "aarch64", "aarch64-a55")
QUICK_EMULATED = ("riscv64",)
MORE_ROWS = 8


def host_target() -> Target:
    """Return the target of the machine at hand, with the widest vectors that it has."""
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    return load_target("host-avx512" if " avx512f " in flags and " avx512vl " in flags else "host")


def arguments() -> argparse.Namespace:
    """Return what was asked on the command line."""
    asked = parser("kernels", __doc__)
    asked.add_argument("--quick", action="store_true", help="six layers at one row, on X60 and host")
    asked.add_argument("--small", action="store_true", help="the layers of --quick at one row, on all targets")
    asked.add_argument("--target", action="append", help="only this target (repeatable)")
    asked.add_argument("--layer", action="append", help="only this layer, by name (repeatable)")
    asked.add_argument("--peer", action="append", choices=GROUPS, help="only this beside ours (repeatable)")
    asked.add_argument(
        "--iree",
        action="append",
        choices=[peer.variant for peer in DIRECT],
        help="this variant of IREE instead of its default and the two that are best in the quick run (repeatable)",
    )
    asked.add_argument("--kept", action="store_true", help="write the modelled rows that are finished, make none")
    asked.add_argument("--one-row", action="store_true", help="leave out the cases of eight rows")
    asked.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes that compile and emulate")
    asked.add_argument("--cache", type=Path, default=cache_folder() / "bench" / "kernels.jsonl", help="finished rows")
    return asked.parse_args()


def main() -> None:
    options = arguments()
    own = host_target()
    wanted = [load_target(name) for name in (QUICK_EMULATED if options.quick else EMULATED)] + [own]
    if unknown := sorted(set(options.target or ()) - {target.name for target in wanted}):
        sys.exit(f"no such target here: {', '.join(unknown)}; choose from {', '.join(t.name for t in wanted)}")
    wanted = [target for target in wanted if options.target is None or target.name in options.target]
    wanted = [target for target in wanted if not (options.kept and target.is_native)]
    layers = named(options.layer) if options.layer else named(QUICK) if options.small else list(LAYERS)
    small = [layer for layer in layers if layer.name in QUICK]
    for target in wanted:
        for peer in peers(target, groups=options.peer):
            if why := missing(peer):
                print(f"{target.name}, {peer.name}: not available: {why}", file=sys.stderr)
    peaks = measure_peaks(own) if own in wanted else None
    bench = Bench(RowCache(options.cache), options.jobs, options.peer, options.kept)
    chosen = tuple(peer for peer in DIRECT if options.kept or peer.variant in (options.iree or ()))

    def run(target: Target, listed: Iterable[Case], direct: tuple[Peer, ...]) -> list[Result]:
        if target.is_native:
            assert peaks is not None
            return bench.host(target, list(listed), direct, peaks)
        return bench.emulated(target, list(listed), direct)

    try:
        searching = not chosen and (options.peer is None or "IREE" in options.peer)
        first = [*map(load_target, QUICK_EMULATED), *([own] if own in wanted else [])] if searching else []
        first = wanted if options.quick else first
        quick = {target.name: run(target, cases(small, 1), chosen or DIRECT) for target in first}
        if options.quick:
            results = [result for listed in quick.values() for result in listed]
            write_pages(results, peaks, {}, "quick run", options.out)
            return
        results, variants = [], {}
        one_row = options.one_row or options.small
        every = [*cases(layers, 1), *(() if one_row else cases(small, MORE_ROWS))]
        what = f"{len(layers)} layers at one row"
        what += "" if one_row else f", {len(small)} of them at {MORE_ROWS} rows too"
        what += "; peers without a row were not run" if options.kept else ""
        for target in wanted:
            like = quick.get(own.name if target.is_native else QUICK_EMULATED[0])
            direct = best_variants(like) if like else chosen
            known = quick.get(target.name, [])
            done = {r.case for r in known}
            found = {r.case: r for r in (*known, *run(target, [case for case in every if case not in done], direct))}
            results += [found[case] for case in every if case in found]
            took_part = [peer for peer in direct if any(peer.name in result.rows for result in found.values())]
            variants[target.name] = [peer.variant for peer in took_part]
            write_pages(results, peaks, variants, what, options.out)
    finally:
        bench.close()


if __name__ == "__main__":
    main()
