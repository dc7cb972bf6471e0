"""What a finished exploration prints, and the command that prints it again, under other limits too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from lrfdse.report.answer import Answer
    from lrfdse.results.document import Document, InspectionDocument


def show(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The output folder of an exploration.")],
    max_drop: Annotated[str | None, typer.Option(help="Largest loss of the metric, in points (hundredths).")] = None,
    max_other_drop: Annotated[
        str | None, typer.Option(help="Largest loss of every other output that counts, in points.")
    ] = None,
    max_params: Annotated[str | None, typer.Option(help="Most parameters of all FC layers: 60k.")] = None,
    max_size: Annotated[str | None, typer.Option(help="Most bytes of their weights, as float32: 128k.")] = None,
    max_latency: Annotated[str | None, typer.Option(help="Highest latency of all FC layers: 200us.")] = None,
    max_model_latency: Annotated[str | None, typer.Option(help="Highest warm latency of the whole model: 2ms.")] = None,
) -> None:
    """Print what an exploration found once more; a limit that is given takes the place of the one it had."""
    import dataclasses

    from lrfdse.cli.values import parse_count, parse_drop, parse_latency, parse_size
    from lrfdse.errors import InputError, NoDesignError
    from lrfdse.report.page.wording import recommendation
    from lrfdse.results.again import under_limits
    from lrfdse.results.read import read_document

    document = read_document(folder)
    limits = document.settings.limits
    if max_drop is not None:
        limits = dataclasses.replace(limits, max_drop=parse_drop(max_drop, "--max-drop"))
    if max_other_drop is not None:
        limits = dataclasses.replace(limits, max_other_drop=parse_drop(max_other_drop, "--max-other-drop"))
    if max_params is not None:
        limits = dataclasses.replace(limits, max_params=parse_count(max_params, "--max-params"))
    if max_size is not None:
        limits = dataclasses.replace(limits, max_size=parse_size(max_size, "--max-size"))
    if max_latency is not None:
        limits = dataclasses.replace(limits, max_latency_us=parse_latency(max_latency, "--max-latency"))
    if max_model_latency is not None:
        if document.latency.rest is None:
            raise InputError(
                f"--max-model-latency: {folder} holds no latency of the whole model; its notes may say why, else "
                "explore again without --no-library"
            )
        whole = parse_latency(max_model_latency, "--max-model-latency")
        limits = dataclasses.replace(limits, max_model_latency_us=whole)
    if limits != document.settings.limits:
        document = under_limits(document, limits)
    print_document(document, folder if folder.is_dir() else folder.parent)
    if document.recommended is None:
        raise NoDesignError(recommendation(document))


def print_document(document: Document, folder: Path) -> None:
    """Print tables of layers and designs, notes, and last the answer, on standard output."""
    from lrfdse.cli.terminal import console, print_line, print_lines, print_wrapped
    from lrfdse.report.answer import answer_of
    from lrfdse.report.healed import healed_table
    from lrfdse.report.int8 import int8_table
    from lrfdse.report.tables import design_table, plan_table, sensitivity_table
    from lrfdse.report.text import legend_lines

    out = console()
    print_layers(out, document)
    out.print()
    designs = design_table(document, out.width)
    print_lines(out, designs)
    for line in legend_lines(document, [each.plain for each in designs]):
        print_wrapped(out, line, style="dim")
    for make in (healed_table, int8_table, plan_table, sensitivity_table):
        if table := make(document, out.width):
            out.print()
            print_lines(out, table)
    out.print()
    for note in document.notes:
        print_wrapped(out, f"Note: {note}", indent=6, style="dim")
    if document.notes:
        print_line(out, "")
    _print_answer(out, answer_of(document, folder))


def print_layers(out: Console, document: Document | InspectionDocument, detailed: bool = False) -> None:
    """Print the layers, what the filters left of their designs, what is left untouched, and what bound follows."""
    from lrfdse.cli.terminal import print_line, print_lines, print_wrapped
    from lrfdse.report.layer_tables import funnel_table, kept_dense_lines, layer_table
    from lrfdse.report.shares import rest_lines, shares_lines

    layers = document.layers
    print_lines(out, layer_table(layers, out.width, detailed))
    for line in kept_dense_lines(layers):
        print_wrapped(out, line, indent=2)
    out.print()
    print_lines(out, funnel_table(layers, out.width))
    if document.untouched:
        out.print()
        print_line(out, "Left untouched", "bold")
        for line in rest_lines(document):
            print_wrapped(out, line, indent=4)
    if sentences := shares_lines(document):
        out.print()
        for line in sentences:
            print_wrapped(out, line)


def _print_answer(out: Console, answer: Answer) -> None:
    """Print the answer between two rules: a box without sides, so that paths and commands can be copied."""
    from rich.rule import Rule
    from rich.text import Text

    from lrfdse.cli.terminal import print_line
    from lrfdse.report.text import answer_lines

    style = "green" if answer.found else "yellow"
    out.print(Rule(Text(answer.title, style=f"bold {style}"), align="left", style=style))
    for line in answer_lines(answer, out.width):
        print_line(out, line)
    out.print(Rule(style=style))
