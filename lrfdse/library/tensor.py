"""An input or output of a library, as its caller sees it."""

from __future__ import annotations

from dataclasses import dataclass

from lrfdse.ir.ports import Element


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of a library."""

    name: str
    """Its name in the model."""
    element: Element
    shape: tuple[int, ...]
    bytes: int

    @property
    def text(self) -> str:
        """The element type and shape in words, such as "float32, 1x3x224x224"."""
        return f"{self.element}, {'x'.join(map(str, self.shape)) or 'a scalar'}"
