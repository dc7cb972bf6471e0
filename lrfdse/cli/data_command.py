"""``lrfdse data``: the data files of a model from a folder of images."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer


def data(
    folder: Annotated[Path, typer.Argument(metavar="IMAGES", help="A folder of images, a subfolder a class.")],
    model: Annotated[Path, typer.Option(help="The model: an ONNX file, or a folder with model.onnx.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where the files go; default: beside the model.")
    ] = None,
    split: Annotated[str, typer.Option(help="Proportions of calibration, evaluation and test data.")] = "2:1:1",
    mean: Annotated[str, typer.Option(help="Subtracted from values in 0..1: a number, or one a colour.")] = "0",
    std: Annotated[str, typer.Option(help="Values are divided by it then: a number, or one a colour.")] = "1",
    shape: Annotated[list[str], typer.Option(help="Fix an input's dynamic sizes: NAME=1x3x224x224.")] = [],  # noqa: B006
    value: Annotated[list[str], typer.Option(help="Fix an input to a number: NAME=0.5.")] = [],  # noqa: B006
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw.")] = 0,
) -> None:
    """Write calib.npz, eval.npz and test.npz for MODEL from a folder of images (extra `images`)."""
    from lrfdse.cli.values import parse_shapes, parse_values
    from lrfdse.collect.images import save_images
    from lrfdse.errors import InputError

    if not re.fullmatch(r"\d{1,6}(:\d{1,6}){2}", split, flags=re.ASCII):
        raise InputError(f"--split takes three whole numbers such as 2:1:1, but got {split!r}")
    made = save_images(
        folder,
        model,
        output,
        split=[int(part) for part in split.split(":")],
        mean=_numbers(mean, "--mean"),
        std=_numbers(std, "--std"),
        shape=parse_shapes(shape),
        value=parse_values(value),
        seed=seed,
    )
    for number, name in enumerate(made.classes):
        typer.echo(f"class {number}: {name}")
    for path, count in zip(made.paths, made.counts.values(), strict=True):
        typer.echo(f"{path}: {count} images")


def _numbers(text: str, option: str) -> list[float]:
    from lrfdse.errors import InputError

    if not re.fullmatch(r"-?\d+(\.\d+)?(,-?\d+(\.\d+)?)*", text, flags=re.ASCII):
        raise InputError(f"{option} takes a number, or one a colour such as 0.485,0.456,0.406, but got {text!r}")
    return [float(part) for part in text.split(",")]
