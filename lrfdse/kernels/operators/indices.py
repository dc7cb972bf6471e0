"""A pass of Relax: indices that are known at run time only are clipped, so that they stay inside of tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator


@tvm.ir.transform.module_pass(opt_level=0, name="ClippedIndices")
class ClippedIndices:
    """Bounds the indices of gathers and scatters."""

    def transform_module(self, module: Any, _: Any) -> Any:
        """Return the module with bounded indices."""
        for name, function in list(module.functions.items()):
            if isinstance(function, relax.Function):
                module.update_func(name, _Bounded(module).visit_expr(function))
        return module


@mutator
class _Bounded(PyExprMutator):  # type: ignore[misc]
    """Visits calls."""

    def visit_call_(self, call: Any) -> Any:
        """Return a call whose indices are bounded."""
        call = super().visit_call_(call)
        name = getattr(call.op, "name", "")
        if name == "relax.take":
            axis = None if call.attrs.axis is None else int(call.attrs.axis)
            return relax.op.take(call.args[0], call.args[1], axis, "clip")
        if name in ("relax.gather_elements", "relax.scatter_elements"):
            size = int(call.args[0].ty.shape.values[int(call.attrs.axis)])
            return self._with_bounds(call, np.array(size), name == "relax.gather_elements")
        if name in ("relax.gather_nd", "relax.scatter_nd"):
            batch = int(call.attrs.batch_dims) if name == "relax.gather_nd" else 0
            count = int(call.args[1].ty.shape.values[-1])
            sizes = [int(extent) for extent in call.args[0].ty.shape.values[batch : batch + count]]
            return self._with_bounds(call, np.array(sizes), name == "relax.gather_nd")
        return call

    def _with_bounds(self, call: Any, sizes: Any, counted: bool) -> Any:
        """Return a call with bounded indices; `counted` says that negative ones were counted from the end already."""
        data, indices, *rest = call.args
        kind = str(indices.ty.dtype).removeprefix("PrimType(").strip(')"')
        least, most = (relax.const(bound.astype(kind), kind) for bound in (0 * sizes if counted else -sizes, sizes - 1))
        bounded = self.builder_.emit(relax.op.minimum(relax.op.maximum(indices, least), most))
        return relax.Call(call.op, [data, bounded, *rest], call.attrs, call.ty_args)
