"""Names of layers: readable, unique, and safe as file names and as parameter names."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

import onnx_ir as ir

_ROLE = re.compile(
    r"(?:weights?|kernel|w|matmul|gemm|linear|dense)(?:_?\d+)?(?:_transposed)?(?:_quantized)?|readvariableop(?:_\d+)?|cast(?:_\d+)?|resource|quant\w*",
    re.IGNORECASE,
)
"""Last parts of a name that tell the tensor's role or operator rather than the layer."""

_GENERATED = re.compile(r"\d*|(?:onnx::|val_|const_|constant)\D*\d*|node_\w+", re.IGNORECASE)
"""Names that exporters number when the tensor had none."""

_SCOPES = "pkg.torch.onnx.name_scopes"
"""Key under which PyTorch's exporter (torch.onnx, dynamo) notes the modules that a node comes from, outermost first,
as the text of a list whose last entry is the operation."""

_LONGEST = 80
"""Characters that the name of a file made from a layer's name has at most."""


def module_of(node: ir.Node) -> str:
    """Return the name of the PyTorch module that a node was exported from; "" where the file does not say.

    >>> node = ir.node("MatMul", [])
    >>> node.metadata_props["pkg.torch.onnx.name_scopes"] = "['', 'encoder', 'encoder.0.query', 'linear_3']"
    >>> module_of(node)
    'encoder.0.query'
    """
    try:
        scopes = ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return ""
    inner = [name for name in scopes[:-1] if isinstance(name, str) and name] if isinstance(scopes, list) else []
    return inner[-1] if inner else ""


def layer_name(weight: str, node: str, taken: set[str]) -> str:
    """Name a layer after its weight or, when an exporter numbered that, after its node; add the name to `taken`.

    >>> taken = set()
    >>> quantized = "fc2.weight_Transposed_quantized"
    >>> pairs = ("fc1.weight", ""), ("fc1/kernel:0", ""), ("onnx::MatMul_7", "/q/MatMul"), (quantized, "")
    >>> [layer_name(weight, node, taken) for weight, node in pairs]
    ['fc1', 'fc1_2', 'q', 'fc2']
    >>> layer_name("../../etc/passwd", "", taken), layer_name("42", "", taken)
    ('etc.passwd', 'fc')
    """
    base = (_readable(weight) or _readable(node) or "fc")[:_LONGEST]
    name, number = base, 1
    # Compared without case: some file systems do not tell "FC" from "fc".
    while name.casefold() in taken:
        number += 1
        name = f"{base}_{number}"
    taken.add(name.casefold())
    return name


def joint_name(names: Sequence[str]) -> str:
    """Return a name for layers that are joined: what their names have in common, then the rest of each.

    >>> joint_name(["block.0.attention.query", "block.0.attention.key"]), joint_name(["a.up", "b.gate"])
    ('block.0.attention.query-key', 'a_up-b_gate')
    """
    parts = [name.split(".") for name in names]
    common = 0
    while all(len(each) > common + 1 and each[common] == parts[0][common] for each in parts):
        common += 1
    return ".".join([*parts[0][:common], "-".join("_".join(each[common:]) for each in parts)])


def _readable(name: str) -> str:
    name = re.sub(r":\d+$", "", name)
    if _GENERATED.fullmatch(name):
        return ""
    parts = [part for part in re.split(r"[/.\\]+", name) if part]
    while len(parts) > 1 and _ROLE.fullmatch(parts[-1]):
        parts.pop()
    safe = [re.sub(r"[^A-Za-z0-9_-]+", "_", part).strip("_-") for part in parts]
    return ".".join(part for part in safe if part)
