"""What an instruction set is to lrfdse: one object a set, by name, built in or from a plug-in."""

from __future__ import annotations

from lrfdse.base.registry import Registry
from lrfdse.targets.isa.aarch64 import AARCH64
from lrfdse.targets.isa.armv7 import ARMV7
from lrfdse.targets.isa.description import InstructionSet
from lrfdse.targets.isa.riscv64 import RISCV64
from lrfdse.targets.isa.x86_64 import X86_64

BUILTINS = (RISCV64, AARCH64, ARMV7, X86_64)
"""The instruction sets that lrfdse brings."""

REGISTRY = Registry[InstructionSet](
    "lrfdse.instruction_sets",
    "instruction set",
    # The objects, not where they are: what decides a stored result is found by following names.
    builtins={one.name: one for one in BUILTINS},
)
"""Instruction sets by the name that the key `isa` of a target gives."""


def instruction_set(name: str) -> InstructionSet:
    """Return the instruction set of a name.

    Raises
    ------
    InputError
        No instruction set has this name, or several plug-ins offer one.
    ToolError
        The plug-in that offers it cannot be imported.

    Examples
    --------
    >>> instruction_set("armv7").comment
    '@'
    """
    return REGISTRY.get(name)


def names() -> tuple[str, ...]:
    """Return the names of all instruction sets, those that lrfdse brings first."""
    return REGISTRY.names()
