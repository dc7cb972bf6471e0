"""What moves elements, and computes none: reshapes, slices, joins, padding, look-ups."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lrfdse.formats.tflite.builder import Rule, Rules, Site, UnsupportedError
from lrfdse.formats.tflite.flatbuffer import Tensor

_END = np.iinfo(np.int64).max
"""A position behind the last of any axis, as ONNX's Slice takes it."""


def _axis(axis: int, tensor: Tensor) -> int:
    """Return an axis counted from the front.

    Raises
    ------
    UnsupportedError
        The tensor has no such axis.
    """
    rank = len(tensor.shape)
    if not -rank <= axis < rank:
        raise UnsupportedError(f"it has no axis {axis}")
    return axis % rank


def _reshape(site: Site) -> None:
    source, target = site.input(), site.output()
    if source.index in site.g.constants:
        site.g.alias(target.index, source.index)
        return
    if site.given(1) and site.input(1).index not in site.g.constants:
        sizes = site.op("Cast", [site.plain(1)], to=7)
    else:
        wanted = site.integers(1, "shape") if site.given(1) else list(map(int, site.option("newShape", ())))
        if source.is_open and -1 not in wanted and wanted[:1] == [source.shape[0]]:
            wanted[0] = -1
        sizes = site.whole(wanted)
    site.finish(site.op("Reshape", [site.plain(), sizes], allowzero=1))


def _as_shaped(site: Site) -> None:
    """Write what only adds or removes axes of one element as a Reshape."""
    source, target = site.input(), site.output()
    if source.index in site.g.constants:
        site.g.alias(target.index, source.index)
        return
    if 0 in target.shape:
        raise UnsupportedError("a size is 0")
    if source.is_open or target.is_open:
        sizes = [-1, *target.shape[1:]] if target.is_open else list(target.shape)
    else:
        sizes = list(target.shape)
    site.finish(site.op("Reshape", [site.plain(), site.whole(sizes)]))


def _transpose(site: Site) -> None:
    order = site.integers(1, "order of axes")
    rank = len(site.input().shape)
    if sorted(order) != list(range(rank)):
        raise UnsupportedError(f"its order of axes is {order}")
    found = site.g.constants.get(site.input().index)
    if found is not None:
        site.g.constants[site.output().index] = found.transpose(order)
    else:
        site.finish(site.op("Transpose", [site.plain()], perm=order))


def _concatenation(site: Site) -> None:
    places = range(len(site.operator.inputs))
    tensors = [site.input(place) for place in places]
    axis = _axis(int(site.option("axis")), tensors[0])
    if all(len(tensor.shape) == 4 and site.g.is_first(tensor.index) for tensor in tensors):
        values = [site.g.channels_first(tensor.index) for tensor in tensors]
        site.finish(site.op("Concat", values, axis=(0, 2, 3, 1)[axis]), first=True)
        return
    site.finish(site.op("Concat", [site.plain(place) for place in places], axis=axis))


def _pad(mode: str) -> Rule:
    def rule(site: Site) -> None:
        source, widths = site.input(), np.array(site.constant(1, "padding"), np.int64)
        if widths.shape != (len(source.shape), 2):
            raise UnsupportedError("its padding does not fit")
        first = widths.shape[0] == 4 and site.g.is_first(source.index)
        if first:
            widths = widths[[0, 3, 1, 2]]
        value = site.g.channels_first(source.index) if first else site.plain()
        operands = [value, site.whole([int(width) for width in widths.T.reshape(-1)])]
        kind = mode
        if mode == "mirror":
            kind = ("reflect", "symmetric")[int(site.option("mode"))]
            if kind == "symmetric":
                raise UnsupportedError("it mirrors with the border")
        elif site.given(2):
            operands.append(site.number(float(site.constant(2, "value").reshape(-1)[0]), source))
        site.finish(site.op("Pad", operands, mode=kind), first)

    return rule


def _slice(site: Site) -> None:
    begins, sizes = site.integers(1, "begin"), site.integers(2, "size")
    ends = [_END if size == -1 else begin + size for begin, size in zip(begins, sizes, strict=True)]
    axes = list(range(len(begins)))
    site.finish(site.op("Slice", [site.plain(), *map(site.whole, (begins, ends, axes))]))


def _strided_slice(site: Site) -> None:
    source = site.input()
    begins, ends, strides = (site.integers(place, "slice") for place in (1, 2, 3))
    if site.option("ellipsisMask") or site.option("newAxisMask") or site.option("offset", False):
        raise UnsupportedError("it slices with an ellipsis or a new axis")
    if not len(begins) == len(ends) == len(strides) <= len(source.shape):
        raise UnsupportedError("its slices do not fit")
    dropped = []
    for axis, stride in enumerate(strides):
        if site.option("shrinkAxisMask") >> axis & 1:
            dropped.append(axis)
            ends[axis] = begins[axis] + 1 if begins[axis] != -1 else _END
            continue
        if site.option("beginMask") >> axis & 1:
            begins[axis] = 0 if stride > 0 else _END
        if site.option("endMask") >> axis & 1:
            ends[axis] = _END if stride > 0 else -_END
    axes = list(range(len(begins)))
    value = site.op("Slice", [site.plain(), *map(site.whole, (begins, ends, axes, strides))])
    site.finish(site.op("Squeeze", [value, site.whole(dropped)]) if dropped else value)


def _pack(site: Site) -> None:
    shape, axis = site.output().shape, _axis(int(site.option("axis")), site.output())
    part = [*shape[:axis], 1, *shape[axis + 1 :]]
    values = []
    for place in range(len(site.operator.inputs)):
        # Some converters have numbers as vectors of one element here, which LiteRT takes for the same.
        is_alike = len(site.input(place).shape) == len(shape) - 1
        operator = ("Unsqueeze", [axis]) if is_alike else ("Reshape", part)
        values.append(site.op(operator[0], [site.plain(place), site.whole(operator[1])]))
    site.finish(site.op("Concat", values, axis=axis))


def _unpack(site: Site) -> None:
    axis, count = _axis(int(site.option("axis")), site.input()), len(site.operator.outputs)
    for place, value in enumerate(_parts(site, axis, [1] * count, 0)):
        site.g.give(site.output(place).index, site.op("Squeeze", [value, site.whole([axis])]))


def _parts(site: Site, axis: int, sizes: Sequence[int], source: int) -> list[str]:
    names = [site.g.free(f"{site.name}/Split") for _ in sizes]
    return site.g.nodes_of("Split", [site.plain(source), site.whole(sizes)], site.name, names, axis=axis)


def _split(site: Site) -> None:
    source, count = site.input(1), len(site.operator.outputs)
    axis = _axis(site.integers(0, "axis")[0], source)
    if source.shape[axis] % count:
        raise UnsupportedError("its parts are unequal")
    for place, value in enumerate(_parts(site, axis, [source.shape[axis] // count] * count, 1)):
        site.g.give(site.output(place).index, value)


def _split_sizes(site: Site) -> None:
    axis = _axis(site.integers(2, "axis")[0], site.input())
    sizes = [site.output(place).shape[axis] for place in range(len(site.operator.outputs))]
    for place, value in enumerate(_parts(site, axis, sizes, 0)):
        site.g.give(site.output(place).index, value)


def _gather(site: Site) -> None:
    if site.option("batchDims"):
        raise UnsupportedError("it looks up by batches")
    axis = _axis(int(site.option("axis")), site.input())
    site.finish(site.op("Gather", [site.plain(), site.plain(1)], axis=axis))


def _embedding(site: Site) -> None:
    site.finish(site.op("Gather", [site.plain(1), site.plain()], axis=0))


def _shape(site: Site) -> None:
    from onnx import TensorProto

    kind = TensorProto.DataType.Value(site.output().kind)
    site.finish(site.op("Cast", [site.op("Shape", [site.plain()])], to=kind))


def _with_sizes(op_type: str) -> Rule:
    def rule(site: Site) -> None:
        site.finish(site.op(op_type, [site.plain(), site.op("Cast", [site.plain(1)], to=7)]))

    return rule


def _arg(op_type: str) -> Rule:
    def rule(site: Site) -> None:
        from onnx import TensorProto

        axis = _axis(site.integers(1, "axis")[0], site.input())
        found = site.op(op_type, [site.plain()], axis=axis, keepdims=0)
        site.finish(site.op("Cast", [found], to=TensorProto.DataType.Value(site.output().kind)))

    return rule


def _reduction(op_type: str, *, axes_are_input: bool = False) -> Rule:
    def rule(site: Site) -> None:
        source = site.input()
        axes = sorted({_axis(axis, source) for axis in site.integers(1, "axes")})
        kept = bool(site.option("keepDims", False))
        # Rows and columns together leave (samples, channels) in either order of axes.
        first = site.g.is_first(source.index) and (kept or axes == [1, 2])
        if first:
            axes = sorted((0, 2, 3, 1)[axis] for axis in axes)
        value = site.g.channels_first(source.index) if first else site.plain()
        if axes_are_input:
            found = site.op(op_type, [value, site.whole(axes)], keepdims=int(kept))
        else:
            found = site.op(op_type, [value], axes=axes, keepdims=int(kept))
        site.finish(found, first and kept)

    return rule


def _normalized(site: Site) -> None:
    """Write L2_NORMALIZATION over the last axis, with the least norm that LiteRT's kernel divides by, 1e-6."""
    value = site.plain()
    norm = site.op("ReduceL2", [value], axes=[-1], keepdims=1)
    site.finish(site.op("Div", [value, site.op("Max", [norm, site.number(1e-6)])]))


RULES: Rules = {
    "RESHAPE": _reshape,
    "SQUEEZE": _as_shaped,
    "EXPAND_DIMS": _as_shaped,
    "TRANSPOSE": _transpose,
    "CONCATENATION": _concatenation,
    "PAD": _pad("constant"),
    "PADV2": _pad("constant"),
    "MIRROR_PAD": _pad("mirror"),
    "SLICE": _slice,
    "STRIDED_SLICE": _strided_slice,
    "PACK": _pack,
    "UNPACK": _unpack,
    "SPLIT": _split,
    "SPLIT_V": _split_sizes,
    "GATHER": _gather,
    "EMBEDDING_LOOKUP": _embedding,
    "SHAPE": _shape,
    "TILE": _with_sizes("Tile"),
    "BROADCAST_TO": _with_sizes("Expand"),
    "ARG_MAX": _arg("ArgMax"),
    "ARG_MIN": _arg("ArgMin"),
    "MEAN": _reduction("ReduceMean"),
    "SUM": _reduction("ReduceSum", axes_are_input=True),
    "REDUCE_MAX": _reduction("ReduceMax"),
    "REDUCE_MIN": _reduction("ReduceMin"),
    "REDUCE_PROD": _reduction("ReduceProd"),
    "L2_NORMALIZATION": _normalized,
}
"""The rules of this family."""
