"""Fourier transforms as products with constant matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.program.build import Tensor
from lrfdse.program.contraction import contract
from lrfdse.program.layout import Axis, Part, View
from lrfdse.program.site import Rules, Site

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST = 2**25
"""Elements of a matrix at most, 128 MiB: that of a transform of 4,096 real numbers. Chosen."""


def _dft(at: Site) -> Sequence[Tensor] | None:
    x = at.input(0)
    rank = len(x.shape)
    axes = at.integers(2)
    if at.is_computed(1) or at.is_computed(2):
        return None
    axis = at.attribute("axis", 1) if at.opset < 20 else axes[0] if axes else -2
    given = at.integers(1)
    inverse, onesided = (bool(at.attribute(name, 0)) for name in ("inverse", "onesided"))
    size = x.shape[axis % rank]
    length = given[0] if given else 2 * (size - 1) if inverse and onesided else size
    found = _transformed(at, x, axis % rank, length, inverse, onesided)
    return None if found is None or found.shape != at.shape() else [found]


def _stft(at: Site) -> Sequence[Tensor] | None:
    signal, step, given = at.input(0), at.integers(1), at.integers(3)
    if step is None or at.is_computed(2) or at.is_computed(3):
        return None
    window = at.constant(2)
    length = given[0] if given else 0 if window is None else window.size
    batch, size = signal.shape[:2]
    parts = signal.shape[2] if len(signal.shape) == 3 else 1
    if not 0 < length <= size or (window is not None and window.size != length):
        return None
    count = 1 + (size - length) // step[0]
    axes = (batch, size * parts), (count, step[0] * parts), (length, parts), (parts, 1)
    frames = View(tuple(_axis(*each) for each in axes))
    x = at.build.ordered(signal).seen(frames)
    found = _transformed(at, x, 2, length, False, bool(at.attribute("onesided", 1)), window)
    return None if found is None or found.shape != at.shape() else [found]


def _axis(size: int, stride: int) -> Axis:
    return (Part(size, stride),) if size > 1 else ()


def _transformed(
    at: Site,
    x: Tensor,
    axis: int,
    length: int,
    inverse: bool,
    onesided: bool,
    window: NDArray[np.float32] | None = None,
) -> Tensor | None:
    """Return the transform of an axis of a tensor whose last one is real and imaginary parts, or the former alone."""
    size, rank = x.shape[axis], len(x.shape)
    matrix = _matrix(size, x.shape[-1], length, inverse, onesided)
    if matrix is None:
        return None
    made, held = matrix.shape[:2]
    if window is not None:
        matrix = matrix * window.reshape(-1, 1)
    # The parts of a number stand beside its index, as rows and columns of the matrix have them.
    order = [*range(axis + 1), rank - 1, *range(axis + 1, rank - 1)]
    x = x.transpose(order)
    outside, inside = x.shape[:axis], x.shape[axis + 2 :]
    x = at.build.reshaped(x, (*outside, size * matrix.shape[3], *inside))
    y = contract(at.build, x, axis, matrix.reshape(made * held, -1).astype(np.float32))
    y = at.build.reshaped(y, (*outside, made, held, *inside))
    return y.transpose(list(np.argsort(order)))


def _matrix(size: int, parts: int, length: int, inverse: bool, onesided: bool) -> NDArray[np.float64] | None:
    """Return what each part of each input adds to each part of each output: (outputs, parts, inputs, parts).

    Inputs beyond the length add nothing, and those that are missing up to it are zeros.
    """
    made = length if not onesided or inverse else length // 2 + 1
    held = 1 if onesided and inverse else 2
    if made * held * size * parts > MOST:
        return None
    turns = np.outer(np.arange(made), np.arange(size)) % length / length
    angle = 2 * np.pi * turns * (1 if inverse else -1)
    weight = np.full(size, 1 / length if inverse else 1.0)
    if onesided and inverse:
        # The other half is the conjugate of this one; what has no partner counts once.
        number = np.arange(size)
        weight = weight * np.where((number == 0) | (2 * number == length), 1, 2) * (2 * number <= length)
    else:
        weight[length:] = 0
    cosine, sine = np.cos(angle) * weight, np.sin(angle) * weight
    matrix = np.stack([np.stack([cosine, -sine], -1), np.stack([sine, cosine], -1)], 1)
    return matrix[:, :held, :, :parts]


RULES: Rules = {"DFT": _dft, "STFT": _stft}
"""Rules for float32 tensors."""
