"""How to use a design: its files, a Python snippet, a C snippet with its own symbols."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from lrfdse.report.document import recommended_of

if TYPE_CHECKING:
    from lrfdse.report.document import Document


def usage_of(document: Document) -> dict[str, Any] | None:
    """Return what a page says about using the recommended design, or None where no files of it were kept."""
    design = recommended_of(document)
    if design is None or not design["model"]:
        return None
    model = design["model"]
    factors = design["plan"]
    kernels = [_kernel(kernel, factors) for kernel in document.get("kernels", ())]
    factorized = [k for k, row in zip(document.get("kernels", ()), kernels, strict=True) if row["compressed"]]
    shown = max(factorized or document.get("kernels", ()), key=_weights, default=None)
    return {
        "model": model,
        "folder": model.rpartition("/")[0] + "/",
        # Only a path that lrfdse itself writes becomes a link: another may be anything.
        "linked": re.fullmatch(r"designs/[0-9a-f]{8}/model\.onnx", model) is not None,
        "python": python_snippet(model),
        "kernels": kernels,
        "c": None if shown is None else c_snippet(shown),
    }


def python_snippet(model: str) -> str:
    """Return Python that opens the model."""
    return f"import onnxruntime\n\nsession = onnxruntime.InferenceSession({model!r})"


def c_snippet(kernel: dict[str, Any]) -> str:
    """Return C that calls a kernel of `front.json`: its buffers, its weights by the header's offsets, one call.

    The call is made only on a machine that has what the kernel was compiled for.
    """
    name, symbol, listed = kernel["name"], kernel["symbol"], kernel["arguments"]
    buffers = [a for a in listed if a["role"] in ("input", "output", "work")]
    comments = {"input": "in", "output": "out", "work": "scratch"}
    width = max(len(_declared(symbol, a)) for a in buffers)
    lines = [
        f'#include "{name}.h"',
        "",
        f"/* the bytes of {name}.weights.bin: linked in, in flash or mapped; 64-byte alignment is fastest */",
        f"extern const unsigned char {symbol}_weights[];",
        "",
        *(f"{_declared(symbol, a):{width}} /* {comments[a['role']]} */" for a in buffers),
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


def _declared(symbol: str, argument: dict[str, Any]) -> str:
    return f"static float {symbol}_{argument['name']}[{int(argument['floats'])}];"


def _call(symbol: str, listed: list[dict[str, Any]]) -> str:
    gap = ",\n" + " " * (len(symbol) + 5)
    values = [
        f"(const float *)({symbol}_weights + {symbol.upper()}_{a['name'].upper()}_OFFSET)"
        if a["role"] in ("weight", "bias")
        else f"{symbol}_{a['name']}"
        for a in listed
    ]
    return gap.join(values)


def _kernel(kernel: dict[str, Any], plan: dict[str, str]) -> dict[str, Any]:
    factorization = plan[kernel["layer"]]
    return {
        "layer": kernel["layer"],
        "name": kernel["name"],
        "symbol": kernel["symbol"],
        "rows": kernel["rows"],
        "relu": kernel["relu"],
        "weights": 4 * _weights(kernel),
        "scratch": 4 * sum(a["floats"] for a in kernel["arguments"] if a["role"] == "work"),
        "factorization": factorization,
        "compressed": factorization != "dense",
    }


def _weights(kernel: dict[str, Any]) -> int:
    return sum(int(a["floats"]) for a in kernel["arguments"] if a["role"] in ("weight", "bias"))
