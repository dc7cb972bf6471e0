"""What may be left out of an epilogue's functions: which of them must give NaN of NaN, and which are one clamp."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lrfdse.ir.epilogue import Epilogue, Function, Instruction, Operand

_SUMS: frozenset[Function] = frozenset(("add", "sub", "mul", "div"))
"""Functions that are NaN where an operand is."""

_LIMITS: frozenset[Function] = frozenset(("max", "min"))

_CURVES: frozenset[Function] = frozenset(("erf", "exp", "sigmoid", "tanh"))
"""Functions that clamp their argument, and are NaN where it is and nowhere else."""

_NEUTRAL = frozenset((0.0, 1.0, -1.0))
"""Numbers with which LLVM may leave a sum or a product out."""


@dataclass(frozen=True, slots=True)
class Clamp:
    """An operand that is kept at or above a number, at or below one, or both."""

    of: Operand
    least: float | None
    most: float | None
    replaces: int | None = None
    """The instruction that is the other half, which nothing else reads."""


@dataclass(frozen=True, slots=True)
class Forms:
    """What is known of the instructions of an epilogue; each is named by its number.

    >>> from lrfdse.ir.epilogue import VALUE
    >>> def number(value): return Operand("number", number=value)
    >>> relu6 = Epilogue((
    ...     Instruction("max", (VALUE, number(0.0))), Instruction("min", (Operand("result", 0), number(6.0)))
    ... ))
    >>> made = Forms.of(relu6.after_bias())
    >>> made.clamps
    {2: Clamp(of=Operand(kind='result', place=0, number=0.0), least=0.0, most=6.0, replaces=1)}
    >>> made.careless, made.reversed
    (frozenset(), frozenset({0}))
    """

    clamps: dict[int, Clamp]
    """By the last instruction that each stands for."""
    quiet: frozenset[int]
    """Those whose results are positive where they are NaN, on machines whose arithmetic makes no other NaN."""
    careless: frozenset[int]
    """Those that may give any number where their operand is NaN: all that reads them is NaN then anyway."""
    alike: frozenset[int]
    """Those whose two operands are NaN at the same time."""
    reversed: frozenset[int]
    """Additions of an input or a number, read by nothing but a clamp that wants their negative."""

    @classmethod
    def of(cls, epilogue: Epilogue) -> Forms:
        """Return what is known of an epilogue."""
        steps = epilogue.instructions
        uses: list[list[int]] = [[] for _ in steps]
        for number, step in enumerate(steps):
            for place in {o.place for o in step.operands if o.kind == "result"}:
                uses[place].append(number)
        origins = _Origins(steps, uses)
        careless = origins.careless()
        clamps = _clamps(steps, uses)
        alike = frozenset(number for number, step in enumerate(steps) if origins.alike(step))
        return cls(
            clamps,
            _quiet(steps, alike),
            careless,
            alike,
            frozenset(
                clamp.of.place
                for number, clamp in clamps.items()
                if number not in careless and clamp.most is not None and _is_offset(clamp.of, steps, uses)
            ),
        )


def _limit(step: Instruction) -> tuple[Operand, float] | None:
    """Return what an instruction limits by which number; None where it does something else."""
    if step.function not in _LIMITS or len({o.kind == "number" for o in step.operands}) != 2:
        return None
    left, right = step.operands
    of, number = (left, right.number) if right.kind == "number" else (right, left.number)
    return None if math.isnan(number) else (of, number)


def _clamps(steps: tuple[Instruction, ...], uses: list[list[int]]) -> dict[int, Clamp]:
    made: dict[int, Clamp] = {}
    for number, step in enumerate(steps):
        if (limited := _limit(step)) is None:
            continue
        of, limit = limited
        one = Clamp(of, limit, None) if step.function == "max" else Clamp(of, None, limit)
        before = made.get(of.place) if of.kind == "result" and len(uses[of.place]) == 1 else None
        if before is not None and before.replaces is None and (before.least is None) != (one.least is None):
            least = one.least if before.least is None else before.least
            most = one.most if before.most is None else before.most
            if least is not None and most is not None and least <= most:
                del made[of.place]
                one = Clamp(before.of, least, most, of.place)
        made[number] = one
    return made


def _quiet(steps: tuple[Instruction, ...], alike: frozenset[int]) -> frozenset[int]:
    made = set(alike)
    for number, step in enumerate(steps):
        limited = _limit(step)
        if limited is not None and limited[0].kind == "result" and limited[0].place in made:
            made.add(number)
        if step.function in _SUMS and not any(o.kind == "number" and o.number in _NEUTRAL for o in step.operands):
            made.add(number)
    return frozenset(made)


def _is_offset(operand: Operand, steps: tuple[Instruction, ...], uses: list[list[int]]) -> bool:
    """Return whether an operand, read once, is a sum with an input or a number."""
    if operand.kind != "result" or len(uses[operand.place]) != 1:
        return False
    step = steps[operand.place]
    if step.function != "add":
        return False
    right = step.operands[1]
    return right.kind == "input" or (right.kind == "number" and right.number != 0)


@dataclass(slots=True)
class _Origins:
    """Where NaN of each result comes from."""

    steps: tuple[Instruction, ...]
    uses: list[list[int]]

    def root(self, operand: Operand) -> Operand:
        """Return the operand that is NaN just when this one is."""
        while operand.kind == "result":
            step = self.steps[operand.place]
            others = [o for o in step.operands if o.kind != "number"]
            kept = len(others) == 1 and (
                step.function in _CURVES or step.function in ("abs", "neg") or self._harmless(step)
            )
            if not kept:
                return operand
            operand = others[0]
        return operand

    def _harmless(self, step: Instruction) -> bool:
        """Return whether a function of a result and a number is NaN where the result is and nowhere else."""
        number = next((o.number for o in step.operands if o.kind == "number"), math.nan)
        if step.function in ("max", "min"):
            return not math.isnan(number)
        if step.function in ("add", "sub"):
            return math.isfinite(number)
        if step.function == "mul" or (step.function == "div" and step.operands[1].kind == "number"):
            return math.isfinite(number) and number != 0
        return False

    def alike(self, step: Instruction) -> bool:
        """Return whether both operands are NaN at the same time."""
        if step.function not in _LIMITS or any(o.kind == "number" for o in step.operands):
            return False
        left, right = step.operands
        return self.root(left) == self.root(right)

    def implied(self, operand: Operand, root: Operand) -> bool:
        """Return whether an operand is NaN wherever the root is, whatever becomes of careless instructions."""
        if operand == root:
            return True
        if operand.kind != "result":
            return False
        step = self.steps[operand.place]
        return step.function in _SUMS and any(self.implied(o, root) for o in step.operands)

    def careless(self) -> frozenset[int]:
        """Return the instructions whose NaN nothing needs."""
        return frozenset(
            number
            for number, step in enumerate(self.steps)
            if (_limit(step) is not None or step.function in _CURVES)
            and self._covered(number, self.root(Operand("result", number)))
        )

    def _covered(self, number: int, root: Operand) -> bool:
        """Return whether all that reads a result is NaN where the root is, or is read by such alone."""
        return bool(self.uses[number]) and all(self._reader(use, number, root) for use in self.uses[number])

    def _reader(self, use: int, number: int, root: Operand) -> bool:
        step = self.steps[use]
        others = [o for o in step.operands if o != Operand("result", number)]
        if step.function in _SUMS and any(self.implied(o, root) for o in others):
            return True
        return self._covered(use, root)
