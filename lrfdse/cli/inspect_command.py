"""`lrfdse inspect`: what an exploration would find to compress."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lrfdse.cli.options import (
    CacheOption,
    CalibOption,
    JsonOption,
    LayersOption,
    LogOption,
    ModelArgument,
    ShapeOption,
    SpaceOption,
    TargetOption,
    ValueOption,
    kinds_of,
    settings_of,
)
from lrfdse.cli.progress import LogFormat
from lrfdse.cli.terminal import console
from lrfdse.targets import DEFAULT_TARGET

if TYPE_CHECKING:
    from lrfdse.results.settings import Options


def inspect(
    model: ModelArgument,
    target: TargetOption = DEFAULT_TARGET,
    calib: CalibOption = None,
    shape: ShapeOption = [],  # noqa: B006 (typer copies it)
    value: ValueOption = [],  # noqa: B006
    layers: LayersOption = None,
    space: SpaceOption = "default",
    cache: CacheOption = None,
    log_format: LogOption = LogFormat.TEXT,
    as_json: JsonOption = False,
) -> None:
    """Print the layers of MODEL, their compressibility, and how many designs every filter leaves; compile nothing."""
    from lrfdse.base.folders import cache_folder_at
    from lrfdse.cli.progress import listening
    from lrfdse.cli.show_command import print_layers
    from lrfdse.explore.inspection import inspect as run
    from lrfdse.results.settings import Data
    from lrfdse.results.write import inspection_of, json_of

    options: Options = {} if layers is None else {"layers": kinds_of(layers)}
    settings = settings_of(model, target, shape, value, space, cache, Data(calib), Path("."), options)
    with cache_folder_at(cache), listening(log_format) as progress:
        found = inspection_of(run(settings, progress))
    if as_json:
        typer.echo(json_of(found))
        return
    print_layers(console(), found, detailed=True)
