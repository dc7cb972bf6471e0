"""How weights are stored: the element type, and the bytes that so many elements take in flash."""

from __future__ import annotations

from dataclasses import dataclass

from lrfdse.errors import InputError

ELEMENT_BYTES = {"float32": 4, "int8": 1}
"""Element types that weights can be stored in, each with the bytes of one element."""


@dataclass(frozen=True, slots=True)
class Storage:
    """The form in which the weights of a layer are stored.

    >>> Storage.parse("float32").bytes_of(300)
    1200
    """

    element: str
    """A key of `ELEMENT_BYTES`."""

    def __post_init__(self) -> None:
        if self.element not in ELEMENT_BYTES:
            raise ValueError(f"{self.element!r} is no element type: {', '.join(ELEMENT_BYTES)}")

    @classmethod
    def parse(cls, text: str) -> Storage:
        """Read the text form that `str` gives.

        Raises
        ------
        InputError
            No storage is called that.
        """
        if text not in ELEMENT_BYTES:
            raise InputError(f"storage must be one of {', '.join(ELEMENT_BYTES)}, but is {text!r}")
        return cls(text)

    def __str__(self) -> str:
        return self.element

    def bytes_of(self, elements: int) -> int:
        """Return the bytes that `elements` stored elements take, scales aside."""
        return elements * ELEMENT_BYTES[self.element]

    @property
    def scaled(self) -> bool:
        """Whether a matrix has a float32 scale for each of its outputs beside its elements."""
        return self.element == "int8"


FLOAT32 = Storage("float32")
"""What weights are stored in unless they are quantized."""

INT8 = Storage("int8")
"""Whole numbers from -127 to 127, with a float32 scale for each output of each matrix."""


STORAGES = {"float32": (FLOAT32,), "int8": (INT8,), "both": (FLOAT32, INT8)}
"""What an exploration may ask for, and in what the weights of its candidates are then stored."""


def words_of(size: int) -> int:
    """Return how many float32 numbers take a number of bytes, rounded up.

    >>> words_of(400), words_of(401)
    (100, 101)
    """
    return -(-size // FLOAT32.bytes_of(1))
