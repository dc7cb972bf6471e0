"""What calls read and write."""

from __future__ import annotations

from lrfdse.ir.program import Call


def reads(call: Call) -> list[int]:
    """Return the values that a call reads."""
    return [value for value, port in zip(call.arguments, call.operator.ports, strict=True) if port.role != "output"]


def writes(call: Call) -> list[int]:
    """Return the values that a call writes."""
    return [value for value, port in zip(call.arguments, call.operator.ports, strict=True) if port.role == "output"]
