"""What code needs of the machine that runs it: in words, and as C that asks the machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

TRAPS = "an illegal instruction ends the program"
"""What happens where an instruction is missing, the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What the kernels of a target need, and how C finds out whether it is there."""

    words: str
    """What they need: the rest of a sentence that begins with "Needs", or several sentences."""
    unchecked: str
    """Sentences about what the C cannot find out, and what happens where that is missing; empty without any."""
    macro: str
    """The C condition that holds where code is compiled for the instruction set."""
    body: Sequence[str]
    """C99 and C++ statements that return 1 where the machine has it and 0 where not."""
    guard: Sequence[str] = ()
    """Preprocessor lines that stop a compilation for a machine that is known to be too small."""


def with_extensions(base: str, names: Sequence[str]) -> str:
    """Return the name of an instruction set with those of its extensions.

    >>> with_extensions("RV64GC", ["Zba", "Zbb"]), with_extensions("RV64GC", [])
    ('RV64GC with Zba and Zbb', 'RV64GC')
    """
    return f"{base} with {' and '.join(names)}" if names else base
