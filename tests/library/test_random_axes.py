"""Operators along an axis or by indices, of random shapes, axes and elements, as machine code against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from lrfdse.base.store import Store
from lrfdse.model.runtime import Runtime
from lrfdse.program.lower import program
from lrfdse.targets.catalog import load_target
from tests.library.test_onnx_nodes import joined, run
from tests.program.models import Graph

pytestmark = pytest.mark.slow

ELEMENTS = {
    np.float32: TensorProto.FLOAT,
    np.float64: TensorProto.DOUBLE,
    np.int32: TensorProto.INT32,
    np.int64: TensorProto.INT64,
}
JOININGS = ("add", "mul", "max", "min")


class Drawn:
    """A graph with a transposed tensor of random shape, and what its inputs hold."""

    def __init__(self, rng, elements=tuple(ELEMENTS)):
        self.rng, self.g, self.feeds = rng, Graph(opset=18), {}
        self.element = elements[rng.integers(len(elements))]
        self.rank = int(rng.integers(1, 5))
        order = [int(axis) for axis in rng.permutation(self.rank)]
        self.shape = [int(size) for size in rng.integers(1, 7, self.rank)]
        given = [self.shape[order.index(axis)] for axis in range(self.rank)]
        self.x = self.g.op("Transpose", self.given("x", rng.integers(-4, 5, given), self.element), perm=order)
        self.axis = int(rng.integers(-self.rank, self.rank))

    def given(self, name, content, element):
        self.feeds[name] = content.astype(element)
        return self.g.input(name, list(content.shape), ELEMENTS[element])

    def sizes(self):
        return [int(self.rng.integers(1, size + 1)) for size in self.shape]

    def flag(self):
        return int(self.rng.integers(2))


def top_k(d):
    count = int(d.rng.integers(1, d.shape[d.axis] + 1))
    return d.g.ops("TopK", d.x, d.g.integers(count), outputs=2, axis=d.axis, largest=d.flag())[0]


def places_of_top_k(d):
    count = int(d.rng.integers(1, d.shape[d.axis] + 1))
    _, indices = d.g.ops("TopK", d.x, d.g.integers(count), outputs=2, axis=d.axis, largest=d.flag())
    return d.g.op("Cast", indices, to=ELEMENTS[d.element])


def cum_sum(d):
    return d.g.op("CumSum", d.x, d.g.constant(np.array(d.axis)), exclusive=d.flag(), reverse=d.flag())


def scatter_nd(d):
    axes = int(d.rng.integers(1, d.rank + 1))
    count = [int(size) for size in d.rng.integers(1, 4, d.rng.integers(1, 3))]
    indices = np.stack([d.rng.integers(-d.shape[axis], d.shape[axis], count) for axis in range(axes)], -1)
    updates = d.given("u", d.rng.integers(-3, 4, [*count, *d.shape[axes:]]), d.element)
    joining = JOININGS[d.rng.integers(len(JOININGS))]
    return d.g.op("ScatterND", d.x, d.given("i", indices, np.int64), updates, reduction=joining)


def scatter_elements(d):
    sizes = d.sizes()
    indices = d.given("i", d.rng.integers(-d.shape[d.axis], d.shape[d.axis], sizes), np.int64)
    joining = JOININGS[d.rng.integers(len(JOININGS))]
    updates = d.given("u", d.rng.integers(-3, 4, sizes), d.element)
    return d.g.op("ScatterElements", d.x, indices, updates, axis=d.axis, reduction=joining)


def gather_elements(d):
    sizes = d.sizes()
    indices = d.given("i", d.rng.integers(-d.shape[d.axis], d.shape[d.axis], sizes), np.int64)
    return d.g.op("GatherElements", d.x, indices, axis=d.axis)


def one_hot(d):
    depth, values = d.g.constant(np.array(d.rng.integers(1, 7))), d.g.constant(np.array([2, 5], np.float32))
    return d.g.op("OneHot", d.x, depth, values, axis=int(d.rng.integers(-d.rank - 1, d.rank + 1)))


FORMS = (top_k, places_of_top_k, cum_sum, scatter_nd, scatter_elements, gather_elements)


@pytest.mark.parametrize("seed", range(2))
def test_random_shapes(seed, tmp_path):
    rng = np.random.default_rng(seed)
    runtime, programs, feeds, wanted = Runtime(), [], [], []
    for number in range(56):
        # Onnxruntime has OneHot for few elements.
        form = one_hot if number % 7 == 6 else FORMS[number % 7]
        drawn = Drawn(rng, (np.int64,) if form is one_hot else tuple(ELEMENTS))
        element = TensorProto.FLOAT if form is one_hot else ELEMENTS[drawn.element]
        model = drawn.g.model(form(drawn), element=element)
        wanted += [(form.__name__, each) for each in runtime.call(runtime.session(model), drawn.feeds).values()]
        programs.append(program(model))
        feeds += [drawn.feeds[port.name] for port in programs[-1].inputs]
    made = run(joined(programs), feeds, load_target("host"), Store(tmp_path), tmp_path)
    for (name, want), got in zip(wanted, made, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5, err_msg=name)
