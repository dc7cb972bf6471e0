"""Copies that only rename an array, calls whose results nothing reads, and the numbers of what is left."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lrfdse.ir.operators import Copy, Operator
from lrfdse.ir.program import Call, Interface, Program, Value
from lrfdse.program.calls import reads, writes

if TYPE_CHECKING:
    from lrfdse.ir.program import Array


def written_in_place(calls: Sequence[Call], values: Sequence[Value]) -> list[Call]:
    """Return the calls without copies of whole arrays to outputs: what made the array writes the output itself.

    An array that something else reads, too, keeps its copy, since an output is the caller's and only written.
    """
    readers = Counter(value for call in calls for value in reads(call))
    renamed: dict[int, int] = {}
    kept = []
    for call in calls:
        source, target = call.arguments[0], call.arguments[-1]
        only = readers[source] == 1 and values[source].kind == "memory" and values[source].size == values[target].size
        if values[target].kind == "output" and only and _is_whole(call.operator):
            renamed[source] = target
        else:
            kept.append(call)
    return [
        dataclasses.replace(call, arguments=tuple(renamed.get(value, value) for value in call.arguments))
        for call in kept
    ]


def needed(calls: Sequence[Call], values: Sequence[Value]) -> list[Call]:
    """Return the calls that something the caller sees depends on."""
    wanted = {number for number, value in enumerate(values) if value.kind == "output"}
    kept = []
    for call in reversed(calls):
        if wanted.intersection(writes(call)):
            kept.append(call)
            wanted.update(reads(call))
    return kept[::-1]


def numbered(
    calls: Sequence[Call],
    values: Sequence[Value],
    constants: dict[int, Array],
    inputs: Sequence[Interface],
    outputs: Sequence[Interface],
) -> Program:
    """Return the program of the values that are left, numbered anew in their order."""
    used = {value for call in calls for value in call.arguments}
    used.update(each.value for each in (*inputs, *outputs))
    new = {old: number for number, old in enumerate(sorted(used))}
    return Program(
        values=tuple(values[old] for old in new),
        calls=tuple(dataclasses.replace(call, arguments=tuple(new[v] for v in call.arguments)) for call in calls),
        inputs=tuple(dataclasses.replace(each, value=new[each.value]) for each in inputs),
        outputs=tuple(dataclasses.replace(each, value=new[each.value]) for each in outputs),
        constants={new[old]: content for old, content in constants.items() if old in new},
    )


def _is_whole(operator: Operator) -> bool:
    """Return whether an operator copies an array from begin to end."""
    return (
        isinstance(operator, Copy)
        and operator.strides == operator.to_strides == (1,)
        and operator.source == operator.to == 0
        and operator.shape == (operator.size,)
        and operator.source_size == operator.size
    )
