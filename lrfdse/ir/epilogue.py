"""What is done to each element that an operator computes before it is stored: a short list of functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Function = Literal[
    "abs",
    "add",
    "ceil",
    "cos",
    "div",
    "erf",
    "exp",
    "floor",
    "log",
    "max",
    "min",
    "mul",
    "neg",
    "pow",
    "round",
    "sigmoid",
    "sin",
    "sqrt",
    "sub",
    "tanh",
]
"""Functions of float32; "round" rounds halves to even, all others are ONNX's of these names."""

ARITY: dict[Function, int] = {
    "abs": 1,
    "add": 2,
    "ceil": 1,
    "cos": 1,
    "div": 2,
    "erf": 1,
    "exp": 1,
    "floor": 1,
    "log": 1,
    "max": 2,
    "min": 2,
    "mul": 2,
    "neg": 1,
    "pow": 2,
    "round": 1,
    "sigmoid": 1,
    "sin": 1,
    "sqrt": 1,
    "sub": 2,
    "tanh": 1,
}
"""How many operands each function takes."""

Source = Literal["same", "channel", "row", "scalar"]
"""How a further input is read: one element for each output element; for each position along the innermost axis (a
channel); for each run of the innermost axis; or one in all."""


@dataclass(frozen=True, slots=True)
class Operand:
    """What an instruction reads.

    Raises
    ------
    ValueError
        A number where none belongs, or a negative place.
    """

    kind: Literal["value", "result", "number", "input"]
    """What the operator computed, the result of an earlier instruction, a number, or a further input."""
    place: int = 0
    """Which result, or which further input."""
    number: float = 0.0

    def __post_init__(self) -> None:
        if self.place < 0 or (self.place and self.kind in ("value", "number")):
            raise ValueError(f"place {self.place} of an operand of kind {self.kind!r}")
        if self.number and self.kind != "number":
            raise ValueError(f"number {self.number} of an operand of kind {self.kind!r}")


VALUE = Operand("value")
"""What the operator computed."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One function of earlier results."""

    function: Function
    operands: tuple[Operand, ...]

    def __post_init__(self) -> None:
        if len(self.operands) != ARITY[self.function]:
            raise ValueError(f"{self.function} takes {ARITY[self.function]} operands, but got {len(self.operands)}")


@dataclass(frozen=True, slots=True)
class Epilogue:
    """Instructions in the order of execution; the result of the last one is stored.

    >>> relu = Epilogue((Instruction("max", (VALUE, Operand("number"))),))
    >>> biased = relu.after_bias()
    >>> [step.function for step in biased.instructions], biased.sources
    (['add', 'max'], ('channel',))
    >>> Epilogue().instructions
    ()

    Raises
    ------
    ValueError
        An instruction reads a result that does not exist yet, or an input that is not declared.
    """

    instructions: tuple[Instruction, ...] = ()
    sources: tuple[Source, ...] = ()
    """How each further input is read, in the order of the operator's further inputs."""

    def __post_init__(self) -> None:
        for number, instruction in enumerate(self.instructions):
            for operand in instruction.operands:
                limit = {"result": number, "input": len(self.sources)}.get(operand.kind, 1)
                if operand.place >= limit:
                    raise ValueError(f"instruction {number} reads {operand.kind} {operand.place}, there are {limit}")

    def after_bias(self) -> Epilogue:
        """Return this epilogue after a bias: its input becomes the first of the further inputs, one a channel."""

        def moved(operand: Operand) -> Operand:
            if operand.kind == "value":
                return Operand("result")
            shift = operand.kind in ("result", "input")
            return Operand(operand.kind, operand.place + shift, operand.number)

        bias = Instruction("add", (VALUE, Operand("input")))
        rest = (Instruction(each.function, tuple(map(moved, each.operands))) for each in self.instructions)
        return Epilogue((bias, *rest), ("channel", *self.sources))


NO_EPILOGUE = Epilogue()
"""Store what was computed."""
