"""How weights are stored: the element type, its bytes in flash, and whether what they multiply is rounded, too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lrfdse.errors import InputError

if TYPE_CHECKING:
    from lrfdse.ir.factorization import Factorization

ELEMENT_BYTES = {"float32": 4, "float16": 2, "int8": 1}
"""Element types that weights can be stored in, each with the bytes of one element."""


@dataclass(frozen=True, slots=True)
class Storage:
    """The form in which the weights of a layer are stored.

    >>> Storage.parse("float32").bytes_of(300)
    1200
    """

    element: str
    """A key of `ELEMENT_BYTES`."""
    rounds_inputs: bool = False
    """Whether what each matrix multiplies is rounded to 8 bits, too, so that its products are of whole numbers."""

    def __post_init__(self) -> None:
        if self.element not in ELEMENT_BYTES:
            raise ValueError(f"{self.element!r} is no element type: {', '.join(ELEMENT_BYTES)}")
        if self.rounds_inputs and not self.scaled:
            raise ValueError(f"products with {self.element} are not of whole numbers")

    @classmethod
    def parse(cls, text: str) -> Storage:
        """Read the text form that `str` gives.

        Raises
        ------
        InputError
            No storage is called that.
        """
        for storage in EVERY:
            if str(storage) == text:
                return storage
        raise InputError(f"storage must be one of {', '.join(map(str, EVERY))}, but is {text!r}")

    def __str__(self) -> str:
        return "qdq" if self.rounds_inputs else _SHORT.get(self.element, self.element)

    def bytes_of(self, elements: int) -> int:
        """Return the bytes that `elements` stored elements take, scales aside."""
        return elements * ELEMENT_BYTES[self.element]

    @property
    def scaled(self) -> bool:
        """Whether a matrix has a float32 scale for each of its outputs beside its elements."""
        return self.element == "int8"

    def takes(self, factorization: Factorization) -> bool:
        """Return whether a factorization can be stored so.

        Products of whole numbers are of matrices that multiply whole rows, so that only one matrix and the two-factor
        form are stored with rounded inputs. A repair makes up for what levels lose, where nothing else is rounded.
        """
        if factorization.repair:
            return self.scaled and not self.rounds_inputs
        return not self.rounds_inputs or all(step.batch == step.columns == 1 for step in factorization.steps())


_SHORT = {"float16": "fp16"}
"""What a storage is called where that is not its element type."""

FLOAT32 = Storage("float32")
"""What weights are stored in unless they are quantized."""

FLOAT16 = Storage("float16")
"""Half precision (IEEE 754 binary16), widened to float32 as it is read."""

INT8 = Storage("int8")
"""Whole numbers from -127 to 127, with a float32 scale for each output of each matrix."""

QDQ = Storage("int8", rounds_inputs=True)
"""Weights as in `INT8`, and what they multiply rounded to 8 bits by one scale: QuantizeLinear and DequantizeLinear."""


EVERY = (FLOAT32, FLOAT16, INT8, QDQ)
"""All storages."""

STORAGES = {
    "float32": (FLOAT32,),
    "fp16": (FLOAT16,),
    "int8": (INT8,),
    "both": (FLOAT32, INT8),
    "qdq": (QDQ,),
    "all": (FLOAT32, INT8, QDQ),
}
"""What an exploration may ask for, and how its candidates are then stored: "both" are those that compute in float32."""


def asked_storages(text: str) -> tuple[Storage, ...]:
    """Return the storages that a text asks for: a key of `STORAGES`, or several of them with commas between.

    >>> [str(storage) for storage in asked_storages("float32,fp16")]
    ['float32', 'fp16']

    Raises
    ------
    InputError
        A part is none.
    """
    found: list[Storage] = []
    for part in text.split(","):
        if part not in STORAGES:
            raise InputError(
                f"--storage takes {', '.join(STORAGES)} or some of them like float32,fp16, but got {text!r}"
            )
        found += STORAGES[part]
    return tuple(dict.fromkeys(found))


def words_of(size: int) -> int:
    """Return how many float32 numbers take a number of bytes, rounded up.

    >>> words_of(400), words_of(401)
    (100, 101)
    """
    return -(-size // FLOAT32.bytes_of(1))
