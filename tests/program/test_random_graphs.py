"""Random graphs of elementwise functions, products and moves of axes: the program gives what onnxruntime gives."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lrfdse.model.runtime import Runtime
from lrfdse.program.lower import program
from lrfdse.program.memory import plan
from tests.program.interpreter import run
from tests.program.models import Graph, feeds_of

UNARY = ("Relu", "Tanh", "Abs", "Sigmoid", "Neg", "HardSwish", "Softplus")
BINARY = ("Add", "Sub", "Mul", "Max", "Min")


class Shaped:
    """A graph in the making, with the shape of each tensor."""

    def __init__(self, data):
        self.g = Graph(data.draw(st.integers(0, 9)), opset=18)
        self.draw = data.draw
        self.shapes: dict[str, tuple[int, ...]] = {}

    def input(self):
        shape = self.draw(st.lists(st.sampled_from([1, 2, 3, 4]), min_size=2, max_size=4))
        name = self.g.input(f"x{len(self.shapes)}", shape)
        self.shapes[name] = tuple(shape)

    def any(self, rank=None):
        names = [name for name, shape in self.shapes.items() if rank is None or len(shape) == rank]
        return self.draw(st.sampled_from(names)) if names else None

    def add(self, name, shape):
        self.shapes[name] = tuple(int(size) for size in shape)

    def grow(self):
        moves = (self.turn, self.shape, self.cut, self.join)
        self.draw(st.sampled_from([self.unary, self.binary, self.constant, self.fc, self.product, *moves]))()

    def unary(self):
        x = self.any()
        self.add(self.g.op(self.draw(st.sampled_from(UNARY)), x), self.shapes[x])

    def binary(self):
        x, y = self.any(), self.any()
        try:
            shape = np.broadcast_shapes(self.shapes[x], self.shapes[y])
        except ValueError:
            return
        if math.prod(shape) <= 600:
            self.add(self.g.op(self.draw(st.sampled_from(BINARY)), x, y), shape)

    def constant(self):
        x = self.any()
        own = [size if self.draw(st.booleans()) else 1 for size in self.shapes[x]]
        own = own[self.draw(st.integers(0, len(own) - 1)) :]
        pair = [x, self.g.weight(*own)]
        self.add(self.g.op(self.draw(st.sampled_from(BINARY)), *self.draw(st.permutations(pair))), self.shapes[x])

    def turn(self):
        x = self.any()
        order = self.draw(st.permutations(range(len(self.shapes[x]))))
        self.add(self.g.op("Transpose", x, perm=list(order)), [self.shapes[x][axis] for axis in order])

    def shape(self):
        x = self.any()
        size, shape = math.prod(self.shapes[x]), []
        while size > 1 and len(shape) < 3:
            shape.append(self.draw(st.sampled_from([f for f in range(1, size + 1) if size % f == 0])))
            size //= shape[-1]
        shape.append(size)
        self.add(self.g.op("Reshape", x, self.g.integers(*shape)), shape)

    def cut(self):
        x = self.any()
        shape = list(self.shapes[x])
        axis = self.draw(st.integers(0, len(shape) - 1))
        start = self.draw(st.integers(0, shape[axis] - 1))
        step = self.draw(st.sampled_from([1, 1, 2, -1]))
        end = self.draw(st.integers(start + 1, shape[axis])) if step > 0 else -100
        shape[axis] = len(range(shape[axis])[start:end:step])
        bounds = (self.g.integers(each) for each in (start, end, axis, step))
        self.add(self.g.op("Slice", x, *bounds), shape)

    def join(self):
        x = self.any()
        shape = self.shapes[x]
        axis = self.draw(st.integers(0, len(shape) - 1))
        fits = [n for n, s in self.shapes.items() if len(s) == len(shape) and s[:axis] == shape[:axis]]
        fits = [n for n in fits if self.shapes[n][axis + 1 :] == shape[axis + 1 :]]
        parts = [x, *self.draw(st.lists(st.sampled_from(fits), min_size=1, max_size=2))]
        whole = [*shape]
        whole[axis] = sum(self.shapes[part][axis] for part in parts)
        if math.prod(whole) <= 600:
            self.add(self.g.op("Concat", *parts, axis=axis), whole)

    def fc(self):
        x = self.any()
        shape = self.shapes[x]
        out = self.draw(st.integers(1, 5))
        if self.draw(st.booleans()):
            self.add(self.g.op("MatMul", x, self.g.weight(shape[-1], out)), [*shape[:-1], out])
        elif len(shape) > 1:
            self.add(self.g.op("MatMul", self.g.weight(out, shape[-2]), x), [*shape[:-2], out, shape[-1]])

    def product(self):
        x = self.any()
        y = self.draw(st.sampled_from([n for n, s in self.shapes.items() if len(s) > 1] or [None]))
        if y is None or len(self.shapes[x]) < 2 or self.shapes[x][-1] != self.shapes[y][-2]:
            return
        try:
            outer = np.broadcast_shapes(self.shapes[x][:-2], self.shapes[y][:-2])
        except ValueError:
            return
        shape = (*outer, self.shapes[x][-2], self.shapes[y][-1])
        if math.prod(shape) <= 600:
            self.add(self.g.op("MatMul", x, y), shape)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_programs_compute_what_their_models_do(data):
    made = Shaped(data)
    for _ in range(data.draw(st.integers(1, 2))):
        made.input()
    for _ in range(data.draw(st.integers(1, 9))):
        made.grow()
    inputs = {value.name for value in made.g.inputs}
    names = [name for name in made.shapes if name not in inputs]
    if not names:
        return
    outputs = {names[-1], *data.draw(st.lists(st.sampled_from(names), max_size=2))}
    model = made.g.model(*sorted(outputs))
    feeds = feeds_of(model)
    runtime = Runtime()
    want = runtime.call(runtime.session(model), feeds)
    low = program(model)
    got = run(low, feeds)
    for name, array in want.items():
        scale = max(1.0, float(np.abs(array).max()))
        np.testing.assert_allclose(got[name], array, rtol=0, atol=1e-5 * scale)
    memory = plan(low)
    assert memory.size >= memory.bound
