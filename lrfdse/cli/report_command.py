"""The command that writes the page of an exploration again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The output folder of an exploration.")],
) -> None:
    """Write DIR/report.html again from DIR/front.json, and print its path."""
    from lrfdse.report.page.html import write_again

    typer.echo(write_again(folder))
