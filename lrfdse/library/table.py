"""What a library is made of, as a table for people."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from lrfdse.base.grid import Column, fitted
from lrfdse.base.text import clean, counted

if TYPE_CHECKING:
    from rich.text import Text

    from lrfdse.ir.latency import Latency
    from lrfdse.library.facts import LibraryFacts, OperatorFacts

_UNSEEN_WIDTH = 140
"""Columns where there is no terminal."""
_LONGEST_NODES = 40
"""Characters of the nodes that a row names. Chosen: two or three of an exporter's names."""


def operator_table(facts: LibraryFacts, width: int) -> list[Text]:
    """Return the table of operators, in the order of execution, with what each takes in time and memory.

    Where `width` is too narrow, the nodes are dropped first, then scratch, MACs and weights.
    """
    whole, meter, operators = facts.warm, facts.meter, facts.operators
    columns = [
        Column("function", [each.symbol for each in operators], left=True),
        Column("nodes", [_nodes(each) for each in operators], left=True, drop=4),
        Column("MACs", [f"{each.macs:,}" for each in operators], drop=2),
        Column("weights (KiB)", [_kib(each.weight_bytes) for each in operators], drop=1),
        Column("scratch (KiB)", [_kib(each.work_bytes) for each in operators], drop=3),
    ]
    if whole is not None and meter is not None:
        columns += [
            Column(f"{meter.kind} (us)", ["" if each.warm is None else f"{each.warm.us:,.1f}" for each in operators]),
            Column("cold (us)", ["" if each.cold is None else f"{each.cold.us:,.1f}" for each in operators]),
            Column("share", ["" if each.warm is None else f"{each.warm.us / whole.us:.1%}" for each in operators]),
        ]
    return fitted(columns, width, "Operators")


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
    width = shutil.get_terminal_size((_UNSEEN_WIDTH, 0)).columns
    table = [line.plain for line in operator_table(facts, width)]
    return "\n".join([*table, "", *library_lines(facts, folder)])


def _nodes(operator: OperatorFacts) -> str:
    text = clean(", ".join(operator.nodes))
    return text if len(text) <= _LONGEST_NODES else text[: _LONGEST_NODES - 3] + "..."


def _kib(size: int) -> str:
    return f"{size / 1024:,.1f}" if size else ""


def _size(size: int) -> str:
    return f"{size / 2**20:,.2f} MiB" if size >= 2**20 else f"{size / 1024:,.1f} KiB"


def _time(latency: Latency) -> str:
    return f"{latency.us / 1e3:,.2f} ms" if latency.us >= 1e3 else f"{latency.us:,.1f} us"
