"""Finding convolutions that are one matrix over patches: a single group, a constant weight, one or two axes."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lrfdse.ir.layer import Kind
from lrfdse.ir.window import Window, same_pads
from lrfdse.model.bodies import all_nodes
from lrfdse.model.constants import FLOATS, Constant, is_standard, node_name, trace
from lrfdse.model.match.match import Found
from lrfdse.model.match.products import only_reader, unusable
from lrfdse.model.match.site import Site

_BLOCK = 4_000_000
"""Elements of patches that are held at once: 32 MB of float64. Chosen."""


@dataclass(frozen=True, slots=True)
class Sliding:
    """How a convolution moves over its input, whatever that one's size; sequences are images of height 1."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]
    auto_pad: str
    """ONNX's attribute; `pads` hold where it is NOTSET."""

    @classmethod
    def of(cls, node: ir.Node, kernel: Sequence[int]) -> Sliding:
        """Return what the attributes of a Conv say."""
        flat = len(kernel) == 1

        def pair(name: str) -> tuple[int, int]:
            given = list(node.attributes[name].as_ints()) if name in node.attributes else [1] * len(kernel)
            return (1, given[0]) if flat else (given[0], given[1])

        size = (1, kernel[0]) if flat else (kernel[0], kernel[1])
        p = list(node.attributes["pads"].as_ints()) if "pads" in node.attributes else [0] * (2 * len(kernel))
        mode = node.attributes["auto_pad"].as_string() if "auto_pad" in node.attributes else "NOTSET"
        pads = (0, p[0], 0, p[1]) if flat else (p[0], p[1], p[2], p[3])
        return cls(size, pair("strides"), pair("dilations"), pads, mode)

    def window(self, batch: int, image: tuple[int, int]) -> Window:
        """Return the window over images of one size."""
        pads = self.pads
        if self.auto_pad == "VALID":
            pads = (0, 0, 0, 0)
        elif self.auto_pad != "NOTSET":
            upper = self.auto_pad == "SAME_UPPER"
            pads = same_pads(image, self.kernel, self.strides, self.dilations, upper)
        return Window(batch, image, self.kernel, self.strides, self.dilations, pads)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvolutionSite(Site):
    """One use of a convolution's weight."""

    sliding: Sliding

    @property
    def window(self) -> Window:
        """The window in the inference that is timed."""
        return self.sliding.window(self.fixed[0], _image(self.fixed))

    @property
    def rows(self) -> int:
        """Patches in the inference that is timed."""
        return self.window.batch * math.prod(self.window.out)

    def blocks(self, array: NDArray[Any]) -> Iterator[NDArray[Any]]:
        """Yield the patches of the source, block by block, each of shape (patches, inputs)."""
        window = self.sliding.window(array.shape[0], _image(array.shape))
        images = np.moveaxis(array, 1, -1).reshape(array.shape[0], *window.image, array.shape[1])
        yield from patches(images, window, _BLOCK)


@dataclass(frozen=True, slots=True)
class Convolution:
    """A Conv of one group and the constant weight that it applies, before shapes are known."""

    node: ir.Node
    constant: Constant
    source: ir.Value
    bias: NDArray[np.float64] | None
    bias_root: str | None
    kind: ClassVar[Kind] = "conv"
    alpha: ClassVar[float] = 1.0

    @property
    def root(self) -> ir.Value:
        """The stored tensor."""
        return self.constant.root

    @property
    def form(self) -> Hashable:
        """How W comes from the stored tensor."""
        return self.constant.transposed, self.constant.dtype

    @property
    def _kernel(self) -> tuple[int, ...]:
        return self.constant.shape[2:]

    def weight(self) -> NDArray[Any]:
        """Return W of shape (outputs, inputs), inputs ordered as `lrfdse.ir.convolution` has them."""
        array = self.constant.array()
        assert self.constant.dtype is not None
        turned = array.transpose(0, *reversed(range(2, array.ndim)), 1)
        return turned.reshape(len(array), -1).astype(self.constant.dtype.numpy(), copy=False)

    def scales(self) -> None:
        """Return None: a convolution's weight is stored in floating point."""

    def fits(self, sizes: Sequence[int | None] | None) -> bool:
        """Return whether a shape of the source is known, and one that the convolution takes."""
        if sizes is None or None in sizes:
            return False
        return len(sizes) == 2 + len(self._kernel) and sizes[1] == self.constant.shape[1]

    def site(self, fixed: Sequence[int | None], free: Sequence[int | None] | None) -> Site:
        """Return the use, for a source of shape `fixed` in the timed inference, and `free` as the model fixes it."""
        rank = len(fixed)
        sliding = Sliding.of(self.node, self._kernel)
        pointwise = sliding.kernel == sliding.strides == (1, 1) and not any(sliding.pads)
        return ConvolutionSite(
            node=node_name(self.node),
            output=self.node.outputs[0].name or "",
            source=self.source.name or "",
            in_axis=1 - rank if pointwise else None,
            out_axis=1 - rank,
            rank=rank,
            fixed=tuple(int(size or 0) for size in fixed),
            free=tuple(free) if free is not None and len(free) == rank else (None,) * rank,
            add=None,
            bias_root=self.bias_root,
            bias=self.bias,
            relu=only_reader(self.node.outputs[0], "Relu") is not None,
            sliding=sliding,
        )


def find_convolutions(graph: ir.Graph, known: set[ir.Value]) -> Found:
    """Return the convolutions of one group with a constant weight, in graph order, and why others are none.

    Parameters
    ----------
    graph
        The main graph, whose bodies are looked through as well.
    known
        Its values that depend on constants alone.
    """
    convolutions: list[Convolution] = []
    refused: dict[ir.Node, str] = {}
    for node in all_nodes(graph):
        if is_standard(node) and node.op_type == "Conv":
            found = _convolution(node, known)
            if isinstance(found, Convolution):
                convolutions.append(found)
            elif found is not None:
                refused[node] = found
    return convolutions, refused


def patches(images: NDArray[Any], window: Window, most: int) -> Iterator[NDArray[Any]]:
    """Yield the patches of images of shape (batch, height, width, channels), in blocks of about `most` elements.

    A block has shape (patches, kernel width x kernel height x channels), channels innermost; patches follow each other
    as the pixels of the output do.
    """
    top, left, bottom, right = window.pads
    rows, columns = window.out
    (kh, kw), (sh, sw), (dh, dw) = window.kernel, window.strides, window.dilations
    channels = images.shape[-1]
    size = kh * kw * channels
    few = max(1, most // max(rows * columns * size, 1))
    lines = max(1, min(rows, most // max(few * columns * size, 1)))
    for first in range(0, len(images), few):
        part = np.pad(images[first : first + few], ((0, 0), (top, bottom), (left, right), (0, 0)))
        b, h, w, c = part.strides
        view = np.lib.stride_tricks.as_strided(
            part,
            (len(part), rows, columns, kw, kh, channels),
            (b, h * sh, w * sw, w * dw, h * dh, c),
            writeable=False,
        )
        for line in range(0, rows, lines):
            yield view[:, line : line + lines].reshape(-1, size)


def _convolution(node: ir.Node, known: set[ir.Value]) -> Convolution | str | None:
    source, weight, *rest = node.inputs
    if source is None or weight is None:
        return None
    constant = trace(weight)
    if constant is None:
        return unusable(weight, known)
    if source in known or trace(source) is not None:
        return "a convolution of constants: fold constants first"
    axes, groups = len(constant.shape) - 2, node.attributes["group"].as_int() if "group" in node.attributes else 1
    if groups != 1:
        alone = constant.shape[1] == 1
        return "a depthwise convolution: its channels are not mixed" if alone else f"a convolution of {groups} groups"
    if axes not in (1, 2):
        return f"a convolution along {axes} axes"
    if constant.dtype not in FLOATS:
        return f"its weight is of type {constant.dtype}"
    if 0 in constant.shape:
        return "its weight is empty"
    if constant.dequantizer is not None:
        return "its weight is quantized, which is read of fully-connected layers alone"
    bias = trace(rest[0]) if rest and rest[0] is not None else None
    if bias is None:
        if rest and rest[0] is not None:
            return "a convolution whose bias is computed"
        return Convolution(node, constant, source, None, None)
    return Convolution(node, constant, source, bias.array().reshape(-1).astype(np.float64), bias.root.name)


def _image(sizes: Sequence[int]) -> tuple[int, int]:
    return (1, sizes[2]) if len(sizes) == 3 else (sizes[2], sizes[3])
