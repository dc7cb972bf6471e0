"""One input of a model with the outputs that onnxruntime computes for it: what a library is held against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfdse.ir.latency import TOLERANCE
from lrfdse.library.interface import Signature
from lrfdse.library.layout import LINE
from lrfdse.library.names import comment, macro
from lrfdse.meters.block import relative_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPREADS = 4.0
"""How many times what onnxruntime's two ways of computing a model differ by an output may be off. Chosen: three results
of the same exact value, each off by rounding in its own way, lie within a few of their distances."""

LOOSEST = 1e-2
"""Largest error of an output that is called right, however much rounding changes it. Chosen: on the inputs that showed
rounding of 3e-3 (a detector on noise, whose output is 6e-5 at most), wrong code is off by the whole output."""

FAINTEST = 0.5
"""Largest error that is called right of an output that is computed to a part of 1 and is next to nothing. Chosen: code
that gives nothing at all is off by 1."""

ROUNDED = 5e-2
"""Largest error that is called right of a model in whole numbers: where the last bit of a float decides between two
levels, what follows is off by a level. Chosen: on noise the outputs of a LeNet-300 reach half of their 127 levels, so
that two levels are 3 %; wrong code is off by the whole output."""

MOST_IN_HEADER = 1 << 17
"""Bytes of inputs and outputs up to which they stand in ``test_vectors.h`` as numbers; more are a file beside it.

Chosen: a quarter of a million numbers compile in a second and take some ten bytes of text each."""

FILE = "test_vectors.bin"
"""Name of that file."""


@dataclass(frozen=True, slots=True)
class Vectors:
    """Arrays in the order of a library's inputs and outputs, in its element types."""

    inputs: tuple[NDArray[Any], ...]
    outputs: tuple[NDArray[Any], ...]
    tolerance: float = TOLERANCE
    """Largest error of an output that counts as right, relative to its largest element."""


def tells_nothing(output: NDArray[Any]) -> bool:
    """Return whether an output is the same everywhere, so that right code and wrong may give it alike.

    >>> tells_nothing(np.zeros(3)), tells_nothing(np.full(2, np.nan)), tells_nothing(np.zeros(1))
    (True, True, False)
    """
    flat = output.ravel()
    return flat.size > 1 and bool(((flat == flat[0]) | ((flat != flat) & (flat[0] != flat[0]))).all())


def tolerance_of(outputs: Sequence[NDArray[Any]], others: Sequence[NDArray[Any]], steps: Sequence[float] = ()) -> float:
    """Return which error counts as right where the same model, computed in another way, gives `others`.

    Some models lose all digits but a few on some inputs. That tells nothing of the code that runs them, so the
    tolerance is widened to what rounding explains.

    Parameters
    ----------
    outputs, others
        Outputs of the model, computed in two ways.
    steps
        By how much each output may be off whatever it is, in its own unit; nothing where none are given.

    >>> one = np.array([1.0, 2.0])
    >>> tolerance_of([one], [one + 1e-7]), tolerance_of([one], [one * 1.001]), tolerance_of([one], [one * 2])
    (0.0001, 0.004, 0.01)
    >>> tolerance_of([one], [one], [1e-7]), tolerance_of([one / 2e6], [one / 2e6], [1e-7])
    (0.0001, 0.1)
    """
    pairs = zip(outputs, others, strict=True)
    spread = max((relative_error(other, output) for output, other in pairs), default=0.0)
    rounding = min(max(TOLERANCE, SPREADS * spread), LOOSEST)
    largest = [float(np.abs(output[np.isfinite(output)]).max(initial=0.0)) for output in outputs]
    least = [step / size for step, size in zip(steps, largest, strict=False) if step and size]
    return float(f"{max(rounding, min(max(least, default=0.0), FAINTEST)):.3g}")


def vectors_files(facts: Signature, vectors: Vectors) -> tuple[str, bytes | None]:
    """Return the text of ``test_vectors.h``, and the content of ``test_vectors.bin`` where the arrays lie there.

    Every array begins at a multiple of `LINE` in that file.
    """
    upper = macro(facts.name)
    arrays = [*vectors.inputs, *vectors.outputs]
    names = [f"input_{n}" for n in range(len(vectors.inputs))] + [f"output_{n}" for n in range(len(vectors.outputs))]
    about = [
        f"/* An input of {comment(facts.name)} and its outputs by onnxruntime. An output is right where no element is",
        f" * off by more than {upper}_TOLERANCE times the largest finite element of the expected output. */",
        f"#ifndef {upper}_TEST_VECTORS_H",
        f"#define {upper}_TEST_VECTORS_H",
        "",
        "#include <stdint.h>",
        "",
        f"#define {upper}_TOLERANCE {vectors.tolerance:g}",
    ]
    end = ["", f"#endif /* {upper}_TEST_VECTORS_H */", ""]
    if sum(array.nbytes for array in arrays) <= MOST_IN_HEADER:
        texts = [
            f"static const {_storage(array)} {facts.name}_{name}[] = {{\n{_numbers(array)}\n}};"
            for name, array in zip(names, arrays, strict=True)
        ]
        return "\n".join([*about, "", *texts, *end]), None
    content, lines = bytearray(), [f"/* Where each array lies in {FILE}, in bytes. */"]
    for name, array in zip(names, arrays, strict=True):
        content.extend(bytes(-len(content) % LINE))
        lines.append(f"#define {upper}_{name.upper()}_AT {len(content)}")
        content.extend(_bits(array).tobytes())
    lines.append(f"#define {upper}_TEST_BYTES {len(content)}")
    return "\n".join([*about, "", *lines, *end]), bytes(content)


def _bits(array: NDArray[Any]) -> NDArray[Any]:
    """Return the elements as the library stores them, little-endian."""
    flat = np.ascontiguousarray(array).ravel()
    return flat.astype(flat.dtype.newbyteorder("<"), copy=False)


def _storage(array: NDArray[Any]) -> str:
    """Return the C type of a static array: floats are stored as their bits, which no compiler rounds."""
    return f"uint{8 * array.itemsize}_t"


def _numbers(array: NDArray[Any]) -> str:
    flat = np.ascontiguousarray(array).ravel()
    numbers = [f"0x{number:x}" for number in flat.view(f"u{flat.itemsize}").tolist()]
    return ",\n".join(", ".join(row) for row in _rows(numbers, 120 // (2 * array.itemsize + 4)))


def _rows(numbers: Sequence[str], width: int) -> list[Sequence[str]]:
    return [numbers[start : start + width] for start in range(0, len(numbers), width)]
