"""The command that compiles a whole model to a C library."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lrfdse.cli.options import complete_target
from lrfdse.cli.progress import LogFormat


def build(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL", help="An ONNX, TensorFlow Lite or Keras file, a SavedModel, or a folder with model.onnx."
        ),
    ],
    target: Annotated[
        str,
        typer.Option(
            "--target", "-t", autocompletion=complete_target, help="A name of `lrfdse targets`, or a TOML file."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder of the library.")],
    name: Annotated[str, typer.Option(help="What files, functions and macros begin with.")] = "net",
    shape: Annotated[list[str], typer.Option(help="Fix an input's dynamic sizes: NAME=1x3x48x320.")] = [],  # noqa: B006 (typer copies it)
    value: Annotated[list[str], typer.Option(help="Fix an input to a number: NAME=16000.")] = [],  # noqa: B006
    weights: Annotated[str, typer.Option(help="library (read-only data in it) or file (beside it).")] = "library",
    meter: Annotated[str, typer.Option(help="auto, host, model, or none: only check the outputs.")] = "auto",
    tune: Annotated[bool, typer.Option("--tune", help="Have the meter choose schedules, not the estimate.")] = False,
    cache: Annotated[
        Path | None, typer.Option(help="Where results are kept for later runs.", show_default=False)
    ] = None,
    log_format: Annotated[
        LogFormat, typer.Option("--log-format", help="Progress on stderr: text, or JSON lines.")
    ] = LogFormat.TEXT,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")] = False,
) -> None:
    """Compile the whole of MODEL to a C library without a runtime."""
    from lrfdse.cli.progress import listening
    from lrfdse.cli.terminal import console, print_line, print_lines, print_wrapped
    from lrfdse.cli.values import parse_shapes, parse_values
    from lrfdse.library.build import build as run
    from lrfdse.library.table import library_lines, operator_table

    with listening(log_format) as progress:
        built = run(
            model,
            target,
            output,
            name=name,
            shape=parse_shapes(shape),
            value=parse_values(value),
            weights=weights,  # type: ignore[arg-type]  # checked there
            meter=meter,
            tune=tune,
            cache=cache,
            progress=progress,
        )
    if as_json:
        typer.echo(built.facts.json, nl=False)
        return
    out = console()
    print_lines(out, operator_table(built.facts, out.width))
    print_line(out, "")
    *said, where = library_lines(built.facts, built.folder)
    for line in said:
        print_wrapped(out, line, 2)
    print_line(out, where)
