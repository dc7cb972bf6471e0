"""Operators that no emitter knows: one ONNX node through TVM's Relax, without a schedule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tvm
import tvm_ffi
from tvm import s_tir, tirx
from tvm.ir import PointerType, PrimType

from lrfdse.ir.ports import ELEMENT_SIZE
from lrfdse.kernels.operators.constants import Constants
from lrfdse.kernels.operators.machine import Emission, Machine, buffers, flat
from lrfdse.kernels.operators.plain import plain
from lrfdse.kernels.operators.relax import Graph, lowered
from lrfdse.kernels.operators.runs import copied, fenced, nothing
from lrfdse.kernels.tir import Buffer, Expr, Stmt, load, over, sequence, store

if TYPE_CHECKING:
    from lrfdse.ir.operators import Foreign

_ALIGNMENT = 64
"""Bytes to which parts of the scratch memory are aligned: a cache line."""

_ON_STACK = 1024
"""Bytes up to which a temporary array stays on the stack; larger ones lie in scratch memory. Chosen, not measured."""

_PASSES = (
    s_tir.transform.CanonicalizeLoop,
    s_tir.transform.LowerInitBlock,
    s_tir.transform.PlanAndUpdateBufferAllocationLocation,
    s_tir.transform.ConvertBlocksToOpaque,
    s_tir.transform.CompactBufferAllocation,
    s_tir.transform.LowerMatchBuffer,
    s_tir.transform.StmtSimplify,
    s_tir.transform.LowerOpaqueBlock,
    tirx.transform.FlattenBuffer,
    lambda: tirx.transform.NarrowDataType(32),
    s_tir.transform.LoopPartition,
    lambda: tirx.transform.VectorizeLoop(True),
    tirx.transform.StorageRewrite,
    s_tir.transform.HoistIfThenElse,
    tirx.transform.UnrollLoop,
    s_tir.transform.RenormalizeSplitPattern,
    tirx.transform.StmtSimplify,
    tirx.transform.RemoveNoOp,
    s_tir.transform.RewriteUnsafeSelect,
)
"""TVM's own lowering of unscheduled functions for a CPU, up to before its calling convention."""


@dataclass(frozen=True, slots=True)
class _Part:
    """One function of the node, ready to be put in its place."""

    parameters: Sequence[Buffer]
    body: Stmt
    temporaries: Sequence[tuple[Expr, int]]
    """Pointers to arrays that do not stay on the stack, and their bytes."""
    values: Sequence[int]
    """What stands for each parameter."""


def foreign(operator: Foreign, target: Any, machine: Machine, constants: Constants) -> Emission:
    """Return a node as the functions that Relax makes of it, one after the other.

    Parameters
    ----------
    operator
        The node.
    target
        The machine as TVM's target.
    machine
        The machine.
    constants
        Takes the node's constants.

    Raises
    ------
    KernelError
        Relax does not know the node, or makes other things than functions with static shapes of it.
    """
    module, graph = lowered(operator)
    parts = [_part(module[call.function], call.arguments, target, machine) for call in graph.calls]
    parameters = buffers(operator.ports)
    places: dict[int, tuple[Buffer, int]] = {}
    copies: list[Stmt] = []
    given = len(operator.inputs)
    for value, buffer in zip(graph.inputs, parameters[:given], strict=True):
        places[value] = buffer, 0
    for value, buffer in zip(graph.outputs, parameters[given:], strict=True):
        known = graph.values[value].constant
        if known is not None and value not in places:
            places[value] = constants.table(known), 0
        if known is not None:
            copies.append(_written(places[value][0], buffer, graph.values[value].size))
        elif value in places:
            copies.append(copied(places[value][0], 0, buffer, 0, graph.values[value].size, machine))
        else:
            places[value] = buffer, 0
    work, behind = _scratch(graph, parts, places, constants)
    body: list[Stmt] = [nothing()]
    for part in parts:
        for buffer, value in zip(part.parameters, part.values, strict=True):
            pointer = _pointer(buffer)
            body += [_bound(pointer, *places[value]), tirx.DeclBuffer(buffer, data=pointer)]
        offset = behind
        for pointer, size in part.temporaries:
            body.append(_bound(pointer, work, offset))
            offset += _rounded(size)
        body.append(part.body)
    return Emission(parameters, sequence([*body, *copies]), work)


def _scratch(
    graph: Graph, parts: Sequence[_Part], places: dict[int, tuple[Buffer, int]], constants: Constants
) -> tuple[Buffer | None, int]:
    """Give every value a place; return the scratch memory, and where that of single functions begins."""
    offsets, size = {}, 0
    for number, value in enumerate(graph.values):
        if number in places or not any(number in part.values for part in parts):
            continue
        if value.constant is not None:
            places[number] = constants.table(value.constant), 0
        else:
            offsets[number] = size
            size += _rounded(value.size * ELEMENT_SIZE[value.element])
    most = max((sum(_rounded(bytes_of) for _, bytes_of in part.temporaries) for part in parts), default=0)
    if not size + most:
        return None, 0
    work = flat(size + most, "work", "int8")
    places |= {number: (work, offset) for number, offset in offsets.items()}
    return work, size


def _part(function: Any, values: Sequence[int], target: Any, machine: Machine) -> _Part:
    """Return a function of TIR as flat loops that call nothing."""
    attributed = function.with_attr({"global_symbol": "part", "target": target})
    module = tvm.IRModule({"part": attributed})
    for make in _PASSES:
        module = make()(module)
    made = s_tir.renew_defs(module["part"])
    body = plain(made.body, machine)
    found: list[tuple[Expr, int]] = []

    def moved(statement: Any) -> Any:
        size = _bytes(statement.buffer)
        if size <= _ON_STACK:
            return statement
        pointer = _pointer(statement.buffer)
        found.append((pointer, size))
        return tirx.DeclBuffer(statement.buffer, data=pointer)

    return _Part(made.params, tvm_ffi.structural_map(body, (tirx.AllocBuffer, moved)), found, values)


def _written(table: Buffer, buffer: Buffer, size: int) -> Stmt:
    """Return the loop that copies a table, of whose content LLVM knows all."""
    return over(size, lambda i: store(buffer, fenced(load(table, i), i), i))


def _pointer(buffer: Buffer) -> Expr:
    return tirx.Var("place", PointerType(PrimType(str(buffer.dtype))))


def _bound(pointer: Expr, base: Buffer, offset: int) -> Stmt:
    """Return the statement that makes a pointer one to an element of a buffer."""
    return tirx.Bind(pointer, tirx.reinterpret(pointer.ty, tirx.address_of(load(base, offset))))


def _bytes(buffer: Buffer) -> int:
    kind = tvm.DataType(str(buffer.dtype))
    size = 1
    for extent in buffer.shape:
        size *= int(extent)
    return size * (int(kind.bits) * int(kind.lanes) + 7) // 8


def _rounded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
