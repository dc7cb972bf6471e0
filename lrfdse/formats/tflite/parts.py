"""Tensors, constants and operators that are added to a TensorFlow Lite file in the making."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrfdse.formats.tflite.flatbuffer import DTYPES, IDENTIFIER, schema

SAME, VALID = 0, 1
"""The schema's numbers of paddings (Padding)."""

RELU, RELU6 = 1, 3
"""The schema's numbers of fused activations (ActivationFunctionType)."""

DEQUANTIZE_VERSION = 5
"""Version of DEQUANTIZE that has a scale for each index of an axis (tools/versioning/op_version.cc of LiteRT)."""

_NO_BUFFER = 0
"""The buffer of tensors that are computed: by the schema's rule the first one of a file is empty."""

KINDS = {np.dtype(dtype): kind for kind, dtype in DTYPES.items()}
"""NumPy's element types and the schema's names of them."""


class Parts:
    """Adds to the schema's objects of a file and of its main graph.

    Parameters
    ----------
    model
        The schema's object of the file.
    graph
        That of its main graph.
    """

    def __init__(self, model: Any, graph: Any) -> None:
        self._s, self._model, self._graph = schema(), model, graph

    def tensor(
        self,
        sizes: Sequence[int],
        kind: str,
        name: str,
        signature: Sequence[int] | None = None,
        buffer: int = _NO_BUFFER,
    ) -> int:
        """Add a tensor of a type by the schema's name, and return its number, which its name ends with, too."""
        tensor = self._s.TensorT()
        tensor.shape, tensor.type, tensor.buffer = list(sizes), getattr(self._s.TensorType, kind), buffer
        tensor.name, tensor.hasRank = f"{name}/{len(self._graph.tensors)}", True
        if signature is not None:
            tensor.shapeSignature = list(signature)
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def constant(self, array: NDArray[Any], name: str) -> int:
        """Store an array and return the number of its tensor."""
        buffer = self._s.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        return self.tensor(array.shape, KINDS[array.dtype], name, buffer=len(self._model.buffers) - 1)

    def levels(self, array: NDArray[np.int8], scales: NDArray[np.float32], axis: int, name: str) -> int:
        """Store int8 levels, with what one is worth for each index of an axis, and return the number of the tensor."""
        stored = self.constant(array, name)
        found = self._s.QuantizationParametersT()
        found.scale, found.quantizedDimension = scales.astype(np.float32), axis
        found.zeroPoint = np.zeros(len(scales), np.int64)
        self._graph.tensors[stored].quantization = found
        return stored

    def operator(
        self, name: str, inputs: Sequence[int], outputs: Sequence[int], options: str, version: int = 1, **values: Any
    ) -> Any:
        """Return an operator, which stands in no graph yet.

        Parameters
        ----------
        name
            The schema's name.
        inputs, outputs
            Numbers of tensors; -1 for an input that is left out.
        options
            The schema's name of its options; empty for none.
        version
            The least version that has what is used of it.
        values
            Options by the schema's names.
        """
        made = self._s.OperatorT()
        made.opcodeIndex = self._code(getattr(self._s.BuiltinOperator, name), version)
        made.inputs, made.outputs = list(inputs), list(outputs)
        if options:
            made.builtinOptions = getattr(self._s, f"{options}T")()
            made.builtinOptionsType = getattr(self._s.BuiltinOptions, options)
            for option, value in values.items():
                setattr(made.builtinOptions, option, value)
        return made

    def _code(self, number: int, version: int) -> int:
        for place, code in enumerate(self._model.operatorCodes):
            if max(code.builtinCode, code.deprecatedBuiltinCode) == number and code.version >= version:
                return place
        code = self._s.OperatorCodeT()
        # Readers of before 2020 know codes of one byte alone, and take the highest for "see the other field".
        code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), version
        self._model.operatorCodes.append(code)
        return len(self._model.operatorCodes) - 1


def packed(model: Any, size: int = 0) -> bytes:
    """Return the bytes of a file, of which the schema's object is given and about how long it will be."""
    import flatbuffers

    builder = flatbuffers.Builder(size)
    builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    return bytes(builder.Output())
