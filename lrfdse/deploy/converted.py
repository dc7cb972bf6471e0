"""An ONNX model, or a design of one, as a TensorFlow Lite file: folded, of one sample, operator by operator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrfdse.errors import InputError

if TYPE_CHECKING:
    import onnx_ir as ir

    from lrfdse.model.graph import Model


def converted(model: Model, graph: ir.Model) -> bytes:
    """Return what computes the timed inference of a model in TensorFlow Lite; it was not run.

    Parameters
    ----------
    model
        The original model, of which inputs have the sizes of the timed inference.
    graph
        The model that is to be written: the original, or a design of it.

    Raises
    ------
    InputError
        Sizes are open, or operators cannot be written; the message names all of them.
    ToolError
        LiteRT's package is not installed.
    """
    import onnx

    from lrfdse.formats.tflite.written.graph import Value
    from lrfdse.formats.tflite.written.write import write_file
    from lrfdse.model.runtime import simplified
    from lrfdse.model.shapes import infer_values, is_known, shape_option
    from lrfdse.model.sized import with_sizes

    path = model.path
    if unknown := [port for port in model.inputs if not is_known(port.fixed)]:
        fix = " ".join(shape_option(port) for port in unknown)
        raise InputError(f"{path}: --format tflite: an input has open sizes: fix them with {fix}")
    folded = onnx.ModelProto.FromString(simplified(with_sizes(graph, model.inputs).SerializeToString()))
    known = {}
    for value in infer_values(folded, model.inputs, fixed=True):
        tensor = value.type.tensor_type
        sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
        if tensor.elem_type and tensor.HasField("shape") and None not in sizes:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
            known[value.name] = Value(dtype, tuple(size for size in sizes if size is not None))
    return write_file(folded, known, path)
