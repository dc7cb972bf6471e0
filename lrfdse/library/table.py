"""What a library is made of, as a table for people."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from lrfdse.base.text import clean, counted

if TYPE_CHECKING:
    from lrfdse.ir.latency import Latency
    from lrfdse.library.facts import LibraryFacts, OperatorFacts

_NARROWEST = 100
"""Columns below which symbols would be cut; a narrower terminal wraps lines, as it does for `lrfdse explore`."""
_UNSEEN_WIDTH = 140
"""Columns where there is no terminal."""
_LONGEST_NODES = 40
"""Characters of the nodes that a row names. Chosen: two or three of an exporter's names."""


def operator_table(facts: LibraryFacts) -> Table:
    """Return the table of operators, in the order of execution, with what each takes in time and memory."""
    whole, meter = facts.warm, facts.meter
    table = Table(title="Operators", title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("function", no_wrap=True)
    table.add_column("nodes")
    columns = ["MACs", "weights (KiB)", "scratch (KiB)"]
    if whole is not None and meter is not None:
        columns += [f"{meter.kind} (us)", "cold (us)", "share"]
    for name in columns:
        table.add_column(name, justify="right")
    for each in facts.operators:
        cells = [f"{each.macs:,}", _kib(each.weight_bytes), _kib(each.work_bytes)]
        if whole is not None and each.warm is not None and each.cold is not None:
            cells += [f"{each.warm.us:,.1f}", f"{each.cold.us:,.1f}", f"{each.warm.us / whole.us:.1%}"]
        table.add_row(each.symbol, _nodes(each), *cells)
    return table


def library_lines(facts: LibraryFacts, folder: Path) -> list[str]:
    """Return the sentences below the table: memory, latency, and what to do next."""
    lines = [
        f"{facts.macs:,} MACs, {_size(facts.weight_bytes)} of weights in the {facts.weights_in}, "
        f"{_size(facts.code_bytes)} of code, an arena of {_size(facts.arena_bytes)} "
        f"(at least {_size(facts.arena_bound)} are alive at one moment)",
    ]
    if facts.warm is not None and facts.cold is not None and facts.meter is not None:
        lines.append(
            f"Latency of the whole model, {facts.meter.kind} ({facts.meter.name} meter): {_time(facts.warm)} warm, "
            f"{_time(facts.cold)} cold"
        )
    if facts.checked:
        lines.append(f"Outputs differ from onnxruntime's by at most {facts.max_error:.2g} of the largest element")
    lines.append(f"{folder}: {counted(len(facts.operators), 'operator')}; `make check` in it runs the example")
    return [clean(line) for line in lines]


def library_text(facts: LibraryFacts, folder: Path) -> str:
    """Return table and sentences as plain text."""
    width = max(_NARROWEST, shutil.get_terminal_size((_UNSEEN_WIDTH, 0)).columns)
    shown = io.StringIO()
    plain = Console(
        file=shown, width=width, color_system=None, markup=False, emoji=False, highlight=False, force_jupyter=False
    )
    plain.print(operator_table(facts))
    table = "\n".join(line.rstrip() for line in shown.getvalue().split("\n")).rstrip("\n")
    return "\n".join([table, "", *library_lines(facts, folder)])


def _nodes(operator: OperatorFacts) -> str:
    text = clean(", ".join(operator.nodes))
    return text if len(text) <= _LONGEST_NODES else text[: _LONGEST_NODES - 3] + "..."


def _kib(size: int) -> str:
    return f"{size / 1024:,.1f}" if size else ""


def _size(size: int) -> str:
    return f"{size / 2**20:,.2f} MiB" if size >= 2**20 else f"{size / 1024:,.1f} KiB"


def _time(latency: Latency) -> str:
    return f"{latency.us / 1e3:,.2f} ms" if latency.us >= 1e3 else f"{latency.us:,.1f} us"
