"""A program in the making: its arrays, constants and calls, and tensors as views of arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np

from lrfdse.ir.operators import Copy, Operator
from lrfdse.ir.ports import Element
from lrfdse.ir.program import Call, Value
from lrfdse.program.layout import Step, View, compact, dense, together

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lrfdse.ir.quantized import Rounding

    Array = NDArray[Any]

ELEMENTS = frozenset(get_args(Element))
"""Element types that a program's arrays can have."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the model: a view of one of the program's arrays."""

    value: int
    view: View
    element: Element = "float32"

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape in the model."""
        return self.view.shape

    def seen(self, view: View) -> Tensor:
        """Return the same array in another view."""
        return Tensor(self.value, view, self.element)

    def transpose(self, order: Sequence[int]) -> Tensor:
        """Return the tensor with its axes in another order."""
        return self.seen(self.view.transpose(order))


@dataclass(frozen=True, slots=True)
class Rounded:
    """What a tensor was before it was rounded to 8 bits."""

    source: Tensor
    """Float32, in a dense view."""
    rounding: Rounding


class Builder:
    """Collects arrays and calls. Equal constants are one array, and equal copies of a tensor are made once."""

    def __init__(self) -> None:
        self.values: list[Value] = []
        self.calls: list[Call] = []
        self.constants: dict[int, Array] = {}
        self.node = ""
        """The ONNX node that calls are made for."""
        self.rounded: dict[int, Rounded] = {}
        """Arrays that are another one rounded: as levels, or as floats that lie as the other one does."""
        self.scales: dict[int, NDArray[np.float32]] = {}
        """Of constants that are whole numbers times scales, the scale of each element."""
        self.halves = False
        """Whether matrices that consist of float16 numbers are stored as such, to become floats as they are read."""
        self.cells: Mapping[str, tuple[Array, ...]] = {}
        """Names of recurrent layers whose input is multiplied already to their recurrent matrices."""
        self._known: dict[tuple[str, bytes], int] = {}
        self._copies: dict[tuple[int, View, View], Tensor] = {}

    def array(self, value: Value) -> int:
        """Add an array and return its number."""
        self.values.append(value)
        return len(self.values) - 1

    def memory(self, size: int, element: Element = "float32") -> int:
        """Add an array of the arena."""
        return self.array(Value("memory", size, element, self.node))

    def new(self, view: View, element: Element = "float32") -> Tensor:
        """Add an array of the arena for a dense view."""
        return Tensor(self.memory(view.size, element), view, element)

    def constant(self, content: Array, name: str = "") -> Tensor:
        """Return a constant as a row-major tensor; equal contents are one array, whatever their shape."""
        flat = np.ascontiguousarray(content).reshape(-1)
        element = _element(flat)
        key = element, hashlib.sha256(flat.view(np.uint8).data).digest()
        if key not in self._known:
            self._known[key] = self.array(Value("constant", flat.size, element, name))
            self.constants[self._known[key]] = flat
        return Tensor(self._known[key], dense(content.shape), element)

    def content(self, tensor: Tensor) -> Array | None:
        """Return the elements of a tensor that views a constant, in its shape, or None of any other."""
        return _viewed(self.constants.get(tensor.value), tensor)

    def content_scales(self, tensor: Tensor) -> NDArray[np.float32] | None:
        """Return what a level of each element of a constant is worth, in its shape, or None of any other tensor."""
        return _viewed(self.scales.get(tensor.value), tensor)

    def call(self, operator: Operator, *arguments: int) -> None:
        """Add a call."""
        self.calls.append(Call(operator, arguments, (self.node,) if self.node else ()))

    def laid(self, tensor: Tensor, view: View) -> Tensor:
        """Return the tensor in a dense view: itself where it lies so, else a copy."""
        if not view.is_dense or view.shape != tensor.shape:
            raise ValueError(f"{view} is no dense view of shape {tensor.shape}")
        if tensor.view == view:
            return tensor
        key = tensor.value, tensor.view, view
        if key not in self._copies:
            self._copies[key] = self._copy(tensor, view)
        return self._copies[key]

    def ordered(self, tensor: Tensor, order: Sequence[int] | None = None) -> Tensor:
        """Return the tensor in the dense view whose axes are in `order` from outermost on, row-major by default."""
        return self.laid(tensor, dense(tensor.shape, order))

    def compacted(self, tensor: Tensor) -> Tensor:
        """Return the tensor in a dense view, in the order in which it lies."""
        return tensor if tensor.view.is_dense else self.laid(tensor, compact(tensor.view))

    def reshaped(self, tensor: Tensor, shape: Sequence[int]) -> Tensor:
        """Return the tensor in another shape, copied where that takes a new order."""
        view = tensor.view.reshape(shape)
        if view is None:
            tensor = self.ordered(tensor)
            view = dense(shape)
        return tensor.seen(view)

    def copy_into(self, tensor: Tensor, value: int, view: View, fill: float | int | None = None) -> None:
        """Copy a tensor to where `view` says in another array, which is filled before where a number is given."""
        steps = together(tensor.view, view)
        if steps is None:
            tensor = self.ordered(tensor)
            steps = together(tensor.view, view)
        assert steps is not None, "parts of a row-major tensor nest with any others"
        steps = steps or (Step(1, 1, 1),)
        copy = Copy(
            shape=tuple(step.size for step in steps),
            source=tensor.view.offset,
            strides=tuple(step.one for step in steps),
            to=view.offset,
            to_strides=tuple(step.other for step in steps),
            source_size=self.values[tensor.value].size,
            size=self.values[value].size,
            fill=fill,
            element=tensor.element,
        )
        self.call(copy, tensor.value, value)

    def _copy(self, tensor: Tensor, view: View) -> Tensor:
        content = self.content(tensor)
        if content is not None:
            return self.constant(flattened(content, view)).seen(view)
        copy = self.new(view, tensor.element)
        self.copy_into(tensor, copy.value, view)
        return copy


def _viewed(flat: Array | None, tensor: Tensor) -> Array | None:
    if flat is None:
        return None
    parts = tensor.view.parts
    viewed = np.lib.stride_tricks.as_strided(
        flat[tensor.view.offset :], [part.size for part in parts], [part.stride * flat.itemsize for part in parts]
    )
    return viewed.reshape(tensor.shape)


def flattened(content: Array, view: View) -> Array:
    """Return an array's elements in the order in which a dense view lays them."""
    parts = view.parts
    split = content.reshape([part.size for part in parts])
    order = sorted(range(len(parts)), key=lambda place: -parts[place].stride)
    return np.ascontiguousarray(split.transpose(order)).reshape(-1)


def _element(array: Array) -> Element:
    name = array.dtype.name
    if name not in ELEMENTS:
        raise ValueError(f"arrays of {name} are not supported")
    return cast(Element, name)
