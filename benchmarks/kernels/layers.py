"""What is benchmarked: the sizes of known models' fully-connected layers, each dense and in three low-rank forms."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lrfdse.ir.factorization import Factorization
from lrfdse.ir.kernel import KernelSpec
from lrfdse.space.shapes import splits

SVD_RATIO = 4
TT_RATIO = 8
TT_LOOSEST = 9.2
"""Compression up to which a tensor train counts as near `TT_RATIO`: ranks are whole."""
TT_LEAST_RANK = 8
LANES = 8
"""Vector length that FLOPs are rounded up to where tensor trains are compared: the same designs on every target."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A fully-connected layer by its sizes."""

    name: str
    inputs: int
    outputs: int


LAYERS = (
    Layer("LeNet-300-100 fc1", 784, 300),
    Layer("LeNet-300-100 fc2", 300, 100),
    Layer("LeNet-5 (Caffe) fc1", 800, 500),
    Layer("PP-OCRv4 head", 120, 6625),
    Layer("MLPerf Tiny AD fc1", 640, 128),
    Layer("MLP 1024", 1024, 1024),
    Layer("Fashion conv head fc1", 3136, 512),
    Layer("MobileNetV2 classifier", 1280, 1000),
    Layer("BERT-base projection", 768, 768),
    Layer("BERT-base FFN up", 768, 3072),
    Layer("BERT-base FFN down", 3072, 768),
    Layer("MiniLM FFN up", 384, 1536),
    Layer("BERT-large FFN up", 1024, 4096),
    Layer("ResNet-50 fc", 2048, 1000),
    Layer("AlexNet fc6", 9216, 4096),
    Layer("VGG fc7", 4096, 4096),
    Layer("VGG fc8", 4096, 1000),
    Layer("VGG-16 fc6", 25088, 4096),
)

QUICK = (
    "LeNet-300-100 fc1",
    "LeNet-300-100 fc2",
    "PP-OCRv4 head",
    "MLPerf Tiny AD fc1",
    "MLP 1024",
    "MiniLM FFN up",
)
"""The layers of ``--quick``, and those that the full benchmark also runs with eight rows."""

KINDS = ("dense", "svd", "tt2", "tt3")


@dataclass(frozen=True, slots=True)
class Case:
    """One kernel to be compared: a layer in one form at a number of rows."""

    layer: Layer
    kind: str
    factorization: Factorization
    rows: int

    @property
    def spec(self) -> KernelSpec:
        """The kernel, without bias and ReLU: the matrix products alone."""
        return KernelSpec(self.layer.outputs, self.layer.inputs, self.factorization, self.rows, False, False)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one call."""
        return self.factorization.macs(self.rows)

    @property
    def weight_bytes(self) -> int:
        """Bytes of the float32 weights."""
        return 4 * self.factorization.params

    @property
    def is_factorized(self) -> bool:
        """Whether the layer is not dense."""
        return self.kind != "dense"

    def __str__(self) -> str:
        return str(self.spec)


def cases(layers: Iterable[Layer], rows: int) -> Iterator[Case]:
    """Yield every layer's forms at so many rows."""
    for layer in layers:
        for kind in KINDS:
            yield Case(layer, kind, design(layer.outputs, layer.inputs, kind), rows)


def named(names: Iterable[str]) -> list[Layer]:
    """Return layers by name, in the order of `LAYERS`."""
    wanted = set(names)
    return [layer for layer in LAYERS if layer.name in wanted]


def design(outputs: int, inputs: int, kind: str) -> Factorization:
    """Return a layer's form: "dense", "svd" at `SVD_RATIO`, or "tt2" and "tt3" near `TT_RATIO`.

    >>> str(design(300, 784, "svd")), str(design(300, 784, "tt2"))
    ('svd:r=54', 'tt:m=150x2,n=2x392,r=27')
    """
    if kind == "dense":
        return Factorization.dense(outputs, inputs)
    if kind == "svd":
        return Factorization.svd(outputs, inputs, outputs * inputs // SVD_RATIO // (outputs + inputs))
    return cheapest_tensor_train(outputs, inputs, int(kind[2:]))


def cheapest_tensor_train(outputs: int, inputs: int, cores: int) -> Factorization:
    """Return the tensor train of so many cores with the fewest FLOPs among those near `TT_RATIO`.

    The family is that of the reference method: no unit modes and the same rank at every bond; both directions. FLOPs
    are compared with vectors rounded up to `LANES`. Without a bound on the rank the cheapest chains of three cores
    would be two sparse copies around one matrix, so the rank is at least `TT_LEAST_RANK`.
    """
    dense = outputs * inputs
    best: tuple[tuple[int, int, str], Factorization] | None = None
    for m, n in itertools.product(splits(outputs, cores, 2), splits(inputs, cores, 2)):
        rank = _rank(m, n, dense / TT_RATIO)
        if rank < TT_LEAST_RANK:
            continue
        for direction in ("rl", "lr"):
            f = Factorization(m, n, (rank,) * (cores - 1), direction)
            if f.params * TT_LOOSEST < dense or not _is_consistent(f):
                continue
            key = f.padded_macs(LANES), f.macs(), str(f)
            if best is None or key < best[0]:
                best = key, f
    if best is None:
        raise ValueError(f"no tensor train of {cores} cores is near {TT_RATIO}x for {outputs}x{inputs}")
    return best[1]


def _rank(m: tuple[int, ...], n: tuple[int, ...], params: float) -> int:
    """Return the largest rank of the default grid, the same at every bond, within a number of parameters."""
    sizes = [a * b for a, b in zip(m, n, strict=True)]
    ends, middle = sizes[0] + sizes[-1], sum(sizes[1:-1])
    rank = params / ends if not middle else (math.sqrt(ends * ends + 4 * middle * params) - ends) / (2 * middle)
    return int(rank) if rank <= 32 else int(rank) // 8 * 8


def _is_consistent(f: Factorization) -> bool:
    """Return whether no rank exceeds what its neighbours can carry."""
    r = f.bonds
    sizes = [a * b for a, b in zip(f.out_modes, f.in_modes, strict=True)]
    return all(r[k + 1] <= r[k] * size and r[k] <= r[k + 1] * size for k, size in enumerate(sizes))
