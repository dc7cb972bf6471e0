"""The model meter against published measurements of real boards: writes results/boards.md.

Others measured loops, matrix products and single instructions on boards and published what they took. Programs of our
own writing that are shaped like them are run under the emulator, and what the model meter says is held against that.
Whole models that others timed are built as libraries and modelled, too.
What was counted is kept in ``raw/boards.jsonl``: a later run counts only what has changed.

Needs: apt-get install qemu-user llvm-22.
"""

from __future__ import annotations

import dataclasses
import sys

from benchmarks.boards import fit
from benchmarks.boards.instructions import compare, published
from benchmarks.boards.models import predictions
from benchmarks.boards.others import STREAMS, modelled
from benchmarks.boards.page import KINDS, Found, errors, page_of, ranks
from benchmarks.boards.readings import readings
from benchmarks.boards.run import rows
from benchmarks.machine import machine
from benchmarks.program import parser
from benchmarks.records import Records
from benchmarks.results import write
from lrfdse.errors import LrfdseError
from lrfdse.targets.catalog import load_target
from lrfdse.toolchain.programs import require_emulator, require_llvm

_TARGET = "riscv64"


def say(text: str) -> None:
    """Tell how far the run is."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    options = parser("boards", __doc__).parse_args()
    target = load_target(_TARGET)
    records = Records(options.out / "raw" / "boards.jsonl")
    counted = rows(target, records, say)
    say("fitting, each loop and tile left out once")
    values = fit.values(target)
    about = machine("ziglang") | {
        "qemu": require_emulator(target).version,
        "llvm": require_llvm("llvm-mca").version,
    }
    found = Found(
        about,
        counted,
        [fit.modelled(row, target, values) / row.published for row in counted],
        fit.left_out(counted, target),
        values,
        fit.fit(counted, target),
        readings(),
        compare(published()),
        [modelled(stream) for stream in STREAMS],
        predictions(records, say),
    )
    numbers = {
        "about": about,
        "summary": {name: [dataclasses.asdict(each) for each in errors(found, which)] for name, which in KINDS.items()},
        "spearman": ranks(found),
        "rows": [
            {"name": row.name, "published_cycles": row.published, "modelled_over_published": ratio, "left_out": unseen}
            for row, ratio, unseen in zip(found.rows, found.shipped, found.unseen, strict=True)
        ],
        "models": [{**dataclasses.asdict(each.timed), "modelled_milliseconds": each.modelled} for each in found.models],
    }
    write(options.out, "boards", page_of(found), numbers)
    say(f"wrote {options.out / 'boards.md'}")


if __name__ == "__main__":
    try:
        main()
    except LrfdseError as error:
        sys.exit(str(error))
