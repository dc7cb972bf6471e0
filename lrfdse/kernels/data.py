"""Arrays for a kernel: packed weights, and random examples with an independently computed result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lrfdse.ir.int8 import LARGEST, Int8Matrix, levels_of
from lrfdse.ir.kernel import Artifact, KernelSpec
from lrfdse.ir.storage import FLOAT16
from lrfdse.kernels.layout import step_cores, tilings

if TYPE_CHECKING:
    from lrfdse.ir.factorization import Array

_DENSE_LIMIT = 4_000_000
"""Weights above which the reference contracts core by core and never holds the dense matrix: 32 MB of float64.

Chosen, not measured."""


def pack(
    artifact: Artifact, cores: Sequence[Array], bias: Array | None, scales: Sequence[NDArray[Any]] = ()
) -> list[NDArray[Any]]:
    """Return one flat array for each argument of role weight, scale or bias, in the order of the arguments.

    Parameters
    ----------
    artifact
        The kernel that will read them; packing depends on its schedule.
    cores
        Core k of shape (r_{k-1}, m_k, n_k, r_k).
    bias
        Shape (outputs,); None where the kernel has no bias.
    scales
        Of a kernel whose storage has them, for each core what a level of each output of its step is worth; the cores
        are levels times scales.

    Raises
    ------
    ValueError
        The arrays do not fit the kernel.
    """
    spec = artifact.spec
    shapes = spec.factorization.core_shapes
    if tuple(core.shape for core in cores) != shapes:
        raise ValueError(f"{spec} takes cores of shapes {shapes}, but got {[core.shape for core in cores]}")
    if (bias is not None) != spec.bias or (bias is not None and bias.shape != (spec.outputs,)):
        wanted = f"a bias of shape ({spec.outputs},)" if spec.bias else "no bias"
        raise ValueError(f"{spec} takes {wanted}, but got {'none' if bias is None else f'shape {bias.shape}'}")
    if len(scales) != (len(cores) if spec.storage.scaled else 0):
        raise ValueError(f"{spec} takes {len(cores) if spec.storage.scaled else 0} arrays of scales, not {len(scales)}")
    packed: dict[int, NDArray[Any]] = {}
    matrices = spec.factorization.step_matrices([np.asarray(core, dtype=np.float64) for core in cores])
    for core, tile, matrix in zip(step_cores(spec), tilings(spec, artifact.schedule), matrices, strict=True):
        packed[core] = tile.ordered(levels_of(matrix, scales[core])) if spec.storage.scaled else tile.pack(matrix)
    added = [] if bias is None else [bias.astype(np.float32)]
    return [*(packed[k] for k in sorted(packed)), *(np.asarray(scale, np.float32) for scale in scales), *added]


def example(artifact: Artifact, seed: int) -> tuple[list[NDArray[Any]], NDArray[np.float64]]:
    """Return random arrays for every argument that a kernel only reads, in order, and the expected output.

    The expectation has shape (rows, outputs) and is computed from the same numbers, see `reference`: for weights in
    int8, from levels times scales in float64, in float16, from the rounded ones.
    """
    spec, f = artifact.spec, artifact.spec.factorization
    rng = np.random.default_rng(seed)

    def draw(shape: tuple[int, ...], scale: float = 1.0) -> NDArray[np.float64]:
        return (scale * rng.standard_normal(shape)).astype(np.float32).astype(np.float64)

    x = draw((spec.rows, spec.inputs))
    # Each core keeps the variance of what it is multiplied by, so that long chains neither vanish nor overflow.
    cores = [draw(shape, (shape[2] * shape[3]) ** -0.5) for shape in f.core_shapes]
    if spec.storage == FLOAT16:
        cores = [core.astype(np.float16).astype(np.float64) for core in cores]
    scales: list[NDArray[np.float32]] = []
    if spec.storage.scaled:
        drawn = {
            core: _drawn(matrix, rng) for core, matrix in zip(step_cores(spec), f.step_matrices(cores), strict=True)
        }
        cores = f.step_cores([drawn[core].dense() for core in step_cores(spec)])
        scales = [drawn[core].scales for core in sorted(drawn)]
    bias = draw((spec.outputs,)) if spec.bias else None
    return [x.astype(np.float32).ravel(), *pack(artifact, cores, bias, scales)], reference(spec, x, cores, bias)


def _drawn(like: NDArray[np.float64], rng: np.random.Generator) -> Int8Matrix:
    """Return random levels with scales that differ, of a matrix's shape and about its size."""
    levels = rng.integers(-LARGEST, LARGEST, like.shape, np.int8, endpoint=True)
    scales = np.sqrt(np.mean(np.square(like))) / LARGEST * rng.uniform(0.5, 3.0, len(like))
    return Int8Matrix(levels, scales.astype(np.float32))


def reference(
    spec: KernelSpec,
    x: NDArray[np.float64],
    cores: Sequence[NDArray[np.float64]],
    bias: NDArray[np.float64] | None,
    *,
    dense_limit: int = _DENSE_LIMIT,
) -> NDArray[np.float64]:
    """Return what a kernel must give, computed in float64 by another path than the kernel's.

    The path is the dense matrix of the cores, or for large ones a tensor contraction whose order NumPy chooses; a
    kernel contracts step by step.

    Parameters
    ----------
    spec
        What the kernel computes.
    x
        Input, shape (rows, inputs).
    cores
        Core k of shape (r_{k-1}, m_k, n_k, r_k), as the kernel reads them: rounded to float32.
    bias
        Shape (outputs,), rounded alike; None where the kernel has no bias.
    dense_limit
        Weights above which the dense matrix is never held.

    Returns
    -------
    Shape (rows, outputs).
    """
    y = _product(cores, x, spec.outputs, dense_limit)
    if bias is not None:
        y = y + bias
    return np.maximum(y, 0.0) if spec.relu else y


def _product(
    cores: Sequence[NDArray[np.float64]], x: NDArray[np.float64], outputs: int, dense_limit: int
) -> NDArray[np.float64]:
    rows, inputs = x.shape
    if outputs * inputs <= dense_limit:
        dense = cores[0]
        for core in cores[1:]:
            joined = np.einsum("amnb,bpqc->ampnqc", dense, core)
            a, m, p, n, q, c = joined.shape
            dense = joined.reshape(a, m * p, n * q, c)
        return np.asarray(x @ dense[0, :outputs, :inputs, 0].T)
    modes = [core.shape[2] for core in cores]
    padded = np.zeros((rows, int(np.prod(modes))))
    padded[:, :inputs] = x
    # Axes by number: rows, then for every core its bond, output mode and input mode; NumPy finds the cheapest order.
    operands: list[Any] = [padded.reshape(rows, *modes), [0, *(3 * k + 3 for k in range(len(cores)))]]
    for k, core in enumerate(cores):
        operands += [core, [3 * k + 1, 3 * k + 2, 3 * k + 3, 3 * k + 4]]
    made = np.einsum(*operands, [0, *(3 * k + 2 for k in range(len(cores)))], optimize="optimal")
    return np.asarray(made.reshape(rows, -1)[:, :outputs])
