"""Which targets stand for the others where a test takes seconds for each."""

from __future__ import annotations

from lrfdse.targets.catalog import load_target, names


def families() -> list[str]:
    """One shipped target of each kind that code is generated for alike: instruction set, vectors and their groups."""
    kinds = {}
    for name in names("targets"):
        target = load_target(name)
        kinds.setdefault((target.isa, target.lanes, target.vector_registers, target.groups), name)
    return list(kinds.values())
