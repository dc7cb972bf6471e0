"""What commands print, seen by who reads it from a file."""

from __future__ import annotations

import pytest
from rich.table import Table

from lrfdse.cli.terminal import console, print_table


@pytest.mark.parametrize("colours", ["", "1"])
def test_lines_of_a_table_have_no_blanks_at_their_ends(colours, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", colours)
    monkeypatch.delenv("NO_COLOR", raising=False)
    table = Table(title="Designs", title_justify="left", box=None, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("design")
    table.add_column("latency", justify="right")
    table.add_row("[bold]a", "2,399 us")
    table.add_row("bb", "")
    print_table(console(), table)
    shown = capsys.readouterr().out
    assert ("\x1b[1m" in shown) is bool(colours)
    for code in ("\x1b[1m", "\x1b[3m", "\x1b[0m"):
        shown = shown.replace(code, "")
    assert shown.splitlines() == ["Designs", "design   latency", "[bold]a 2,399 us", "bb"]
