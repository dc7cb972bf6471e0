"""Runs a TensorFlow Lite model in LiteRT; a program of its own, because LiteRT trusts what it loads and may crash.

On standard input: the length of an ``.npz``, which holds every input of every run under "run/tensor", and behind it the
model. On standard output: an ``.npz`` of computed tensors under such names.
"""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray


def main(kept: bool) -> dict[str, NDArray[Any]]:
    """Return tensors by run and number: the outputs, or everything that LiteRT computed.

    Parameters
    ----------
    kept
        Whether every tensor is kept, which takes LiteRT's kernels without its delegate for CPUs.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    source = sys.stdin.buffer
    feeds = np.load(io.BytesIO(source.read(int.from_bytes(source.read(8), "little"))), allow_pickle=False)
    more: dict[str, Any] = {"experimental_preserve_all_tensors": True} if kept else {}
    if kept:
        more["experimental_op_resolver_type"] = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=source.read(), num_threads=1, **more)
    inputs, found = interpreter.get_input_details(), {}
    for run in sorted({name.partition("/")[0] for name in feeds.files}, key=int):
        for detail in inputs:
            interpreter.resize_tensor_input(detail["index"], feeds[f"{run}/{detail['index']}"].shape)
        interpreter.allocate_tensors()
        for detail in inputs:
            interpreter.set_tensor(detail["index"], feeds[f"{run}/{detail['index']}"])
        interpreter.invoke()
        for detail in interpreter.get_tensor_details() if kept else interpreter.get_output_details():
            try:
                found[f"{run}/{detail['index']}"] = interpreter.get_tensor(detail["index"])
            except ValueError:  # A tensor that nothing computed, as those of other graphs.
                continue
    return found


if __name__ == "__main__":
    packed = io.BytesIO()
    np.savez(packed, allow_pickle=False, **main(sys.argv[1] == "all"))
    sys.stdout.buffer.write(packed.getvalue())
