"""What is chosen for a layer: how it is factorized, and how its weights are stored."""

from __future__ import annotations

from dataclasses import dataclass

from lrfdse.errors import InputError
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.storage import FLOAT32, Storage


def is_plain(text: str) -> bool:
    """Return whether the text of a choice, or of a factorization, is of a dense layer or of its plain SVD.

    >>> is_plain("svd:r=24@int8"), is_plain("dense"), is_plain("dense+r=8@int8")
    (True, True, False)
    """
    return text.startswith(("dense", "svd:")) and not text.startswith("dense+")


@dataclass(frozen=True, slots=True)
class Choice:
    """A factorization and the storage of its cores.

    >>> text = "svd:r=24@int8"
    >>> choice = Choice.parse(text, outputs=300, inputs=784)
    >>> choice.bytes, Choice(choice.factorization).bytes, str(choice), str(Choice(choice.factorization))
    (27312, 104064, 'svd:r=24@int8', 'svd:r=24')
    """

    factorization: Factorization
    storage: Storage = FLOAT32

    @classmethod
    def parse(cls, text: str, outputs: int, inputs: int) -> Choice:
        """Read the text form that `str` gives: that of a factorization, and ``@STORAGE`` unless it is float32.

        Raises
        ------
        InputError
            The text has another form, does not fit a layer of so many outputs and inputs, or names a storage that does
            not take the factorization.
        """
        shape, marked, named = text.partition("@")
        factorization, storage = Factorization.parse(shape, outputs, inputs), FLOAT32
        if marked:
            storage = Storage.parse(named)
        if factorization.repair and not storage.takes(factorization):
            raise InputError(f"{text}: a repair makes up for the rounding of int8 weights: write {factorization}@int8")
        if not storage.takes(factorization):
            raise InputError(f"{text}: what is stored as {storage} has to multiply whole rows: dense and svd do")
        return cls(factorization, storage)

    def __str__(self) -> str:
        return str(self.factorization) + ("" if self.storage == FLOAT32 else f"@{self.storage}")

    @property
    def is_original(self) -> bool:
        """Whether the layer stays as it is: dense, in float32."""
        return self.factorization.is_dense and self.storage == FLOAT32

    @property
    def scales(self) -> int:
        """Numbers of 32 bits beside the elements: of each output of each step a scale, where the storage has some.

        Where inputs are rounded, they are two: the library also keeps what the zero point adds to the output's sum.
        """
        each = 2 if self.storage.rounds_inputs else 1
        return each * sum(step.out for step in self.factorization.steps()) if self.storage.scaled else 0

    @property
    def bytes(self) -> int:
        """Bytes of the stored weights, scales among them; a bias is not counted."""
        return self.storage.bytes_of(self.factorization.params) + FLOAT32.bytes_of(self.scales)
