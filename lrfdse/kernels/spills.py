"""Register spills in the assembly of a kernel."""

from __future__ import annotations

import re

from lrfdse.ir.kernel import Artifact
from lrfdse.targets.target import Target


def spills(artifact: Artifact, target: Target) -> int:
    """Return how many instructions of the kernel move a vector or a float between a register and the stack.

    Parameters
    ----------
    artifact
        A kernel that was compiled with its assembly.
    target
        What it was compiled for.

    Raises
    ------
    ValueError
        The kernel was compiled without its assembly.
    """
    if not artifact.assembly:
        raise ValueError(f"{artifact.symbol} was compiled without assembly, which holds the spills")
    return spills_in(artifact.assembly, target)


def spills_in(assembly: str, target: Target) -> int:
    """Return how many lines of assembly move a vector or a float between a register and the stack."""
    pattern = re.compile("|".join(target.instruction_set.spills))
    return sum(1 for line in assembly.splitlines() if pattern.search(line))
