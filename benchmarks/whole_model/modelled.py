"""The part of the page that the model meter says: what whole models take on `riscv64`."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.records import Record
from benchmarks.results import table
from benchmarks.whole_model.kinds import DENSE, geometric_mean, kinds, ms, percent, slowest
from benchmarks.whole_model.rows import DEPTHWISE

GOAL = 0.75
"""Share of their bound that dense products are to reach on `riscv64`. Chosen."""


def modelled(rows: Sequence[Record]) -> list[str]:
    if not rows:
        return []
    found = []
    for row in rows:
        if "meter_failure" in row:
            found.append([row["model"], "see below", *[""] * 12])
            continue
        dense, depthwise = kinds(row, *DENSE), kinds(row, DEPTHWISE)
        first = slowest(row, 1)[0]
        found.append(
            [
                row["model"],
                ms(row["warm_us"] / 1e3),
                ms(row["cold_us"] / 1e3),
                percent(dense.share),
                percent(dense.bound),
                percent(depthwise.share),
                percent(depthwise.bound),
                f"{first['kind']} {kinds(row, first['kind']).share:.0%}",
                f"{row['instructions'] / 1e6:,.2f}",
                f"{row['iree_instructions'] / 1e6:,.2f}" if "iree_instructions" in row else "",
                f"{row['instructions'] / row['iree_instructions']:.2f}" if "iree_instructions" in row else "",
                f"{row['code_bytes'] / 1e3:,.0f}",
                f"{row['iree_text_bytes'] / 1e3:,.0f}" if "iree_text_bytes" in row else "",
                f"{row['meter_seconds']:.0f}",
            ]
        )
    heads = ["model", "warm ms", "cold ms", "dense", "of its bound", "depthwise", "of its bound", "kind of the slowest"]
    heads += ["million instructions", "IREE's", "ours / IREE", "kB of code", "IREE's", "meter s"]
    return [
        f"## Modelled latency ({rows[0]['target']})",
        "",
        "By the model meter, from one run of the whole library under QEMU: modelled, not measured. `meter s`:",
        "processor seconds that it took, with operators compiled before. `dense`: share of the time in fully-connected",
        "layers, 1x1 convolutions and others that are not depthwise; `of its bound`: the least that these same",
        "operators can take (FMAs at the peak rate, inputs, weights and outputs moved once: `operator_bound_cycles` of",
        "`lrfdse/kernels/bounds.py`) as a share of what they take. The same of depthwise convolutions, whose bound",
        "counts FMAs although they load as much as they multiply. `kind of the slowest`: what the slowest operator is,",
        "and the share of all of its kind. IREE's instructions are those of its dispatch functions, called as its own",
        "runtime would, of the better of two sets of flags; what packs weights at the start is not among them.",
        "",
        *table(heads, found),
        "",
        *_reached(rows),
        *_fewer(rows),
        *_wasting(rows),
    ]


def _reached(rows: Sequence[Record]) -> list[str]:
    """Return how many models reach the goal of their dense products, and what all of these do together."""
    whole = [row for row in rows if "parts" in row and kinds(row, *DENSE).bound is not None]
    if not whole:
        return []
    shares = [share for row in whole if (share := kinds(row, *DENSE).bound) is not None]
    every = kinds({"parts": [part for row in whole for part in row["parts"]]}, *DENSE)
    return [
        f"Dense products reach {GOAL:.0%} of their bound in {sum(share >= GOAL for share in shares)} of {len(shares)} "
        f"models; {percent(every.bound)} over all by time, {percent(statistics.median(shares))} in the median.",
        "",
    ]


def _wasting(rows: Sequence[Record], most: int = 12) -> list[str]:
    """Return the table of the products that are farthest from their bound, by the share of their model's time."""
    lost = []
    for row in rows:
        total = sum(each["us"] for each in row.get("parts", ()))
        products = [each for each in row.get("parts", ()) if each["kind"] in (*DENSE, DEPTHWISE)]
        lost += [((each["us"] - each["least_us"]) / total, row["model"], each) for each in products]
    lost.sort(key=lambda each: -each[0])
    found = [
        [
            model,
            each["kind"],
            each["nodes"][0] if each["nodes"] else "",
            f"{each['us']:,.0f}",
            f"{each['least_us']:,.0f}",
            f"{share:.0%}",
            each["schedule"],
        ]
        for share, model, each in lost[:most]
    ]
    heads = ["model", "operator", "first node", "us", "bound us", "share of the model lost", "schedule"]
    return [
        "The products and convolutions that lose the largest share of their model's time to their bound:",
        "",
        *table(heads, found),
        "",
    ]


def _fewer(rows: Sequence[Record]) -> list[str]:
    ratios = [row["instructions"] / row["iree_instructions"] for row in rows if "iree_instructions" in row]
    if not ratios:
        return []
    return [f"Instructions over IREE's: geometric mean {geometric_mean(ratios):.2f} of {len(ratios)} models.", ""]
