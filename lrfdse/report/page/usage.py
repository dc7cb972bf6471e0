"""How to use a design: its files, a Python snippet, a C snippet with its own symbols."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lrfdse.results.designs import KernelArgument, KernelFunction
    from lrfdse.results.document import Document
    from lrfdse.results.layers import Choice


def usage_of(document: Document) -> dict[str, Any] | None:
    """Return what a page says about using the recommended design, or None where no files of it were kept."""
    design = document.best
    if design is None or not design.model:
        return None
    model = design.model
    kernels = [_kernel(kernel, design.plan) for kernel in document.kernels]
    compressed = [kernel for kernel, row in zip(document.kernels, kernels, strict=True) if row["compressed"]]
    shown = max(compressed or document.kernels, key=_weights, default=None)
    return {
        "model": model,
        "folder": model.rpartition("/")[0] + "/",
        # Only a path that lrfdse itself writes becomes a link: another may be anything.
        "linked": re.fullmatch(r"designs/[0-9a-f]{8}/model\.onnx", model) is not None,
        "python": python_snippet(model),
        "library": design.whole_model.library,
        "kernels": kernels,
        "c": None if shown is None else c_snippet(shown),
    }


def python_snippet(model: str) -> str:
    """Return Python that opens the model."""
    return f"import onnxruntime\n\nsession = onnxruntime.InferenceSession({model!r})"


def c_snippet(kernel: KernelFunction) -> str:
    """Return C that calls a kernel: its buffers, its weights by the header's offsets, one call.

    The call is made only on a machine that has what the kernel was compiled for.
    """
    name, symbol, listed = kernel.name, kernel.symbol, kernel.arguments
    buffers = [a for a in listed if a.role in ("input", "output", "work")]
    comments = {"input": "in", "output": "out", "work": "scratch"}
    width = max(len(_declared(symbol, a)) for a in buffers)
    lines = [
        f'#include "{name}.h"',
        "",
        f"/* the bytes of {name}.weights.bin, linked in; 64-byte alignment is fastest, 4 the least */",
        '__asm__(".section .rodata,\\"a\\"\\n"',
        f'        ".balign 64\\n.globl {symbol}_weights\\n{symbol}_weights:\\n"',
        f'        ".incbin \\"{name}.weights.bin\\"\\n.previous");',
        f"extern const unsigned char {symbol}_weights[];",
        "",
        *(f"{_declared(symbol, a):{width}} /* {comments[a.role]} */" for a in buffers),
        "",
        f"int run_{symbol}(void)",
        "{",
        f"    if (!{symbol}_supported())",
        "        return -1; /* this machine lacks what the kernel was compiled for: its numbers could be wrong */",
        f"    {symbol}({_call(symbol, listed)});",
        "    return 0;",
        "}",
    ]
    return "\n".join(lines)


def _declared(symbol: str, argument: KernelArgument) -> str:
    return f"static float {symbol}_{argument.name}[{argument.elements}];"


def _call(symbol: str, listed: Sequence[KernelArgument]) -> str:
    gap = ",\n" + " " * (len(symbol) + 5)
    values = [
        f"(const float *)({symbol}_weights + {symbol.upper()}_{a.name.upper()}_OFFSET)"
        if a.role in ("weight", "bias")
        else f"{symbol}_{a.name}"
        for a in listed
    ]
    return gap.join(values)


def _kernel(kernel: KernelFunction, plan: Mapping[str, Choice]) -> dict[str, Any]:
    choice = plan[kernel.layer]
    return {
        "layer": kernel.layer,
        "name": kernel.name,
        "symbol": kernel.symbol,
        "rows": kernel.rows,
        "relu": kernel.relu,
        "weights": _weights(kernel),
        "scratch": sum(argument.bytes for argument in kernel.arguments if argument.role == "work"),
        "factorization": str(choice),
        "compressed": not choice.is_original,
    }


def _weights(kernel: KernelFunction) -> int:
    """Return the bytes of the arrays that a weights file holds."""
    return sum(argument.bytes for argument in kernel.arguments if argument.role in ("weight", "bias"))
