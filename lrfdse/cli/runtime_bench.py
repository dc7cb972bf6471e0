"""``lrfdse bench --runtime``: whole models in the runtime that deploys them."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import typer

from lrfdse.base.text import clean
from lrfdse.cli.terminal import plain_table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rich.table import Table

    from lrfdse.board.transport import Transport
    from lrfdse.calibrate.runtime import RuntimeSession
    from lrfdse.results.designs import RuntimeFacts
    from lrfdse.results.document import Document
    from lrfdse.runtimes.program import RuntimeOptions

_RUNTIME = (
    "Wall clock of one inference in a row of them: the median of samples. x: how much faster than the original; cpu: "
    "processor time of one, of all threads; KiB: weights of the layers."
)


def complete_runtime(incomplete: str) -> list[str]:
    """Return the runtimes whose names begin with what was typed, for the shell's completion."""
    return [name for name in ("litert", "onnxruntime") if name.startswith(incomplete)]


def runtime_options(runtime: str, repeats: int | None, min_time: int | None, threads: int) -> RuntimeOptions:
    """Return how a runtime is timed; what is None is as by default (`min_time` in milliseconds).

    Raises
    ------
    InputError
        There is no such runtime.
    """
    from lrfdse.runtimes.program import RuntimeOptions, runtime_name

    options = RuntimeOptions(runtime_name(runtime), threads=threads)
    return dataclasses.replace(
        options,
        repeats=options.repeats if repeats is None else repeats,
        min_time=options.min_time if min_time is None else min_time,
    )


def bench_models(
    folder: Path, options: RuntimeOptions, way: Transport | None, timeout: float, cache: Path | None, as_json: bool
) -> None:
    """Time the original and the designs of a folder in a runtime and print what they took, a row each or as JSON.

    Parameters
    ----------
    folder
        The output folder of an exploration, whose reports are written again.
    options
        The runtime, and how it is timed.
    way
        How to reach the board; None times here.
    timeout
        Seconds that one model may take.
    cache
        The folder of stored results; None for the usual one.
    as_json
        Whether to print JSON.
    """
    from lrfdse.base.codec import to_plain
    from lrfdse.base.folders import cache_folder_at
    from lrfdse.calibrate.runtime import bench_runtime
    from lrfdse.cli.progress import listening
    from lrfdse.cli.terminal import console, print_table
    from lrfdse.explore.original import original_model
    from lrfdse.report.page.html import write_again

    with cache_folder_at(cache), listening() as progress:
        session = bench_runtime(folder, options, way, timeout, original_model, progress)
        write_again(folder)
    where = "this machine" if way is None else "board"
    timed = {identity: _runtime_facts(session, identity, options, where) for identity in session.timed}
    if as_json:
        typer.echo(json.dumps({identity: to_plain(facts) for identity, facts in timed.items()}, indent=1))
        return
    out = console()
    out.print(_runtime_title(timed[session.document.original.id]), soft_wrap=True)
    print_table(out, _runtime_table(session.document, timed))
    out.print()
    out.print(_RUNTIME, soft_wrap=True)


def _runtime_facts(session: RuntimeSession, identity: str, options: RuntimeOptions, where: str) -> RuntimeFacts:
    design = session.document.design(identity)
    assert design is not None
    kept = design.whole_model.runtimes
    return next(each for each in kept if (each.runtime, each.where) == (options.runtime, where))


def _runtime_title(facts: RuntimeFacts) -> str:
    whose = clean(f"{facts.package} {facts.version}".strip())
    threads = "1 thread" if facts.threads == 1 else f"{facts.threads} threads"
    return f"Whole models in {whose}, {threads}, {facts.where} ({clean(facts.machine)}), microseconds"


def _runtime_table(document: Document, timed: Mapping[str, RuntimeFacts]) -> Table:
    """Return what a runtime took for each whole model, the original first, in 80 columns."""
    from lrfdse.report.numbers import times_text, us_text

    first = timed[document.original.id]
    table = plain_table("", ["design"], ["KiB"])
    for name in (first.runtime, "quartiles", "x", "cpu"):
        table.add_column(name, justify="right", no_wrap=True)
    for identity, facts in timed.items():
        design = document.design(identity)
        assert design is not None
        mark = ">" if identity == document.recommended else " "
        name = "original" if identity == document.original.id else identity
        spread = f"{us_text(facts.latency.low_us)}..{us_text(facts.latency.high_us)}"
        faster = times_text(first.latency.us, facts.latency.us)
        cells = (us_text(facts.latency.us), spread, faster, "" if facts.cpu_us is None else us_text(facts.cpu_us))
        table.add_row(f"{mark} {name}", f"{design.weight_bytes / 1024:,.0f}", *cells)
    return table
