"""LSTM and GRU: the inputs' products as fully-connected layers, the recurrent half as an operator a direction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from lrfdse.ir.products import Recurrence
from lrfdse.program.broadcast import Writer
from lrfdse.program.build import Tensor
from lrfdse.program.contraction import contract
from lrfdse.program.layout import View, dense
from lrfdse.program.site import Rule, Rules, Site

_ACTIVATIONS = {"lstm": ["sigmoid", "tanh", "tanh"], "gru": ["sigmoid", "tanh"]}


def _recurrent(cell: Literal["lstm", "gru"]) -> Rule:
    def rule(at: Site) -> Sequence[Tensor] | None:
        weight, recurrent, bias = (at.constant(place) for place in (1, 2, 3))
        if weight is None or recurrent is None or unusual(at) is not None:
            return None
        batch_first = bool(at.attribute("layout", 0))
        x = at.input(0).transpose((1, 0, 2)) if batch_first else at.input(0)
        x = at.build.ordered(x)
        directions, wide, hidden = weight.shape[0], weight.shape[1], at.attribute("hidden_size")
        if bias is None:
            bias = np.zeros((directions, 2 * wide), np.float32)
        # What was a Scan over steps reads gates, and its matrix may be factors.
        factors = at.build.cells.get(at.node.name or "")
        steps, batch, _ = x.shape
        states = 2 if cell == "lstm" else 1
        runs = []
        for direction in range(directions):
            gates = x if factors else _input_gates(at, x, weight[direction], bias[direction, :wide])
            matrices = factors or (recurrent[direction],)
            operator = Recurrence(
                cell,
                steps,
                batch,
                hidden,
                reverse=direction == 1 or at.attribute("direction", "forward") == "reverse",
                reset_after=cell == "gru" and bool(at.attribute("linear_before_reset", 0)),
                rank=matrices[0].shape[1] if len(matrices) > 1 else 0,
            )
            initial = [_initial(at, 5 + state, direction, batch, hidden, batch_first) for state in range(states)]
            y = at.build.new(dense((steps, batch, hidden)))
            last = [at.build.new(dense((batch, hidden))) for _ in range(states)]
            at.build.call(
                operator,
                gates.value,
                at.build.constant(np.concatenate([each.ravel() for each in reversed(matrices)])).value,
                at.build.constant(bias[direction, wide:]).value,
                *(each.value for each in initial),
                y.value,
                *(each.value for each in last),
            )
            runs.append([y, *last])
        found = [
            _stacked(at, [run[place] for run in runs], place, batch_first) if at.uses(place) else None
            for place in range(states + 1)
        ]
        # What nothing reads may be anything.
        return [runs[0][place] if each is None else each for place, each in enumerate(found)]

    return rule


def unusual(at: Site) -> str | None:
    """Return what a node has that nothing here computes, such as "with peepholes"; None where there is nothing."""
    cell = at.node.op_type.lower()
    directions = 2 if at.attribute("direction", "forward") == "bidirectional" else 1
    usual = _ACTIVATIONS[cell] * directions
    given = at.attribute("activations", usual)
    lengths = at.integers(4)
    x = at.input(0).shape
    steps = x[1] if at.attribute("layout", 0) else x[0]
    found = {
        "computed weights": any(at.is_computed(place) for place in (1, 2, 3)),
        f"activations {', '.join(given)}": [name.lower() for name in given] != usual,
        "activation_alpha": bool(at.attribute("activation_alpha")),
        "a clip": bool(at.attribute("clip")),
        "input_forget": bool(at.attribute("input_forget", 0)),
        "peepholes": at.has(7),
        "sequence_lens": at.has(4) and (lengths is None or any(length != steps for length in lengths)),
    }
    names = [name for name, there in found.items() if there]
    return f"with {', '.join(names)}" if names else None


def _input_gates(at: Site, x: Tensor, weight: np.ndarray, bias: np.ndarray) -> Tensor:
    gates = contract(at.build, x, 2, weight)
    if not bias.any():
        return gates
    write = Writer()
    write("add", write.input(0), write.input(1))
    return at.apply(write.formula, gates, at.build.constant(bias))


def _initial(at: Site, place: int, direction: int, batch: int, hidden: int, batch_first: bool) -> Tensor:
    """Return the state of (batch, hidden) that a direction begins with."""
    if not at.has(place):
        return at.build.constant(np.zeros((batch, hidden), np.float32))
    given = at.input(place).transpose((1, 0, 2)) if batch_first else at.input(place)
    view = given.view.slice(0, direction, 1, 1)
    if view is None:
        given = at.build.ordered(given)
        view = given.view.slice(0, direction, 1, 1)
    assert view is not None, "axes of a row-major tensor have one part"
    return at.build.ordered(given.seen(View(view.axes[1:], view.offset)))


def _stacked(at: Site, runs: Sequence[Tensor], place: int, batch_first: bool) -> Tensor:
    """Return what the directions gave as one tensor with an axis for them: ONNX's output of that place."""
    if place == 0:
        # (steps, batch, hidden) each becomes (steps, directions, batch, hidden).
        axis, order = 1, at.wanted_order(place)
        if batch_first:
            order = None
    else:
        axis, order = 0, None
    views = [each.seen(each.view.insert(axis)) for each in runs]
    if len(runs) == 1:
        whole = views[0]
    else:
        shape = list(views[0].shape)
        shape[axis] = len(runs)
        whole = at.build.new(dense(shape, order))
        for number, each in enumerate(views):
            target = whole.view.slice(axis, number, 1, 1)
            assert target is not None, "axes of a new tensor have one part"
            at.build.copy_into(each, whole.value, target)
    if not batch_first:
        return whole
    return whole.transpose((2, 0, 1, 3)) if place == 0 else whole.transpose((1, 0, 2))


RULES: Rules = {"GRU": _recurrent("gru"), "LSTM": _recurrent("lstm")}
"""Rules for float32 tensors."""
