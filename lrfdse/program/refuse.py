"""What no operator of a program stands for and nothing can compile, found before anything is compiled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from lrfdse.base.text import one_line
from lrfdse.errors import InputError
from lrfdse.program.build import ELEMENTS

DYNAMIC = frozenset({"Compress", "NonMaxSuppression", "NonZero", "Unique"})
"""Operators whose outputs have shapes that depend on what the inputs hold."""

RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
"""Operators that need a source of randomness."""

UNKNOWN = frozenset(
    {
        "BitCast",
        "BlackmanWindow",
        "CausalConvWithState",
        "CenterCropPad",
        "Col2Im",
        "ConvInteger",
        "CumProd",
        "DeformConv",
        "Det",
        "HammingWindow",
        "HannWindow",
        "ImageDecoder",
        "LinearAttention",
        "MelWeightMatrix",
        "NegativeLogLikelihoodLoss",
        "QLinearConv",
        "QLinearMatMul",
        "RNN",
        "RegexFullMatch",
        "RotaryEmbedding",
        "SoftmaxCrossEntropyLoss",
        "StringConcat",
        "StringNormalizer",
        "StringSplit",
        "SwiGLU",
        "TensorScatter",
        "TfIdfVectorizer",
    }
)
"""Operators that TVM's Relax 0.27 does not import, and that no rule stands for."""

OWN = frozenset(
    {
        "Attention",
        "Celu",
        "CumSum",
        "DFT",
        "GRU",
        "LSTM",
        "LpNormalization",
        "OneHot",
        "ReverseSequence",
        "Scatter",
        "ScatterElements",
        "STFT",
        "ScatterND",
        "Swish",
        "TopK",
    }
)
"""Operators that Relax does not import, takes for others of that name (Attention), or makes nothing of that
can be compiled (CumSum, OneHot, Scatter..., TopK), but that there are rules for: a node that its rule leaves alone
cannot be compiled."""

PARAMETERS: Mapping[str, tuple[int, ...]] = {
    "AffineGrid": (1,),
    "BlackmanWindow": (0,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "ConstantOfShape": (0,),
    "CumProd": (1,),
    "CumSum": (1,),
    "DFT": (1, 2),
    "Expand": (1,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "MaxUnpool": (2,),
    "MelWeightMatrix": (0, 1, 2, 3, 4),
    "OneHot": (1,),
    "Pad": (1, 3),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "ReverseSequence": (1,),
    "STFT": (1, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Trilu": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
    **dict.fromkeys(
        (
            "ReduceL1",
            "ReduceL2",
            "ReduceLogSum",
            "ReduceLogSumExp",
            "ReduceMax",
            "ReduceMean",
            "ReduceMin",
            "ReduceProd",
            "ReduceSum",
            "ReduceSumSquare",
        ),
        (1,),
    ),
}
"""Inputs that say what shape an output has, or along which axis an operator works: they have to be constants."""

STANDARD = frozenset({"", "ai.onnx"})
"""The domains of ONNX's own operators."""

EXTENDED = frozenset({*STANDARD, "com.microsoft"})
"""Domains of operators that there may be rules for: onnxruntime's optimizer writes some of its own."""

_NODES_NAMED = 3
"""Nodes of one operator that a message names: enough to find them. Chosen."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A node that cannot be part of a program."""

    operator: str
    node: str
    reason: str


def foreign_domains(model: ir.Model) -> list[Refusal]:
    """Return the nodes of domains that onnxruntime does not know either; the model's own functions are known."""
    functions = {(function.domain, function.name) for function in model.functions.values()}
    return [
        Refusal(node.op_type, node.name or "", f"of the domain {node.domain}")
        for node in model.graph
        if (node.domain, node.op_type) not in functions and node.domain not in EXTENDED
    ]


def ends_in(model: ir.Model) -> list[Refusal]:
    """Return the nodes that read an input, or give an output, of the model that is a sequence or optional."""
    refused = []
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.type is None or isinstance(value.type, ir.TensorType):
            continue
        producer = value.producer()
        nodes = [producer] if producer is not None else [node for node, _ in value.uses()]
        refused += [Refusal(node.op_type, node.name or "", f"of {type(value.type).__name__}") for node in nodes]
    return refused


def found_in(model: ir.Model) -> list[Refusal]:
    """Return the nodes of a folded model whose outputs cannot be flat arrays of a known size."""
    return [
        Refusal(node.op_type, node.name or "", reason) for node in model.graph if (reason := _reason(node)) is not None
    ]


def types_in(graph: ir.Graph) -> list[Refusal]:
    """Return the nodes that read or write what is no dense array of numbers, once all types are known."""
    refused = []
    for node in graph:
        values = [value for value in (*node.inputs, *node.outputs) if value is not None]
        used = [value for value in values if value.uses() or value.is_graph_output()]
        if kinds := [kind for value in used if not _is_left_out(value, node) and (kind := _kind(value))]:
            refused.append(Refusal(node.op_type, node.name or "", kinds[0]))
    ends = [("an input", value) for value in graph.inputs] + [("an output", value) for value in graph.outputs]
    refused += [Refusal(end, value.name or "", kind) for end, value in ends if (kind := _kind(value))]
    return refused


def raise_if_any(refused: Sequence[Refusal], path: Path) -> None:
    """Raise one error that names every operator with its nodes.

    Raises
    ------
    InputError
        There is any.
    """
    if not refused:
        return
    groups: dict[tuple[str, str], list[str]] = {}
    for each in refused:
        groups.setdefault((each.operator, each.reason), []).append(each.node)
    listed = "; ".join(f"{operator} ({reason}{_named(nodes)})" for (operator, reason), nodes in groups.items())
    raise InputError(one_line(f"{path}: these operators cannot be compiled: {listed}", 2000))


def _reason(node: ir.Node) -> str | None:
    if any(each.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for each in node.attributes.values()):
        return "control flow"
    if node.domain not in EXTENDED:
        return f"of the domain {node.domain}"
    if node.op_type in DYNAMIC:
        return "its output has no static shape"
    if node.op_type in RANDOM:
        return "random numbers"
    if node.op_type in UNKNOWN:
        return "nothing stands for it"
    if node.op_type == "Dropout" and len(node.inputs) > 2 and _trains(node.inputs[2]):
        return "random numbers"
    if any(not _is_constant(node.inputs[k]) for k in PARAMETERS.get(node.op_type, ()) if k < len(node.inputs)):
        return "its shape or axis is computed"
    return None


def _trains(mode: ir.Value | None) -> bool:
    content = ir.convenience.get_const_tensor(mode) if mode is not None else None
    return mode is not None and (content is None or bool(content.numpy().any()))


def _is_constant(value: ir.Value | None) -> bool:
    return value is None or ir.convenience.get_const_tensor(value) is not None


def _is_left_out(value: ir.Value, node: ir.Node) -> bool:
    """Return whether a value is a parameter without elements, which is as good as none."""
    content = ir.convenience.get_const_tensor(value)
    places = [place for place in PARAMETERS.get(node.op_type, ()) if place < len(node.inputs)]
    return content is not None and content.size == 0 and value in [node.inputs[place] for place in places]


def _kind(value: ir.Value) -> str | None:
    """Return why a value is no dense array of numbers, or None."""
    if value.type is not None and not isinstance(value.type, ir.TensorType):
        return f"of {type(value.type).__name__}"
    # A constant says itself what it is.
    content = ir.convenience.get_const_tensor(value)
    dtype = value.dtype if content is None else content.dtype
    shape = value.shape if content is None else content.shape
    if dtype is None or shape is None:
        return "of unknown type"
    if dtype == ir.DataType.STRING:
        return "strings"
    name = dtype.name.lower() if dtype is ir.DataType.BFLOAT16 else str(dtype.numpy().name)
    if name not in ELEMENTS:
        return f"elements of {name}"
    return "a tensor without elements" if any(size == 0 for size in shape) else None


def _named(nodes: Sequence[str]) -> str:
    named = [repr(node) for node in nodes if node][:_NODES_NAMED]
    more = len(nodes) - len(named)
    if not named:
        return f", {more} nodes" if more > 1 else ""
    return ": " + ", ".join(named) + (f" and {more} more" if more else "")
