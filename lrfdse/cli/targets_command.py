"""The command that lists targets."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from lrfdse.base.text import counted
from lrfdse.cli.terminal import console, print_wrapped


def targets(as_json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")] = False) -> None:
    """List the targets that ship; a TOML file of the same form adds one."""
    from lrfdse.targets.catalog import load_target, names

    found = [load_target(name) for name in names("targets")]
    if as_json:
        rows = [{"name": t.name, "summary": t.summary, "core": t.core, "provenance": dict(t.provenance)} for t in found]
        typer.echo(json.dumps(rows, indent=1))
        return
    from lrfdse.meters.meter import METERS, auto_meter

    out = console()
    indent = max(len(t.name) for t in found) + 2
    for t in found:
        kind = METERS.get(auto_meter(t)).kind
        print_wrapped(out, f"{t.name:{indent}}{t.summary}", indent)
        lanes = counted(t.lanes, "lane")
        facts = f"{t.core}; {lanes}, {t.last_level.kib:,} KiB last-level cache; latency {kind}"
        print_wrapped(out, f"{'':{indent}}{facts}", indent)
