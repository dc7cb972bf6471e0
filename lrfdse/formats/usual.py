"""Models in their usual form: what exporters write in ways of their own becomes what everything else reads."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.errors import InputError

if TYPE_CHECKING:
    import onnx

_MOST_DENSE, _BEST_RATIO = 1 << 26, 1000
"""A sparse tensor may become so many bytes, or so many times what is stored, if that is more. Chosen: a matrix of
which one element in a thousand is not 0 is worth storing sparsely, and one far emptier is no weight."""


def store_densely(proto: onnx.ModelProto, path: Path) -> None:
    """Replace the sparse initializers of a model's graph by dense ones.

    Raises
    ------
    InputError
        One is damaged, or would become far larger than it is stored; the message names it.
    """
    from onnx import numpy_helper

    for sparse in proto.graph.sparse_initializer:
        where = f"{path}: sparse tensor {sparse.values.name!r}"
        sizes = tuple(sparse.dims)
        try:
            values, places = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
        except (TypeError, ValueError) as error:
            raise InputError(f"{where} is damaged") from error
        stored = values.nbytes + places.nbytes
        if min(sizes, default=0) < 0 or math.prod(sizes) * values.itemsize > max(_MOST_DENSE, _BEST_RATIO * stored):
            raise InputError(f"{where} of {'x'.join(map(str, sizes))} holds {values.size} elements: refused")
        if places.ndim == 2 and places.shape[1] == len(sizes):
            limits = np.array(sizes, np.int64)
            inside = places.size == 0 or bool(((places >= 0) & (places < limits)).all())
            places = np.ravel_multi_index(tuple(places.T), sizes) if inside and places.size else places[:, 0]
        else:
            inside = places.ndim == 1 and (places.size == 0 or (places.min() >= 0 and places.max() < math.prod(sizes)))
        if not inside or places.shape != values.shape:
            raise InputError(f"{where} is damaged: its indices do not fit its values or its sizes")
        dense = np.zeros(math.prod(sizes), values.dtype)
        dense[places] = values
        proto.graph.initializer.append(numpy_helper.from_array(dense.reshape(sizes), sparse.values.name))
    del proto.graph.sparse_initializer[:]


def open_negative_sizes(proto: onnx.ModelProto) -> None:
    """Leave the sizes of inputs and outputs open that are written as a number below 0, as onnxruntime reads them."""
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        for size in value.type.tensor_type.shape.dim:
            if size.HasField("dim_value") and size.dim_value < 0:
                size.Clear()


def is_mapped(value: onnx.ValueInfoProto) -> bool:
    """Return whether a value is a list of maps, as scikit-learn's classifiers give their probabilities."""
    return bool(value.type.sequence_type.elem_type.HasField("map_type"))


def give_maps_types(proto: onnx.ModelProto) -> None:
    """Write the type of every output that is a list of maps and lacks it; the operator ZipMap makes such lists."""
    import onnx
    from onnx import helper

    untyped = {value.name: value for value in proto.graph.output if not value.HasField("type")}
    for node in proto.graph.node if untyped else ():
        if node.op_type == "ZipMap" and node.output[0] in untyped:
            names = any(attribute.name == "classlabels_strings" for attribute in node.attribute)
            key = onnx.TensorProto.STRING if names else onnx.TensorProto.INT64
            number = helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None)
            kind = helper.make_sequence_type_proto(helper.make_map_type_proto(key, number))
            untyped[node.output[0]].type.CopyFrom(kind)
