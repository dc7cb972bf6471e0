"""The operators of a program as object code: each distinct one compiled once, for all models and runs."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfdse.base.events import Event, Listener
from lrfdse.base.folders import private_folder
from lrfdse.base.keys import code_key, digest, result_key
from lrfdse.base.text import one_line
from lrfdse.errors import InputError, KernelError
from lrfdse.ir.compiled import CompiledOperator
from lrfdse.ir.operators import Foreign
from lrfdse.ir.products import BatchedProduct, Convolution, FullyConnected, TransposedConvolution
from lrfdse.kernels.operators.build import compile_operator, packed_weight, schedules_of
from lrfdse.kernels.operators.tilings import is_depthwise
from lrfdse.library.elf import undefined_symbols
from lrfdse.targets import isa
from lrfdse.targets.catalog import noun_digest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lrfdse.base.store import Arrays, Store
    from lrfdse.ir.operators import Operator
    from lrfdse.ir.program import Program
    from lrfdse.library.layout import Pack
    from lrfdse.targets.target import Target


def compile_program(
    program: Program,
    name: str,
    target: Target,
    path: Path,
    cache: Store,
    progress: Listener,
    schedules: Mapping[Operator, str] | None = None,
) -> list[CompiledOperator]:
    """Return the function of every call, by the schedule that was chosen for it or that the estimate likes best.

    Operators that do the same share a function. Those that may be refused are compiled first. A symbol is the name, the
    kind of the operator and a digest of what it computes, so that the same operator has the same function in every
    library of that name.

    Parameters
    ----------
    program
        The calls.
    name
        What symbols begin with.
    target
        The machine.
    path
        The model's file, for messages.
    cache
        Keeps the functions for later runs.
    progress
        Told how many are compiled.
    schedules
        Schedules that were chosen for operators; of the others the first one is taken that compiles.

    Raises
    ------
    InputError
        Operators cannot be compiled; the message names all of them, with their nodes.
    ToolError
        Others may write to where the cache keeps functions, which are run.
    """
    private_folder("operators", cache.folder)
    nodes: dict[Operator, list[str]] = {}
    for call in program.calls:
        nodes.setdefault(call.operator, []).extend(call.nodes)
    order = sorted(nodes, key=lambda operator: not isinstance(operator, Foreign))
    symbols = {operator: _symbol(name, operator) for operator in nodes}
    if len(set(symbols.values())) < len(symbols):
        raise ValueError("two operators have the same digest")
    common = {
        "code": code_key(_compiled),
        "target": noun_digest(target),
        "isa": isa.REGISTRY.identity(target.isa),
    }
    compiled: dict[Operator, CompiledOperator] = {}
    refused: dict[tuple[str, str], list[str]] = {}
    for number, operator in enumerate(order):
        progress(Event("operators", symbols[operator], number, len(order)))
        wanted = None if schedules is None else schedules.get(operator)
        key = result_key("operators", operator=operator, symbol=symbols[operator], schedule=wanted, **common)
        read = functools.partial(_stored, operator=operator, target=target, symbol=symbols[operator])
        found = cache.get_arrays("operators", key, read)
        try:
            compiled[operator] = found or _compiled(operator, target, symbols[operator], wanted)
        except KernelError as error:
            refused.setdefault((_kind(operator), one_line(error, 300)), []).extend(nodes[operator])
            continue
        if found is None:
            cache.put_arrays("operators", key, _to_store(compiled[operator]))
    progress(Event("operators", "", len(order), len(order)))
    if refused:
        listed = "; ".join(f"{kind} ({_named(named)}): {reason}" for (kind, reason), named in refused.items())
        raise InputError(f"{path}: these operators cannot be compiled for {target.name}: {listed}")
    return [compiled[call.operator] for call in program.calls]


def pack_for(target: Target) -> Pack:
    """Return what brings a weight into the order in which a function of `target` reads it."""

    def pack(function: CompiledOperator, array: NDArray[Any]) -> NDArray[Any]:
        return packed_weight(function.operator, function.schedule, target, array)

    return pack


def _is_tiled(operator: Operator) -> bool:
    """Return whether the estimate orders its schedules by their tiles alone.

    Of depthwise convolutions the first schedule is right, though it may spill: the others read more.
    """
    if isinstance(operator, Convolution):
        return not is_depthwise(operator)
    return isinstance(operator, FullyConnected | BatchedProduct | TransposedConvolution)


_FEW_SPILLS = 8
"""Spilling instructions of a function that are taken to stand outside of its loops. Chosen: slow code has 50."""


def _symbol(name: str, operator: Operator) -> str:
    return f"{name}_{type(operator).__name__.lower()}_{digest(operator)[:_DIGITS]}"


_DIGITS = 10
"""Hexadecimal digits of a symbol. Chosen: among a thousand operators two alike have a chance of one in two million."""


def _to_store(function: CompiledOperator) -> Arrays:
    code = np.frombuffer(function.object_code, dtype=np.uint8)
    sha256 = np.array(hashlib.sha256(function.object_code).hexdigest())
    return {"code": code, "sha256": sha256, "schedule": np.array(function.schedule), "work": np.array(function.work)}


def _stored(arrays: Arrays, operator: Operator, target: Target, symbol: str) -> CompiledOperator:
    """Return a function as the cache keeps it; raise where it is none."""
    code, work = arrays["code"].astype(np.uint8, casting="equiv").tobytes(), int(arrays["work"])
    if hashlib.sha256(code).hexdigest() != str(arrays["sha256"]):
        raise ValueError("damaged")
    undefined_symbols(code)
    return CompiledOperator(operator, str(arrays["schedule"]), target.name, symbol, code, work)


def _compiled(operator: Operator, target: Target, symbol: str, wanted: str | None) -> CompiledOperator:
    """Compile an operator by the schedule that is wanted, or the first that works.

    Where LLVM holds the operands of whole loop bodies, tiles are large, and an epilogue may leave a few of them too few
    registers: such code was seen to take 27 times as long. The first schedule that spills next to nothing is taken.
    """
    failed: KernelError | None = None
    least: CompiledOperator | None = None
    found = schedules_of(operator, target) if wanted is None else [wanted]
    counts = target.instruction_set.holds_bodies and len(found) > 1 and _is_tiled(operator)
    for schedule in found:
        try:
            made = compile_operator(operator, schedule, target, symbol, count_spills=counts)
        except KernelError as error:
            failed = failed or error
            continue
        if least is None or made.spills < least.spills:
            least = made
        if made.spills <= _FEW_SPILLS:
            break
    if least is None:
        raise failed or KernelError("it has no schedule")
    return least


def _kind(operator: Operator) -> str:
    return operator.name if isinstance(operator, Foreign) else type(operator).__name__


def _named(nodes: Sequence[str]) -> str:
    shown = ", ".join(repr(node) for node in nodes[:_NODES_NAMED])
    return shown + (f" and {len(nodes) - _NODES_NAMED} more" if len(nodes) > _NODES_NAMED else "")


_NODES_NAMED = 3
"""Nodes of one operator that a message names: enough to find them. Chosen."""
