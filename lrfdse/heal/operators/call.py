"""One node of a graph as its rule sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from lrfdse.errors import InputError


@dataclass(frozen=True, slots=True)
class Call:
    """A node with the values that it reads."""

    tf: Any
    """The module `tensorflow`."""
    op: str
    """Name of the operator."""
    name: str
    """What messages call the node."""
    inputs: Sequence[Any]
    """Constants as NumPy arrays, all else as tensors; None where an input is left out."""
    attributes: Mapping[str, Any]
    """Attributes as Python's numbers, texts, lists and arrays."""
    opset: int
    """Version of ONNX's operators that the model imports."""
    outputs: int
    """Number of outputs."""

    def input(self, place: int) -> Any:
        """Return an input, or None where it is left out."""
        return self.inputs[place] if place < len(self.inputs) else None

    def integers(self, attribute: str, place: int) -> list[int] | None:
        """Return whole numbers that older versions have as an attribute and newer ones as an input; None without.

        Raises
        ------
        InputError
            They depend on the model's inputs.
        """
        if attribute in self.attributes:
            found = self.attributes[attribute]
            return list(found) if isinstance(found, list | tuple) else [int(found)]
        value = self.input(place)
        return None if value is None else [int(each) for each in self.constant(value, attribute).reshape(-1)]

    def constant(self, value: Any, what: str) -> Any:
        """Return a value that must be a constant.

        Raises
        ------
        InputError
            It is none.
        """
        if not isinstance(value, np.ndarray | np.generic):
            raise self.unsupported(f"{what} is computed")
        return np.asarray(value)

    def sizes(self, value: Any) -> list[int]:
        """Return the sizes of a value, all of which are known: runs have a fixed number of samples."""
        return [int(size) for size in value.shape]

    def unsupported(self, why: str) -> InputError:
        """Return the error for a form of the operator that cannot be differentiated here."""
        return InputError(f"healing does not cover {self.op} {self.name!r}: {why}")


Rule: TypeAlias = Callable[[Call], Any]
"""Returns the output of a node, or a list of its outputs where it has several."""
