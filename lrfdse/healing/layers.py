"""Layers whose factors are trained: the matrices of their chains, and what they compute in TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lrfdse.healing.int8 import inputs_through, rounded, tops_of
from lrfdse.healing.operators.call import Call
from lrfdse.healing.operators.products import convolved
from lrfdse.ir.convolution import filters
from lrfdse.ir.factors import Factors
from lrfdse.ir.halves import halved

if TYPE_CHECKING:
    from lrfdse.ir.layer import Layer
    from lrfdse.model.match.site import Site

Weights = list[NDArray[np.float32]]
"""The numbers of a layer that are trained: the matrix of every step in execution order, and last what is added to the
bias, where the factors have that."""


def weights_of(factors: Factors) -> Weights:
    """Return the numbers that are trained, as float32; of cores in int8 what their levels are worth."""
    matrices = factors.factorization.step_matrices(factors.cores)
    shift = [] if factors.bias_shift is None else [factors.bias_shift]
    return [np.ascontiguousarray(array, dtype=np.float32) for array in (*matrices, *shift)]


def factors_of(before: Factors, weights: Sequence[NDArray[np.float32]]) -> Factors:
    """Return the same factors with other numbers, of cores in int8 what is stored of them.

    Errors that were measured of the old ones are not known any more.
    """
    count, scales = len(before.cores), None
    matrices = [each.astype(np.float64) for each in weights[:count]]
    if before.scales is not None:
        stored = [rounded(each, tops) for each, tops in zip(weights[:count], tops_of(before), strict=True)]
        matrices, scales = [each.dense() for each in stored], tuple(each.scales for each in stored)
        scales = scales if before.factorization.direction == "lr" else scales[::-1]
    cores = before.factorization.step_cores(matrices)
    shift = None if before.bias_shift is None else weights[count].astype(np.float64)
    return replace(
        before,
        cores=halved(cores) if before.halves else tuple(cores),
        bias_shift=shift,
        output_error=None,
        loss=None,
        scales=scales,
    )


@dataclass(frozen=True, slots=True)
class Product:
    """One use of a layer in the part of the graph that is differentiated."""

    layer: Layer
    factors: Factors
    """Its shape counts; the numbers are handed in."""
    site: Site

    def value(self, call: Call, x: Any, weights: Sequence[Any]) -> Any:
        """Return what stands in the place of the layer's node, bias included where the node itself has it.

        Parameters
        ----------
        call
            The node that applies the layer's matrix in the original.
        x
            The activation that the layer reads.
        weights
            Tensors as `weights_of` orders them.
        """
        matrices, shift = weights[: len(self.factors.cores)], weights[len(self.factors.cores) :]
        if self.layer.kind == "conv":
            found = self._filtered(call, x, matrices)
            bias = call.input(2)
            along = [-1, *[1] * (len(found.shape) - 2)]
            for each in (*([] if bias is None else [bias]), *shift):
                found = found + call.tf.reshape(each, along)
            return found
        found = self._multiplied(call.tf, x, matrices)
        if call.op == "Gemm" and call.input(2) is not None:
            found = found + call.attributes.get("beta", 1.0) * call.input(2)
        column = self.site.out_axis == -2
        for each in shift:
            found = found + (each[:, None] if column else each)
        return found

    def _multiplied(self, tf: Any, x: Any, matrices: Sequence[Any]) -> Any:
        """Return the product along one axis, step by step as `Factorization.steps` has it."""
        f, layer, site = self.factors.factorization, self.layer, self.site
        x = tf.linalg.matrix_transpose(x) if site.in_axis == -2 else x
        leading = [int(size) for size in x.shape[:-1]]
        value = rows = tf.reshape(x, [-1, layer.inputs])
        if f.inputs > layer.inputs:
            value = tf.pad(value, [(0, 0), (0, f.inputs - layer.inputs)])
        roundings = self.factors.roundings or (None,) * len(matrices)
        for step, matrix, rounding in zip(f.steps(math.prod(leading)), matrices, roundings, strict=True):
            value = value if rounding is None else inputs_through(tf, value, rounding)
            if f.repair and matrix is matrices[-1]:
                value += tf.linalg.matmul(rows, matrix, transpose_b=True)
                continue
            if step.columns == 1:
                value = tf.linalg.matmul(tf.reshape(value, [-1, step.inner]), matrix, transpose_b=True)
                continue
            # One product over all batches is faster than one a batch, two transpositions included.
            turned = tf.transpose(tf.reshape(value, [-1, step.inner, step.columns]), [0, 2, 1])
            made = tf.linalg.matmul(tf.reshape(turned, [-1, step.inner]), matrix, transpose_b=True)
            value = tf.transpose(tf.reshape(made, [-1, step.columns, step.out]), [0, 2, 1])
        value = tf.reshape(value, [-1, f.outputs])[:, : layer.outputs]
        value = tf.reshape(value, [*leading, layer.outputs])
        return tf.linalg.matrix_transpose(value) if site.out_axis == -2 else value

    def _filtered(self, call: Call, x: Any, matrices: Sequence[Any]) -> Any:
        """Return the chain's convolutions one after the other, each with the attributes that its filter has."""
        tf, site, window = call.tf, self.site, self.site.window
        assert window is not None
        for part, matrix in zip(
            filters(self.factors.factorization, window, self.layer.channels), matrices, strict=True
        ):
            height, width = part.window.kernel
            weight = tf.transpose(tf.reshape(matrix, [part.outputs, width, height, part.inputs]), [0, 3, 2, 1])
            first = 1 if site.rank == 3 else 0
            weight = weight[:, :, 0] if site.rank == 3 else weight
            attributes = {
                "auto_pad": call.attributes.get("auto_pad", "NOTSET"),
                "strides": part.window.strides[first:],
                "dilations": part.window.dilations[first:],
                "pads": part.window.pads[first :: 1 + first],
            }
            x = convolved(replace(call, attributes=attributes), x, weight, None)
        return x
