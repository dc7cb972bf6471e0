"""Kernels: a factorized (or dense) layer as one plain C function, register-blocked and vectorized for a target."""

from lrfdse.kernels.bounds import lower_bound_cycles
from lrfdse.kernels.build import compile_kernel
from lrfdse.kernels.data import example, pack
from lrfdse.kernels.header import c_header
from lrfdse.kernels.schedules import Change, changed, changes, schedules
from lrfdse.kernels.spills import spills

__all__ = [
    "Change",
    "c_header",
    "changed",
    "changes",
    "compile_kernel",
    "example",
    "lower_bound_cycles",
    "pack",
    "schedules",
    "spills",
]
