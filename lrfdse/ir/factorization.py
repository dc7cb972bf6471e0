"""The shape of a layer's decomposition: a chain of cores, and the matrix products that contract it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from lrfdse.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


_SIZES = r"\d+(?:x\d+)*"
"""Sizes in the text form of a factorization, such as ``4x196``."""

Direction = Literal["rl", "lr"]
"""Contraction order of a chain: right to left (last core first) or left to right."""


@dataclass(frozen=True, slots=True)
class Step:
    """One matrix product of a chain: ``out[p, j, q] = sum_k weight[j, k] * input[p, k, q]``, all C-contiguous.

    Contracting a tensor train core by core, in either direction, is a sequence of such steps in which the output of
    one, reinterpreted with other sizes, is the input of the next: no transpose is ever needed (docs/method.md).
    """

    batch: int
    out: int
    inner: int
    columns: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the step."""
        return self.batch * self.out * self.inner * self.columns

    @property
    def input_size(self) -> int:
        """Elements read."""
        return self.batch * self.inner * self.columns

    @property
    def output_size(self) -> int:
        """Elements written."""
        return self.batch * self.out * self.columns

    def padded_macs(self, lanes: int) -> int:
        """MACs with the vector axis rounded up to whole vectors, for the axis where that costs least.

        The inner axis can carry the vector only when ``columns == 1`` (otherwise it is not contiguous).

        >>> Step(batch=1, out=9, inner=784, columns=1).padded_macs(8)
        7056
        >>> Step(batch=1, out=9, inner=10, columns=3).padded_macs(8)
        480
        """

        def up(size: int) -> int:
            return -(-size // lanes) * lanes

        choices = [up(self.out) * self.inner * self.columns, self.out * self.inner * up(self.columns)]
        if self.columns == 1:
            choices.append(self.out * up(self.inner))
        return self.batch * min(choices)


@dataclass(frozen=True, slots=True)
class Factorization:
    """The shape of a layer's decomposition: modes, ranks and contraction direction; no numbers.

    ``ranks`` holds the ``d - 1`` inner ranks. ``d = 1`` is the dense layer, beside which a product of two matrices of
    rank `repair` may stand: ``y = Q x + A (B x)`` has the cores Q, A and B, and the steps B, A and Q. Plain SVD is the
    path through ``(M, 1)``: modes ``m = (M, 1)``, ``n = (1, N)``, right to left. Modes that multiply to more than the
    layer's sizes mean a layer padded with zeros: unused trailing inputs and outputs.

    >>> f = Factorization.parse("tt:m=300x1,n=4x196,r=9", outputs=300, inputs=784)
    >>> f.params, f.macs(), str(f)
    (12564, 17856, 'tt:m=300x1,n=4x196,r=9')
    >>> str(Factorization.svd(300, 784, 32)), Factorization.svd(300, 784, 32).macs()
    ('svd:r=32', 34688)
    """

    out_modes: tuple[int, ...]
    in_modes: tuple[int, ...]
    ranks: tuple[int, ...] = ()
    direction: Direction = "rl"
    repair: int = 0
    """Rank of what is added to the dense layer, to make up for its rounding; 0 adds nothing."""

    def __post_init__(self) -> None:
        if not (len(self.out_modes) == len(self.in_modes) == len(self.ranks) + 1):
            raise ValueError(
                "a chain has as many output modes as input modes and one rank fewer, but got "
                f"m={self.out_modes}, n={self.in_modes}, r={self.ranks}"
            )
        if min((*self.out_modes, *self.in_modes, *self.ranks)) < 1:
            raise ValueError(f"modes and ranks must be positive, but got {self}")
        if self.repair < 0 or (self.repair and (self.ranks or self.direction != "rl")):
            raise ValueError(f"a repair has a positive rank and stands beside a dense layer, but got {self!r}")

    @classmethod
    def dense(cls, outputs: int, inputs: int) -> Factorization:
        """Return the layer as it is: one core."""
        return cls((outputs,), (inputs,))

    @classmethod
    def svd(cls, outputs: int, inputs: int, rank: int) -> Factorization:
        """Return the two-factor form of a truncated SVD."""
        return cls((outputs, 1), (1, inputs), (rank,))

    @classmethod
    def repaired(cls, outputs: int, inputs: int, rank: int) -> Factorization:
        """Return the dense layer with a product of two matrices of a rank beside it."""
        if rank < 1:
            raise ValueError(f"the rank of a repair must be positive, but is {rank}")
        return cls((outputs,), (inputs,), repair=rank)

    @classmethod
    def parse(cls, text: str, outputs: int, inputs: int) -> Factorization:
        """Read the text form that `str` gives.

        Parameters
        ----------
        text
            ``dense``, ``dense+r=R``, ``svd:r=R`` or ``tt:m=AxB,n=CxD,r=R[,lr]``.
        outputs, inputs
            The layer's sizes, which the modes must cover.

        Raises
        ------
        InputError
            The text has another form, or does not fit the sizes.
        """
        if text == "dense":
            return cls.dense(outputs, inputs)
        rank = re.fullmatch(r"(svd:|dense\+)r=(\d+)", text)
        train = re.fullmatch(rf"tt:m=({_SIZES}),n=({_SIZES}),r=({_SIZES})(,lr)?", text)
        if not (rank or train):
            known = "`dense`, `dense+r=R`, `svd:r=R` or `tt:m=AxB,n=CxD,r=R[,lr]`"
            raise InputError(f"unknown factorization {text!r}: write {known}")
        try:
            if rank:
                return (cls.svd if rank[1] == "svd:" else cls.repaired)(outputs, inputs, int(rank[2]))
            assert train is not None
            m, n, r = (tuple(int(size) for size in part.split("x")) for part in train.group(1, 2, 3))
            made = cls(m, n, r, "lr" if train[4] else "rl")
        except ValueError as error:
            raise InputError(f"factorization {text!r}: {error}") from error
        if made.outputs < outputs or made.inputs < inputs:
            raise InputError(
                f"factorization {text!r} is of {made.outputs} outputs and {made.inputs} inputs: too few for a layer of "
                f"{outputs} outputs and {inputs} inputs"
            )
        return made

    @property
    def outputs(self) -> int:
        """Outputs of the chain: the layer's M, padding included."""
        return math.prod(self.out_modes)

    @property
    def inputs(self) -> int:
        """Inputs of the chain: the layer's N, padding included."""
        return math.prod(self.in_modes)

    @property
    def is_dense(self) -> bool:
        """Whether the layer is kept as it is."""
        return len(self.out_modes) == 1 and not self.repair

    @property
    def unrepaired(self) -> Factorization:
        """The factorization without what is added to a dense layer."""
        return replace(self, repair=0)

    @property
    def is_svd(self) -> bool:
        """Whether this is the two-factor form ``(M x r)(r x N)``, however it is written."""
        return len(self.out_modes) == 2 and (
            (self.out_modes[1] == 1 and self.in_modes[0] == 1) or (self.out_modes[0] == 1 and self.in_modes[1] == 1)
        )

    def __str__(self) -> str:
        if len(self.out_modes) == 1:
            return f"dense+r={self.repair}" if self.repair else "dense"
        if self.out_modes[1:] == (1,) and self.in_modes[:1] == (1,) and self.direction == "rl":
            return f"svd:r={self.ranks[0]}"
        m, n, r = ("x".join(map(str, part)) for part in (self.out_modes, self.in_modes, self.ranks))
        return f"tt:m={m},n={n},r={r}" + (",lr" if self.direction == "lr" else "")

    @property
    def bonds(self) -> tuple[int, ...]:
        """Ranks with the two outer ones: ``(1, r_1, ..., r_{d-1}, 1)``."""
        return (1, *self.ranks, 1)

    @property
    def core_shapes(self) -> tuple[tuple[int, int, int, int], ...]:
        """Shapes ``(r_{k-1}, m_k, n_k, r_k)``; of a repaired layer, those of the two-factor form come last."""
        if self.repair:
            beside = Factorization.svd(self.outputs, self.inputs, self.repair)
            return (*self.unrepaired.core_shapes, *beside.core_shapes)
        r = self.bonds
        return tuple((r[k], m, n, r[k + 1]) for k, (m, n) in enumerate(zip(self.out_modes, self.in_modes, strict=True)))

    @property
    def params(self) -> int:
        """Elements of all cores; a bias is not counted."""
        return sum(math.prod(shape) for shape in self.core_shapes)

    def step_matrices(self, cores: Sequence[Array]) -> list[Array]:
        """Return the weight matrix ``(out, inner)`` of every step, in execution order, from cores of `core_shapes`."""
        if self.direction == "rl":
            return [core.reshape(core.shape[0] * core.shape[1], -1) for core in reversed(cores)]
        return [core.transpose(1, 3, 0, 2).reshape(core.shape[1] * core.shape[3], -1) for core in cores]

    def step_cores(self, matrices: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Return the cores whose `step_matrices` these are; matrices in execution order, cores in theirs."""
        if self.direction == "rl":
            return [matrix.reshape(shape) for matrix, shape in zip(reversed(matrices), self.core_shapes, strict=True)]
        return [
            matrix.reshape(m, right, left, n).transpose(2, 0, 3, 1)
            for matrix, (left, m, n, right) in zip(matrices, self.core_shapes, strict=True)
        ]

    def steps(self, rows: int = 1) -> tuple[Step, ...]:
        """Return the matrix products in execution order, for `rows` input rows.

        They are a chain, but for the last of a repaired layer, which reads what the first does and adds to the others.

        Right to left, step ``k`` multiplies by core ``k`` as the matrix ``[(r_{k-1} m_k), (n_k r_k)]``; left to right
        as ``[(m_k r_k), (r_{k-1} n_k)]``.
        """
        if self.repair:
            beside = Factorization.svd(self.outputs, self.inputs, self.repair).steps(rows)
            return (*beside, *self.unrepaired.steps(rows))
        m, n, r = self.out_modes, self.in_modes, self.bonds
        order = range(len(m))
        if self.direction == "rl":
            return tuple(
                Step(rows * math.prod(n[:k]), r[k] * m[k], n[k] * r[k + 1], math.prod(m[k + 1 :]))
                for k in reversed(order)
            )
        return tuple(Step(rows * math.prod(m[:k]), m[k] * r[k + 1], r[k] * n[k], math.prod(n[k + 1 :])) for k in order)

    def macs(self, rows: int = 1) -> int:
        """MACs of the chain in its own direction."""
        return sum(step.macs for step in self.steps(rows))

    def padded_macs(self, lanes: int, rows: int = 1) -> int:
        """MACs with each step's vector axis rounded up to `lanes`."""
        return sum(step.padded_macs(lanes) for step in self.steps(rows))

    def peak(self, rows: int = 1) -> int:
        """Peak activation memory in elements: the largest input plus output of one step, and a repair that waits."""
        waiting = rows * self.outputs if self.repair else 0
        return max(step.input_size + step.output_size for step in self.steps(rows)) + waiting
