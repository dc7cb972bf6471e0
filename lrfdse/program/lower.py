"""From an ONNX model to a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx_ir as ir

from lrfdse.ir.program import Interface, Program, Value
from lrfdse.program.affine import absorbed
from lrfdse.program.alike import alike
from lrfdse.program.build import Builder, Tensor
from lrfdse.program.cells import Factors, cells_read
from lrfdse.program.fold import folded
from lrfdse.program.foreign import foreign
from lrfdse.program.fuse import fused
from lrfdse.program.layout import dense
from lrfdse.program.patterns import joined
from lrfdse.program.refuse import EXTENDED, OWN, STANDARD, Refusal, raise_if_any
from lrfdse.program.rules import (
    attention,
    axes,
    convolutions,
    elementwise,
    gathering,
    normalization,
    pooling,
    products,
    quantization,
    recurrent,
    resizing,
    shaping,
    spectra,
)
from lrfdse.program.simplify import simplified
from lrfdse.program.site import Rules, Site, element_of, shape_of
from lrfdse.program.tidy import needed, numbered, written_in_place

ANY: Rules = {**shaping.RULES, **gathering.RULES, **axes.RULES, **quantization.RULES}
"""Rules for tensors of every element type, by ONNX operator."""

FLOAT: Rules = {
    **attention.RULES,
    **convolutions.RULES,
    **elementwise.RULES,
    **normalization.RULES,
    **pooling.RULES,
    **products.RULES,
    **recurrent.RULES,
    **resizing.RULES,
    **spectra.RULES,
}
"""Rules for float32, by ONNX operator."""


def program(
    model: ir.Model,
    shapes: Mapping[str, Sequence[int]] | None = None,
    path: Path = Path("the model"),
    halves: bool = False,
) -> Program:
    """Return a model as calls of operators on flat arrays, elementwise functions fused into what they follow.

    Parameters
    ----------
    model
        Any model that onnxruntime loads; it stays as it is.
    shapes
        Sizes of inputs that the model leaves open, by the input's name. An open first size counts as one sample where
        it is not given.
    path
        Where the model is from, for messages.
    halves
        Whether weights that the model stores as float16 and casts to float32 are float16 in the program, too.

    Raises
    ------
    InputError
        Sizes are open or do not fit, onnxruntime cannot load the model, or it holds operators that nothing can
        compile: all of them are named at once, with their nodes.
    """
    plain, cells = cells_read(model)
    fixed = folded(plain, shapes or {}, path)
    joined(fixed)
    return lowered(fixed, path, halves and _has_halves(model), cells)


def _has_halves(model: ir.Model) -> bool:
    """Return whether a node makes float32 of a stored float16 matrix; onnxruntime folds such nodes away."""
    for node in model.graph:
        if node.op_type != "Cast" or node.domain not in STANDARD or node.attributes["to"].as_int() != ir.DataType.FLOAT:
            continue
        tensor = None if node.inputs[0] is None else ir.convenience.get_const_tensor(node.inputs[0])
        if tensor is not None and tensor.dtype == ir.DataType.FLOAT16 and len(tensor.shape) > 1:
            return True
    return False


def lowered(model: ir.Model, path: Path, halves: bool = False, cells: Mapping[str, Factors] | None = None) -> Program:
    """Return the program of a model whose shapes and types are all known.

    Matrices that consist of float16 numbers are stored as such where `halves`; nodes of `cells` are recurrent layers
    whose input is multiplied already, with their recurrent matrices (`lrfdse.program.cells`).

    Raises
    ------
    InputError
        It holds operators that nothing can compile.
    """
    lowering = _Lowering(model)
    lowering.build.halves, lowering.build.cells = halves, cells or {}
    for node in model.graph:
        lowering.node(node)
    raise_if_any(lowering.refused, path)
    build = lowering.build
    outputs = [lowering.output(value) for value in model.graph.outputs]
    calls = written_in_place(needed(build.calls, build.values), build.values)
    calls = alike(simplified(absorbed(fused(calls, build.values), build)), build)
    return numbered(calls, build.values, build.constants, lowering.inputs, outputs)


class _Lowering:
    """The tensors of a graph as far as it has been lowered."""

    def __init__(self, model: ir.Model) -> None:
        self.build = Builder()
        self.refused: list[Refusal] = []
        self.inputs: list[Interface] = []
        self._opsets = dict(model.opset_imports)
        self._tensors: dict[ir.Value, Tensor] = {}
        for value in model.graph.inputs:
            shape, element, name = shape_of(value), element_of(value), value.name or ""
            view = dense(shape)
            number = self.build.array(Value("input", view.size, element, name))
            self._tensors[value] = Tensor(number, view, element)
            self.inputs.append(Interface(name, number, shape))

    def node(self, node: ir.Node) -> None:
        """Lower a node."""
        self.build.node = node.name or (node.outputs[0].name if node.outputs else "") or node.op_type
        inputs = tuple(None if value is None or _is_empty(value) else self._tensor(value) for value in node.inputs)
        opset = self._opsets.get(node.domain, self._opsets.get("ai.onnx" if node.domain == "" else "", 1))
        at = Site(node, inputs, self.build, opset)
        found = _by_rule(at)
        if found is None and (node.domain not in STANDARD or node.op_type in OWN):
            self.refused.append(Refusal(node.op_type, node.name or "", _why_not(at)))
            # What follows is looked at as well, so that one error names all that is wrong.
            found = [self.build.new(dense(shape_of(value)), element_of(value)) for value in node.outputs if value.shape]
        elif found is None:
            found = foreign(at)
        for value, tensor in zip(node.outputs, found, strict=False):
            if value.uses() or value.is_graph_output():
                assert tensor.shape == shape_of(value), f"{node.op_type}: {tensor.shape} is not {shape_of(value)}"
            self._tensors[value] = tensor

    def output(self, value: ir.Value) -> Interface:
        """Copy a value to an array of the caller's."""
        self.build.node = ""
        tensor = self._tensor(value)
        view = dense(tensor.shape)
        number = self.build.array(Value("output", view.size, tensor.element, value.name or ""))
        self.build.copy_into(tensor, number, view)
        return Interface(value.name or "", number, tensor.shape)

    def _tensor(self, value: ir.Value) -> Tensor:
        if value not in self._tensors:
            content = ir.convenience.get_const_tensor(value)
            assert content is not None, f"{value.name} is computed by nothing"
            self._tensors[value] = self.build.constant(content.numpy(), value.name or "")
        return self._tensors[value]


def _is_empty(value: ir.Value) -> bool:
    """Return whether a value is a parameter without elements, as good as left out."""
    content = ir.convenience.get_const_tensor(value)
    return content is not None and content.size == 0


def _why_not(at: Site) -> str:
    node = at.node
    if node.op_type not in FLOAT and node.op_type not in ANY:
        return f"of the domain {node.domain}"
    said = recurrent.unusual(at) if node.op_type in recurrent.RULES else None
    return said or "in this form"


def _by_rule(at: Site) -> Sequence[Tensor] | None:
    name = at.node.op_type
    if at.node.domain not in EXTENDED:
        return None
    if name in ANY:
        return ANY[name](at)
    if name not in FLOAT or any(each is not None and each.element != "float32" for each in at.inputs[:1]):
        return None
    return FLOAT[name](at)
