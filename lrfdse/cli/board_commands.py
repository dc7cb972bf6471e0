"""The commands for boards: run the kept designs there, and fit a target's assumptions to what came back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lrfdse.base.text import clean
from lrfdse.cli.runtime_bench import bench_models, complete_runtime, runtime_options
from lrfdse.cli.terminal import plain_table
from lrfdse.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from lrfdse.board.result import BoardRun, WholeRun
    from lrfdse.board.transport import Transport
    from lrfdse.calibrate.fit import Calibration
    from lrfdse.calibrate.programs import BenchOptions
    from lrfdse.ir.latency import Latency
    from lrfdse.results.designs import DesignFacts
    from lrfdse.results.document import Document

_KERNEL_COLUMNS = 26
"""Columns of a table for a kernel's name or a sentence: the numbers beside it leave so many of 80."""
_TIME_COLUMNS = 8
"""Columns of a time: the widest word above one is "modelled"."""
_SPEED_UP = (
    "x: how much faster than the original. board: all kernels in turn, over and over; cold: caches emptied before each."
)


def bench(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The output folder of an exploration.")],
    runner: Annotated[
        str | None,
        typer.Option(
            help="What runs a program on the board: 'ssh user@board' or RUNNER:TEXT (command{lrfdse.runners})."
        ),
    ] = None,
    repeats: Annotated[int | None, typer.Option(min=1, max=1001, help="Samples of each kernel; default: 21.")] = None,
    min_time: Annotated[
        int | None, typer.Option(min=0, max=60000, help="Least milliseconds of a warm sample; default: 2.")
    ] = None,
    core: Annotated[int | None, typer.Option(min=0, max=8191, help="Processor to stay on; default: the last.")] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds for one design.")] = 600.0,
    allow_emulator: Annotated[
        bool, typer.Option("--allow-emulator", help="Try kernels and runner under QEMU; no latency comes of it.")
    ] = False,
    whole: Annotated[
        bool, typer.Option("--whole", help="Run the libraries of whole models, operator by operator.")
    ] = False,
    runtime: Annotated[
        str | None,
        typer.Option(
            help="Time whole models in litert or onnxruntime: here, or on a board with it and Python.",
            autocompletion=complete_runtime,
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="Threads of --runtime.")] = 1,
    cache: Annotated[
        Path | None, typer.Option(help="Where results are kept for later runs.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")] = False,
) -> None:
    """Run the kept designs of DIR on a board, write DIR/board.json, and add what it took to the reports."""
    from lrfdse.base.folders import cache_folder, cache_folder_at
    from lrfdse.board.result import board_line
    from lrfdse.board.transport import open_transport
    from lrfdse.calibrate.emulation import emulated_document
    from lrfdse.calibrate.programs import BenchOptions
    from lrfdse.calibrate.session import RECORD
    from lrfdse.calibrate.session import bench as run
    from lrfdse.cli.progress import listening
    from lrfdse.cli.terminal import console, print_table
    from lrfdse.explore.export import export_program
    from lrfdse.report.page.html import write_again

    if runtime is not None:
        if whole or allow_emulator or core is not None:
            raise InputError(
                "--runtime times a model's file: it goes with none of --whole, --allow-emulator and --core"
            )
        asked = runtime_options(runtime, repeats, min_time, threads)
        bench_models(folder, asked, None if runner is None else open_transport(runner), timeout, cache, as_json)
        return
    if runner is None:
        raise InputError("bench takes --runner, which runs programs on a board, or --runtime, which runs models here")
    way = open_transport(runner)
    if whole:
        _bench_whole(folder, way, BenchOptions(repeats, min_time, core, timeout, allow_emulator), cache, as_json)
        return
    with cache_folder_at(cache), listening() as progress:
        options = BenchOptions(repeats, min_time, core, timeout, allow_emulator)
        session = run(folder, way, options, cache_folder(), progress, export_program)
        if not session.emulator:
            write_again(folder)
    document, runs = session.document, session.runs
    if as_json:
        if session.emulator:
            typer.echo(json.dumps(emulated_document(runs, document.target.name, session.emulator), indent=1))
        else:
            typer.echo((folder / RECORD).read_text(encoding="utf-8"), nl=False)
        return
    out = console()
    print_table(out, _emulated_table(document, runs) if session.emulator else _run_table(document, runs))
    out.print()
    if session.emulator:
        out.print(f"Emulated, not a latency: {session.emulator}. Nothing was written.", soft_wrap=True)
        return
    out.print(_SPEED_UP, soft_wrap=True)
    out.print(f"Board: {board_line(runs[0].board)}", soft_wrap=True)
    out.print(str(folder / RECORD), soft_wrap=True)


def _bench_whole(folder: Path, way: Transport, options: BenchOptions, cache: Path | None, as_json: bool) -> None:
    from lrfdse.base.codec import to_plain
    from lrfdse.base.folders import cache_folder_at
    from lrfdse.board.result import board_line
    from lrfdse.calibrate.whole import bench_whole
    from lrfdse.cli.progress import listening
    from lrfdse.cli.terminal import console, print_table
    from lrfdse.explore.whole_program import whole_program
    from lrfdse.report.page.html import write_again

    with cache_folder_at(cache), listening() as progress:
        session = bench_whole(folder, way, options, whole_program, progress)
        if not session.emulator:
            write_again(folder)
    if as_json:
        told = {"emulator": session.emulator, "runs": [to_plain(run) for run in session.runs]}
        typer.echo(json.dumps(told, indent=1))
        return
    out = console()
    for run in session.runs:
        design = session.document.design(run.design)
        assert design is not None
        print_table(out, _whole_table(run, design, bool(session.emulator)))
        out.print()
    if session.emulator:
        out.print(f"Emulated, not a latency: {session.emulator}. Nothing was written.", soft_wrap=True)
        return
    out.print(f"Board: {board_line(session.runs[0].board)}", soft_wrap=True)


def _whole_table(run: WholeRun, design: DesignFacts, emulated: bool) -> Table:
    """Return the operators of a whole model with what the meter says and what the board took, in 80 columns."""
    from lrfdse.report.numbers import us_text

    cost = design.whole_model
    took = "emulated" if emulated else "board"
    title = f"Whole model {run.design}, microseconds, largest error {run.max_error:.1e}"
    table = plain_table(f"{title}; emulated, not a latency" if emulated else title, [], [])
    table.add_column("operator", max_width=_KERNEL_COLUMNS, overflow="fold")
    for name in (str(cost.kind), took, f"cold\n{took}", "share"):
        table.add_column(name, justify="right", no_wrap=True, min_width=_TIME_COLUMNS)
    for operator, (warm, cold) in zip(cost.operators, run.parts[1:], strict=True):
        said = _us(operator.latency.warm)
        share = f"{warm.us / run.warm.us:.0%}" if run.warm.us else ""
        cells = ("" if said is None else us_text(said), us_text(warm.us), us_text(cold.us), share)
        table.add_row(clean(f"{operator.op} {operator.name}".strip()), *cells)
    said = _us(cost.latency.warm)
    table.add_row("all", "" if said is None else us_text(said), us_text(run.warm.us), us_text(run.cold.us), "")
    return table


def calibrate(
    target: Annotated[str, typer.Option("--target", "-t", help="What the designs were explored for.")],
    measured: Annotated[list[Path], typer.Option(help="A board.json; may be repeated.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The target file to write; default: TARGET-board.toml.")
    ] = None,
) -> None:
    """Fit a target's clock and bandwidths to measurements on a board, and write a target file of your own."""
    from lrfdse.calibrate.fit import calibrate as fit
    from lrfdse.calibrate.record import read_record
    from lrfdse.calibrate.target_file import check_target_path, write_target
    from lrfdse.cli.terminal import console, print_table
    from lrfdse.targets.catalog import load_target

    output = output or Path(f"{Path(target).stem if target.endswith('.toml') else target}-board.toml")
    check_target_path(output)
    machine = load_target(target)
    records = [read_record(path) for path in measured]
    found = fit(records, machine)
    write_target(found, target, records, output)
    out = console()
    print_table(out, _residual_table(found))
    out.print()
    print_table(out, _parameter_table(found))
    out.print()
    if found.scale is not None:
        out.print(f"Scale: {found.scale:.3f}, the board's own clock over the fitted one.", soft_wrap=True)
    for note in found.notes:
        out.print(f"Note: {note}", soft_wrap=True)
    out.print(
        f"Median absolute error of the modelled latency: {found.error_before:.1%} before, "
        f"{found.error_after:.1%} after.",
        soft_wrap=True,
    )
    out.print(str(output), soft_wrap=True)


def _run_table(document: Document, runs: Sequence[BoardRun]) -> Table:
    """Return what is modelled beside what the board took, each with its factor below the original, in 80 columns."""
    from lrfdse.report.numbers import times_text, us_text

    measured = {run.design: run for run in runs}
    before = document.original
    kind = document.meter.kind
    table = plain_table("Designs on the board (microseconds)", ["design"], ["KiB"])
    for name in (kind, "board", f"cold\n{kind}", "cold\nboard"):
        table.add_column(name, justify="right", no_wrap=True, min_width=_TIME_COLUMNS)
        table.add_column("", justify="right", no_wrap=True)
    for design in document.every_design():
        if (run := measured.get(design.id)) is None or run.whole is None:
            continue
        first = measured.get(before.id)
        cells: list[str] = []
        for value, reference in (
            (design.charged.us, before.charged.us),
            (run.whole.us, None if first is None or first.whole is None else first.whole.us),
            (_us(design.latency.cold), _us(before.latency.cold)),
            (_cold(run), None if first is None else _cold(first)),
        ):
            cells.append("" if value is None else us_text(value))
            cells.append("" if value is None or reference is None else times_text(reference, value))
        mark = ">" if design.id == document.recommended else " "
        table.add_row(f"{mark} {design.id}", f"{design.weight_bytes / 1024:,.0f}", *cells)
    return table


def _emulated_table(document: Document, runs: Sequence[BoardRun]) -> Table:
    from lrfdse.report.numbers import us_text

    table = plain_table("Designs under an emulator", ["design"], ["largest error", "emulated, not a latency"])
    for run in runs:
        mark = ">" if run.design == document.recommended else " "
        error = max((kernel.max_error for kernel in run.kernels), default=0.0)
        table.add_row(
            f"{mark} {run.design}", f"{error:.1e}", "" if run.whole is None else f"{us_text(run.whole.us)} us"
        )
    return table


def _us(latency: Latency | None) -> float | None:
    return None if latency is None else latency.us


def _cold(run: BoardRun) -> float:
    """Return what the kernels took with caches emptied before each, microseconds: a sum of medians."""
    return sum(kernel.cold.us for kernel in run.kernels)


def _residual_table(found: Calibration) -> Table:
    """Return a row a kernel, its cache regimes below each other, in 80 columns."""
    from lrfdse.report.numbers import us_text

    numbers = ["measured", "modelled", "error", "fitted", "error"]
    table = plain_table("Kernels (microseconds)", [], [])
    table.add_column("kernel", max_width=_KERNEL_COLUMNS, overflow="fold")
    table.add_column("")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    same: dict[tuple[str, str], list[tuple[str, ...]]] = {}
    for each in found.residuals:
        cells = (
            each.regime,
            us_text(each.measured_us),
            us_text(each.before_us),
            f"{each.before_us / each.measured_us - 1:+.1%}",
            us_text(each.after_us),
            f"{each.after_us / each.measured_us - 1:+.1%}",
        )
        same.setdefault((each.layer, str(each.kernel[0])), []).append(cells)
    for (layer, kernel), regimes in same.items():
        table.add_row(f"{layer}: {kernel}", *("\n".join(column) for column in zip(*regimes, strict=True)))
    return table


def _parameter_table(found: Calibration) -> Table:
    table = plain_table("Assumptions", ["assumption"], ["was", "now", "error"])
    table.add_column("", overflow="fold", max_width=_KERNEL_COLUMNS)
    for each in found.parameters:
        error = "" if each.standard_error is None else f"{each.standard_error:.1%}"
        held = f"held: {each.held}" if each.held else "fitted"
        table.add_row(each.name, f"{each.before:.6g}", f"{each.after:.6g}", error, held)
    return table
