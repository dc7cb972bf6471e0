"""The command that lists targets."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from lrfdse.cli.terminal import console


def targets(as_json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")] = False) -> None:
    """List the targets that ship; a TOML file of the same form adds one."""
    from lrfdse.targets.catalog import load_target, names

    found = [load_target(name) for name in names("targets")]
    if as_json:
        rows = [{"name": t.name, "summary": t.summary, "core": t.core, "provenance": dict(t.provenance)} for t in found]
        typer.echo(json.dumps(rows, indent=1))
        return
    from rich.table import Table

    from lrfdse.meters.meter import METERS, auto_meter

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("target", "core", "latency", "lanes", "last-level cache", "what it stands for"):
        table.add_column(name)
    for t in found:
        kind = METERS.get(auto_meter(t)).kind
        table.add_row(t.name, t.core, kind, str(t.lanes), f"{t.last_level.kib} KiB", t.summary)
    console().print(table)
