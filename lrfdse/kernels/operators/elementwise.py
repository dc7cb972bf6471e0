"""Epilogues on their own: functions of tensors, element by element."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrfdse.kernels.operators.finish import Finish, Spot
from lrfdse.kernels.operators.machine import Emission, Machine, buffers
from lrfdse.kernels.operators.strips import strips
from lrfdse.kernels.tir import Expr, Stmt, load, over

if TYPE_CHECKING:
    from lrfdse.ir.operators import Elementwise

_UNROLLED = 2
"""Vectors in one iteration: LLVM would take a loop of one that only copies for memcpy."""


def elementwise(operator: Elementwise, machine: Machine) -> Emission:
    """Return the epilogue of every element; in one loop where no input depends on the place along the channels."""
    x, *further, y = parameters = buffers(operator.ports)
    finish = Finish(machine, operator.epilogue, tuple(further), y)
    sources = set(operator.epilogue.sources)

    def element(index: Expr, channel: Expr, row: Expr, lanes: int, one_channel: bool = False) -> list[Stmt]:
        spot = Spot(index, index, channel, row, 1, one_channel)
        return finish.store(load(x, index, lanes), spot, lanes)

    if not sources & {"channel", "row"}:
        body = strips(operator.size, machine.lanes, lambda i, lanes: element(i, 0, 0, lanes), _UNROLLED)
    else:
        channels = operator.channels

        def run(r: Expr) -> Stmt:
            return strips(channels, machine.lanes, lambda i, lanes: element(r * channels + i, i, r, lanes), _UNROLLED)

        body = over(operator.size // channels, run)
    return Emission(parameters, body)
