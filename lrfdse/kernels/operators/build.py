"""From an operator to its object file: its schedules, its packed weight, its code."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfdse.errors import KernelError
from lrfdse.ir.compiled import CompiledOperator
from lrfdse.ir.indexed import Gather, OneHot, ScatterElements, ScatterND, TopK
from lrfdse.ir.kernel import StepSchedule
from lrfdse.ir.operators import (
    Copy,
    Elementwise,
    Foreign,
    Interpolation,
    Normalization,
    Operator,
    Pool,
    Reduction,
    RunningSum,
    Softmax,
)
from lrfdse.ir.ports import ELEMENT_SIZE
from lrfdse.ir.products import BatchedProduct, Convolution, FullyConnected, Recurrence, TransposedConvolution
from lrfdse.ir.quantized import QuantizedConvolution, QuantizedProduct
from lrfdse.kernels.build import compile_function, instructions_of, tvm_target
from lrfdse.kernels.operators import tilings
from lrfdse.kernels.operators.depthwise_schedule import DepthwiseSchedule, depthwise_schedules
from lrfdse.kernels.operators.neighbours import columns_left, merged, merged_weights, widened, widened_weight
from lrfdse.kernels.operators.symbols import undefined
from lrfdse.kernels.operators.words import Words, admits, whole
from lrfdse.kernels.schedules import alternatives
from lrfdse.kernels.spills import spills_in
from lrfdse.targets.target import Target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lrfdse.kernels.operators.constants import Constants
    from lrfdse.kernels.operators.machine import Emission, Machine
    from lrfdse.kernels.tir import Buffer, Stmt

MOST_SCHEDULES = 4
"""Schedules of an operator at most, as many as `lrfdse.kernels.schedules.schedules` returns of a kernel."""

_INDEX_LIMIT = 2**31
"""Elements that a 32-bit index reaches."""


def schedules_of(operator: Operator, target: Target) -> list[str]:
    """Return the schedules of an operator, the best estimate first; one empty text where there is no choice."""
    if isinstance(operator, Convolution) and tilings.is_depthwise(operator):
        return [str(schedule) for schedule in depthwise_schedules(operator, target, MOST_SCHEDULES)]
    if isinstance(operator, QuantizedProduct | QuantizedConvolution):
        return _of_words(operator, target)
    if not _is_product(operator):
        return [""]
    product: tilings.Product = operator  # type: ignore[assignment]
    uneven = 0
    if isinstance(operator, Convolution):
        product, uneven = widened(operator, target), columns_left(operator, target)
    if isinstance(operator, TransposedConvolution) and (found_merged := merged(operator, target)):
        # Blocks would copy the image once more for each row of the kernel.
        product, uneven = found_merged, 1
    found = alternatives(
        tilings.step_of(product),
        target,
        MOST_SCHEDULES,
        lambda schedule: tilings.admits(product, schedule) and not (uneven and schedule.inner_block),
        tilings.distance_of(product),
        tilings.copies_input(product),
        storage=tilings.storage_of(product),
        runs=tilings.runs_of(product),
    )
    return [str(schedule) for _, schedule in found]


def packed_weight(operator: Operator, schedule: str, target: Target, array: NDArray[Any]) -> NDArray[Any]:
    """Return a weight in the order in which the operator's code reads it.

    Parameters
    ----------
    operator
        The operator; it has a port of role weight.
    schedule
        One of its schedules.
    target
        The machine.
    array
        The weight in the order that the operator's docstring names, of any shape.

    Raises
    ------
    ValueError
        The operator has no weight, or one of another size.
    """
    sizes = [port.size for port in operator.ports if port.role == "weight"]
    if sizes != [array.size]:
        raise ValueError(f"a weight of {array.size} elements does not fit {operator}, which takes {sizes}")
    if isinstance(operator, QuantizedProduct | QuantizedConvolution):
        return Words.of(target).packed(operator, StepSchedule.parse(schedule), np.asarray(array, np.int8))
    flat = np.ascontiguousarray(array).ravel()
    if isinstance(operator, Convolution) and tilings.is_depthwise(operator):
        return DepthwiseSchedule.parse(schedule).packed(operator, flat)
    if isinstance(operator, Convolution):
        flat, operator = widened_weight(operator, target, flat), widened(operator, target)
    if isinstance(operator, TransposedConvolution) and (product := merged(operator, target)):
        rows = merged_weights(operator, target, flat)
        return np.concatenate([tilings.packed(product, StepSchedule.parse(schedule), row) for row in rows])
    return tilings.packed(operator, StepSchedule.parse(schedule), flat)  # type: ignore[arg-type]


def compile_operator(
    operator: Operator, schedule: str, target: Target, symbol: str, count_spills: bool = False
) -> CompiledOperator:
    """Compile an operator as a plain C function, see `CompiledOperator`.

    Parameters
    ----------
    operator
        What it computes.
    schedule
        One of `schedules_of`.
    target
        The machine.
    symbol
        Name of the C function.
    count_spills
        Whether `CompiledOperator.spills` is wanted, for which LLVM generates the code once more.

    Raises
    ------
    KernelError
        The operator cannot be compiled, or the schedule does not fit it.
    """
    largest = max((port.size for port in operator.ports), default=0)
    if largest >= _INDEX_LIMIT:
        raise KernelError(f"{operator}: {largest} elements, but 32-bit indices allow fewer than 2^31")
    from lrfdse.kernels.operators.constants import Constants
    from lrfdse.kernels.operators.machine import Machine

    work = 0
    machine = Machine(target, instructions_of(target))
    constants = Constants(symbol)

    def function() -> tuple[Sequence[Buffer], Stmt]:
        nonlocal work
        emission = _emission(operator, schedule, machine, constants)
        parameters = list(emission.parameters)
        if emission.work is not None:
            parameters.append(emission.work)
            work = int(emission.work.shape[0]) * ELEMENT_SIZE[str(emission.work.dtype)]  # type: ignore[index]
        return parameters, constants.around(emission.body)

    name = operator.name if isinstance(operator, Foreign) else type(operator).__name__
    code, assembly = compile_function(function, target, symbol, f"{name} {symbol}", count_spills)
    if missing := undefined(code):
        raise KernelError(f"{name} for {target.name}: the code calls {', '.join(missing)}, which no library may need")
    return CompiledOperator(operator, schedule, target.name, symbol, code, work, spills_in(assembly, target))


def _of_words(operator: QuantizedProduct | QuantizedConvolution, target: Target) -> list[str]:
    words = Words.of(target)
    product = words.product(operator)
    found = alternatives(
        tilings.step_of(product),
        whole(target),
        MOST_SCHEDULES,
        lambda schedule: admits(schedule, target),
        tilings.distance_of(product),
        storage=words.storage,
    )
    return [str(schedule) for _, schedule in found]


def _is_product(operator: Operator) -> bool:
    if isinstance(operator, Convolution):
        return not tilings.is_depthwise(operator)
    return isinstance(operator, FullyConnected | BatchedProduct | TransposedConvolution | Recurrence)


def _emission(operator: Operator, schedule: str, machine: Machine, constants: Constants) -> Emission:
    """Return an operator as TIR."""
    from lrfdse.kernels.operators import convolution, depthwise, products
    from lrfdse.kernels.operators.elementwise import elementwise
    from lrfdse.kernels.operators.interpolation import interpolation
    from lrfdse.kernels.operators.one_hot import one_hot
    from lrfdse.kernels.operators.pool import pool
    from lrfdse.kernels.operators.quantized import quantized
    from lrfdse.kernels.operators.rearrange import copy, gather
    from lrfdse.kernels.operators.recurrence import recurrence
    from lrfdse.kernels.operators.reduction import reduction
    from lrfdse.kernels.operators.rows import normalization, softmax
    from lrfdse.kernels.operators.running_sum import running_sum
    from lrfdse.kernels.operators.scatter import scatter_elements, scatter_nd
    from lrfdse.kernels.operators.top_k import top_k
    from lrfdse.kernels.operators.transposed import transposed

    match operator:
        case FullyConnected():
            return products.fully_connected(operator, StepSchedule.parse(schedule), machine)
        case BatchedProduct():
            return products.batched(operator, StepSchedule.parse(schedule), machine)
        case Convolution() if tilings.is_depthwise(operator):
            return depthwise.depthwise(operator, DepthwiseSchedule.parse(schedule), machine)
        case Convolution() if tilings.copies_input(operator):
            pixels = FullyConnected(tilings.step_of(operator), operator.epilogue)
            return products.fully_connected(pixels, StepSchedule.parse(schedule), machine)
        case Convolution():
            return convolution.convolution(operator, StepSchedule.parse(schedule), machine)
        case TransposedConvolution():
            return transposed(operator, StepSchedule.parse(schedule), machine)
        case Recurrence():
            return recurrence(operator, StepSchedule.parse(schedule), machine)
        case QuantizedProduct() | QuantizedConvolution():
            made = dataclasses.replace(machine, instructions=instructions_of(whole(machine.target)))
            return quantized(operator, StepSchedule.parse(schedule), made)
        case Interpolation():
            return interpolation(operator, machine, constants)
        case Elementwise():
            return elementwise(operator, machine)
        case Softmax():
            return softmax(operator, machine)
        case Normalization():
            return normalization(operator, machine)
        case Pool():
            return pool(operator, machine)
        case Reduction():
            return reduction(operator, machine)
        case Copy():
            return copy(operator, machine)
        case Gather():
            return gather(operator, machine)
        case TopK():
            return top_k(operator, machine)
        case RunningSum():
            return running_sum(operator, machine)
        case OneHot():
            return one_hot(operator, machine)
        case ScatterND():
            return scatter_nd(operator, machine)
        case ScatterElements():
            return scatter_elements(operator, machine)
        case Foreign():
            # Relax takes seconds to load.
            from lrfdse.kernels.operators.foreign import foreign

            return foreign(operator, tvm_target(machine.target), machine, constants)
    raise KernelError(f"no code generator for {type(operator).__name__}")
