"""The commands for boards: run the kept designs there, and fit a target's assumptions to what came back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from lrfdse.board.result import BoardRun
    from lrfdse.calibrate.fit import Calibration
    from lrfdse.results.document import Document


def bench(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The output folder of an exploration.")],
    runner: Annotated[
        str,
        typer.Option(
            help="What runs a program on the board: 'ssh user@board' or RUNNER:TEXT (command{lrfdse.runners})."
        ),
    ],
    repeats: Annotated[int | None, typer.Option(min=1, max=1001, help="Samples of each kernel; default: 21.")] = None,
    min_time: Annotated[
        int | None, typer.Option(min=0, max=60000, help="Least milliseconds of a warm sample; default: 2.")
    ] = None,
    core: Annotated[int | None, typer.Option(min=0, max=8191, help="Processor to stay on; default: the last.")] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds for one design.")] = 600.0,
    cache: Annotated[
        Path | None, typer.Option(help="Where results are kept for later runs.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")] = False,
) -> None:
    """Run the kept designs of DIR on a board, write DIR/board.json, and add what it took to the reports."""
    from lrfdse.base.folders import cache_folder, cache_folder_at
    from lrfdse.board.result import board_line
    from lrfdse.board.transport import open_transport
    from lrfdse.calibrate.session import RECORD, BenchOptions
    from lrfdse.calibrate.session import bench as run
    from lrfdse.cli.progress import listening
    from lrfdse.cli.terminal import console
    from lrfdse.report.page.html import write_again

    way = open_transport(runner)
    with cache_folder_at(cache), listening() as progress:
        options = BenchOptions(repeats, min_time, core, timeout)
        document, runs = run(folder, way, options, cache_folder(), progress)
        write_again(folder)
    if as_json:
        typer.echo((folder / RECORD).read_text(encoding="utf-8"), nl=False)
        return
    out = console()
    out.print(_run_table(document, runs))
    out.print()
    out.print(f"Board: {board_line(runs[0].board)}", soft_wrap=True)
    out.print(str(folder / RECORD), soft_wrap=True)


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
    from lrfdse.cli.terminal import console
    from lrfdse.targets.catalog import load_target

    output = output or Path(f"{Path(target).stem if target.endswith('.toml') else target}-board.toml")
    check_target_path(output)
    machine = load_target(target)
    records = [read_record(path) for path in measured]
    found = fit(records, machine)
    write_target(found, target, records, output)
    out = console()
    out.print(_residual_table(found))
    out.print()
    out.print(_parameter_table(found))
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
    from lrfdse.report.numbers import times_text, us_text

    kind = document.meter.kind
    before = next((run.whole for run in runs if run.design == document.original.id), None)
    table = _table("Designs on the board", ["design"], ["params", f"latency, {kind}", "on the board", "quartiles", ""])
    designs = {design.id: design for design in document.every_design()}
    for run in sorted(runs, key=lambda run: -designs[run.design].charged.us):
        design, whole = designs[run.design], run.whole
        if whole is None:
            continue
        table.add_row(
            f"{'>' if run.design == document.recommended else ' '} {run.design}",
            f"{design.params:,}",
            f"{us_text(design.charged.us)} us",
            f"{us_text(whole.us)} us",
            f"{us_text(whole.low_us)}..{us_text(whole.high_us)}",
            "" if before is None else times_text(before.us, whole.us),
        )
    return table


def _residual_table(found: Calibration) -> Table:
    from lrfdse.report.numbers import us_text

    table = _table("Kernels", ["layer", "kernel", "regime"], ["measured (us)", "modelled", "error", "fitted", "error"])
    for each in found.residuals:
        table.add_row(
            each.layer,
            str(each.kernel[0]),
            each.regime,
            us_text(each.measured_us),
            us_text(each.before_us),
            f"{each.before_us / each.measured_us - 1:+.1%}",
            us_text(each.after_us),
            f"{each.after_us / each.measured_us - 1:+.1%}",
        )
    return table


def _parameter_table(found: Calibration) -> Table:
    table = _table("Assumptions", ["assumption"], ["was", "now", "standard error"], [""])
    for each in found.parameters:
        error = "" if each.standard_error is None else f"{each.standard_error:.1%}"
        held = f"held: {each.held}" if each.held else "fitted"
        table.add_row(each.name, f"{each.before:.6g}", f"{each.after:.6g}", error, held)
    return table


def _table(title: str, texts: Sequence[str], numbers: Sequence[str], last: Sequence[str] = ()) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for names, justify in ((texts, "left"), (numbers, "right"), (last, "left")):
        for name in names:
            table.add_column(name, justify="right" if justify == "right" else "left", no_wrap=True)
    return table
