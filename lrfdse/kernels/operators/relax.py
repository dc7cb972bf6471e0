"""One ONNX node as functions of TIR, by TVM's Relax."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import tvm
from numpy.typing import NDArray
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx, onnx_frontend

from lrfdse.errors import KernelError
from lrfdse.ir.ports import ELEMENT_SIZE, Element
from lrfdse.kernels.operators.indices import ClippedIndices

if TYPE_CHECKING:
    from lrfdse.ir.operators import Foreign


vars(onnx_frontend)["print"] = lambda *_, **__: None
"""Before it raises, TVM's importer prints to standard output, where commands print their results."""

_IGNORED = {"IsInf": {"detect_negative", "detect_positive"}, "Resize": {"antialias"}}
"""Attributes that TVM's importer reads over."""


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor of the node."""

    size: int
    element: Element
    constant: NDArray[Any] | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A function of TIR on tensors."""

    function: str
    arguments: tuple[int, ...]
    """The values of its parameters: what it reads, then what it writes."""


@dataclass(frozen=True, slots=True)
class Graph:
    """Functions in the order of execution, and the values between them."""

    values: Sequence[Value]
    calls: Sequence[Call]
    inputs: Sequence[int]
    outputs: Sequence[int]


def lowered(operator: Foreign) -> tuple[Any, Graph]:
    """Return TVM's module with the functions of a node, and how they are called.

    Raises
    ------
    KernelError
        Relax does not know the node, or makes other things than functions with static shapes of it.
    """
    passes = relax.transform
    try:
        module = from_onnx(_guarded(onnx.load_from_string(operator.model)))
        with tvm.target.Target("llvm"):
            module = tvm.ir.transform.Sequential(
                [
                    passes.DecomposeOpsForInference(),
                    passes.FoldConstant(),
                    ClippedIndices(),
                    passes.LegalizeOps(),
                    passes.FoldConstant(),
                    passes.AnnotateTIROpPattern(),
                    passes.FuseOps(),
                    passes.FuseTIR(),
                    passes.DeadCodeElimination(),
                ]
            )(module)
        graph = _Reader().read(module["main"])
        _check(graph, operator)
        return module, graph
    # Each of TVM's importers raises what it likes.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        # Of an operator of Relax its whole record is said.
        reason = re.sub(r'ir\.Op\(span=.*?name="([\w.]+)".*?\) requires', r"\1 requires", reason)
        raise KernelError(f"{operator.name}: no code generator knows it, and TVM's Relax says: {reason}") from error


def _guarded(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model whose index of a largest or least element is one; TVM begins at -1, which -inf does not beat.

    Onnxruntime's is 0 where all elements are -inf, as in rows of scores that are masked as a whole.
    """
    node = model.graph.node[0]
    if node.op_type not in ("ArgMax", "ArgMin"):
        return model
    given = node.output[0]
    node.output[0] = f"{given}_or_none"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((), np.int64), f"{given}_first"))
    model.graph.node.append(onnx.helper.make_node("Max", [node.output[0], f"{given}_first"], [given]))
    return model


def _check(graph: Graph, operator: Foreign) -> None:
    """Do nothing where a graph has the tensors that the operator declares.

    Raises
    ------
    ValueError
        It has others, or something that TVM's importer gets wrong, as ONNX's own tests of nodes show.
    """
    for wanted, numbers in ((operator.inputs, graph.inputs), (operator.outputs, graph.outputs)):
        found = [(graph.values[number].size, graph.values[number].element) for number in numbers]
        if found != list(wanted):
            raise ValueError(f"its tensors are {found}, not {list(wanted)}")
    node = onnx.load_from_string(operator.model).graph.node[0]
    # A Resize with antialias=0 is one without.
    given = {each.name for each in node.attribute if each.name != "antialias" or each.i}
    ignored = given & _IGNORED.get(node.op_type, set())
    if ignored:
        raise ValueError(f"attribute {min(ignored)} is not supported")
    if node.op_type == "LayerNormalization" and len(node.output) > 1:
        raise ValueError("its further outputs are not supported")


class _Reader:
    """Reads Relax's bindings."""

    def __init__(self) -> None:
        self._values: list[Value] = []
        self._calls: list[Call] = []
        self._known: dict[Any, Any] = {}

    def read(self, function: Any) -> Graph:
        inputs = []
        for parameter in function.params:
            self._known[parameter] = self._value(parameter.ty)
            inputs.append(self._known[parameter])
        for block in function.body.blocks:
            for binding in block.bindings:
                self._known[binding.var] = self._bound(binding.value)
        result = self._of(function.body.body)
        outputs = result if isinstance(result, list) else [result]
        return Graph(self._values, self._calls, inputs, outputs)

    def _value(self, kind: Any, constant: NDArray[Any] | None = None) -> int:
        shape = [int(extent) for extent in kind.shape.values]
        element = str(kind.dtype).removeprefix("PrimType(").strip(')"')
        if element not in ELEMENT_SIZE:
            raise ValueError(f"elements of type {element}")
        self._values.append(Value(int(np.prod(shape, dtype=np.int64)), element, constant))
        return len(self._values) - 1

    def _of(self, expression: Any) -> Any:
        if isinstance(expression, relax.Var):
            return self._known[expression]
        if isinstance(expression, relax.Tuple):
            return [self._of(each) for each in expression.fields]
        if hasattr(expression, "value"):
            return self._value(expression.ty, expression.value.numpy())
        raise ValueError(f"{type(expression).__name__} is no function with static shapes")

    def _bound(self, expression: Any) -> Any:
        if isinstance(expression, relax.TupleGetItem):
            return self._known[expression.tuple_value][expression.index]
        if not (isinstance(expression, relax.Call) and expression.op.name == "relax.call_tir"):
            if isinstance(expression, relax.Call):
                raise ValueError(f"{expression.op} is no function with static shapes")
            return self._of(expression)
        function, given = expression.args[0].name_hint, [self._of(each) for each in expression.args[1].fields]
        kind = expression.ty_args[0]
        made = [self._value(each) for each in (kind.fields if hasattr(kind, "fields") else [kind])]
        self._calls.append(Call(function, (*given, *made)))
        return made if hasattr(kind, "fields") else made[0]
