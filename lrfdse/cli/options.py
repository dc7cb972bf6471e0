"""Options that several commands have, and the settings that are made of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lrfdse.cli.progress import LogFormat

if TYPE_CHECKING:
    from lrfdse.ir.form import Form
    from lrfdse.ir.layer import Kind
    from lrfdse.results.settings import Data, Options, Settings

DATA, LIMITS = "The model and its data", "Limits of the recommended design"
SEARCH, MACHINES, OUTPUT = "Search", "Processes, boards, other machines", "Files and output"

ModelArgument = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL",
        help="An ONNX, TensorFlow Lite or Keras file, a SavedModel, or a folder with model.onnx and its data.",
    ),
]


def complete_target(incomplete: str) -> list[str]:
    """Return the targets that ship whose names begin with what was typed, for the shell's completion."""
    from lrfdse.targets.catalog import names

    return [name for name in names("targets") if name.startswith(incomplete)]


def complete_formats(incomplete: str) -> list[str]:
    """Return what `--format` may be whose text begins with what was typed, for the shell's completion."""
    return [text for text in ("onnx", "tflite", "keras", "onnx,tflite,keras") if text.startswith(incomplete)]


TargetOption = Annotated[
    str,
    typer.Option(
        "--target",
        "-t",
        help="A name of `lrfdse targets`, or a TOML file.",
        autocompletion=complete_target,
        rich_help_panel=DATA,
    ),
]
CalibOption = Annotated[
    Path | None,
    typer.Option(help="Calibration data to fit on (.npz), no labels.", show_default=False, rich_help_panel=DATA),
]
ShapeOption = Annotated[
    list[str], typer.Option(help="Fix an input's dynamic sizes: NAME=1x3x48x320.", rich_help_panel=DATA)
]
ValueOption = Annotated[list[str], typer.Option(help="Fix an input to a number: NAME=16000.", rich_help_panel=DATA)]
SpaceOption = Annotated[str, typer.Option(help="The search space: a name, or a TOML file.", rich_help_panel=SEARCH)]
LayersOption = Annotated[
    str | None,
    typer.Option(
        metavar="KINDS",
        help="Kinds of layers to compress: fc, conv, recurrent, state, attention, embedding, tied, joint.",
        rich_help_panel=SEARCH,
    ),
]
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="FORMATS",
        help="Formats of designs beside ONNX: tflite, keras; default: tflite, of such models.",
        autocompletion=complete_formats,
        rich_help_panel=OUTPUT,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.", rich_help_panel=OUTPUT)]
LogOption = Annotated[
    LogFormat, typer.Option("--log-format", help="Progress on stderr: text, or JSON lines.", rich_help_panel=OUTPUT)
]
CacheOption = Annotated[
    Path | None,
    typer.Option(help="Where results are kept for later runs.", show_default=False, rich_help_panel=OUTPUT),
]


def kinds_of(text: str) -> tuple[Kind, ...]:
    """Read the value of `--layers`: kinds of layers between commas."""
    from lrfdse.results.settings import checked_kinds

    return checked_kinds([part.strip() for part in text.split(",")], "--layers")


def formats_of(text: str) -> tuple[Form, ...]:
    """Read the value of `--format`: formats between commas."""
    from lrfdse.results.settings import checked_formats

    return checked_formats([part.strip() for part in text.split(",")], "--format")


def settings_of(
    model: Path,
    target: str,
    shape: list[str],
    value: list[str],
    space: str,
    cache: Path | None,
    data: Data,
    output: Path | None,
    options: Options,
) -> Settings:
    """Return the settings of a command that looks at a model; `options` are those that not all such commands have."""
    from lrfdse.cli.values import parse_shapes, parse_values
    from lrfdse.explore.inputs import settings_for

    if cache is not None:
        options["cache"] = cache
    return settings_for(model, target, space, data, output, parse_shapes(shape), parse_values(value), **options)
