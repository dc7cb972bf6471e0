"""Operators of odd sizes with random contents and what they must give, for every target."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from lrfdse.ir.epilogue import NO_EPILOGUE, VALUE, Epilogue, Instruction, Operand, Source
from lrfdse.ir.factorization import Step
from lrfdse.ir.indexed import Gather, OneHot, ScatterElements, ScatterND, TopK
from lrfdse.ir.operators import Copy, Elementwise, Interpolation, Normalization, Pool, Reduction, RunningSum, Softmax
from lrfdse.ir.products import (
    BatchedProduct,
    Convolution,
    FullyConnected,
    Place,
    Recurrence,
    TransposedConvolution,
)
from lrfdse.ir.window import Window
from tests.kernels.operators import references
from tests.plugins.operators import Case

RNG = np.random.default_rng(0)
START = RNG.bit_generator.state


def begin_again() -> None:
    """Draw from the start, so that a test gets the same numbers whatever ran before it."""
    RNG.bit_generator.state = START


def draw(*shape: int, scale: float = 1.0) -> NDArray[np.float32]:
    return (scale * RNG.standard_normal(shape)).astype(np.float32)


def operand(number: float) -> Operand:
    return Operand("number", number=number)


def epilogue(*sources: Source) -> Epilogue:
    """Return an epilogue that reads every given input, with a result that is read twice."""
    steps = [Instruction("mul", (VALUE, operand(0.5)))]
    for place, _ in enumerate(sources):
        steps.append(Instruction("add", (Operand("result", len(steps) - 1), Operand("input", place))))
    steps.append(Instruction("sigmoid", (Operand("result", len(steps) - 1),)))
    steps.append(Instruction("mul", (Operand("result", len(steps) - 1), Operand("result", len(steps) - 2))))
    steps.append(Instruction("max", (Operand("result", len(steps) - 1), operand(-0.125))))
    return Epilogue(tuple(steps), sources)


BIAS = epilogue("channel")
ALL = epilogue("channel", "same", "row", "scalar")


def further(e: Epilogue, size: int, channels: int) -> list[NDArray[np.float32]]:
    sizes = {"same": size, "channel": channels, "row": size // channels, "scalar": 1}
    return [draw(sizes[source]) for source in e.sources]


def exact(array: NDArray[np.float32], *shape: int) -> NDArray[np.float64]:
    return array.astype(np.float64).reshape(shape)


def fully_connected(batch: int, out: int, inner: int, columns: int, e: Epilogue) -> Case:
    step = Step(batch, out, inner, columns)
    x, w = draw(batch, inner, columns), draw(out, inner, scale=inner**-0.5)
    more = further(e, step.output_size, out)
    y = np.einsum("jk,pkq->pjq", exact(w, out, inner), exact(x, batch, inner, columns))
    y = references.finished(y[:, :, 0], e, more)[:, :, None] if columns == 1 else references.finished(y, e, more, -2)
    return Case(FullyConnected(step, e), [x, w, *more], [y])


def strided(batch: int, rows: int, columns: int, place: Place) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return the array that holds the matrices of a batch, and these."""
    held = draw((batch - 1) * place.batch + (rows - 1) * place.row + columns)
    b, r, c = np.ogrid[:batch, :rows, :columns]
    return held, held.astype(np.float64)[b * place.batch + r * place.row + c]


def batched(batch: int, rows: int, inner: int, columns: int, apart: bool, e: Epilogue) -> Case:
    """Where `apart`, the heads of an attention lie side by side in each row."""
    sizes = (rows, inner), (inner, columns), (rows, columns)
    places = [Place(b, batch * b) if apart else Place(a * b, b) for a, b in sizes]
    operator = BatchedProduct(batch, rows, inner, columns, *places, e)
    left, a = strided(batch, rows, inner, places[0])
    right, b = strided(batch, inner, columns, places[1])
    more = further(e, batch * rows * columns, columns)
    y = references.finished(a @ b, e, more)
    size = operator.ports[-1].size
    whole = np.full(size, np.nan)
    n, r, c = np.ogrid[:batch, :rows, :columns]
    whole[n * places[2].batch + r * places[2].row + c] = y
    return Case(operator, [left, right, *more], [whole])


def convolution(window: Window, channels: int, outputs: int, groups: int, e: Epilogue) -> Case:
    operator = Convolution(window, channels, outputs, groups, e)
    x = draw(window.batch, *window.image, channels)
    w = draw(outputs, *window.kernel, channels // groups, scale=(operator.macs // operator.ports[-1].size) ** -0.5)
    more = further(e, operator.ports[-1].size, outputs)
    y = references.convolved(x.astype(np.float64), w.astype(np.float64), window, groups)
    return Case(operator, [x, w, *more], [references.finished(y, e, more)])


def elementwise(size: int, channels: int, e: Epilogue) -> Case:
    x, more = draw(size), further(e, size, channels)
    y = references.finished(exact(x, -1, channels), e, more)
    terms = max(float(abs(array).max()) for array in (x, *more))
    return Case(Elementwise(size, channels, e), [x, *more], [y], terms=terms)


def softmax(rows: int, size: int, log: bool) -> Case:
    x = draw(rows, size, scale=5)
    x[:, :: max(2, size // 3)] -= 1e4
    function = special.log_softmax if log else special.softmax
    y = function(x.astype(np.float64), axis=1)
    return Case(Softmax(rows, size, log), [x], [y], 1e-6)


def normalization(rows: int, size: int, centred: bool, e: Epilogue) -> Case:
    x, more = draw(rows, size) + np.float32(3), further(e, rows * size, size)
    y = x.astype(np.float64)
    y = y - y.mean(1, keepdims=True) if centred else y
    y = y / np.sqrt((y**2).mean(1, keepdims=True) + 1e-5)
    return Case(Normalization(rows, size, 1e-5, centred, e), [x, *more], [references.finished(y, e, more)], 8e-6)


def pool(window: Window, channels: int, kind: Any, counts: bool) -> Case:
    x = draw(window.batch, *window.image, channels)
    y = references.pooled(x.astype(np.float64), window, kind, counts)
    return Case(Pool(window, channels, kind, counts), [x], [y])


def reduction(outer: int, size: int, inner: int, kind: Any) -> Case:
    x = draw(outer, size, inner)
    y = x.astype(np.float64)
    functions = {
        "sum": y.sum,
        "mean": y.mean,
        "max": y.max,
        "min": y.min,
        "prod": y.prod,
        "l1": np.abs(y).sum,
        "l2": lambda axis: np.sqrt((y**2).sum(axis)),
        "sumsquare": (y**2).sum,
    }
    return Case(Reduction(outer, size, inner, kind), [x], [functions[kind](axis=1)], 1e-5)


def copy(sizes: tuple[int, ...], order: tuple[int, ...], element: Any = "float32", **changes: Any) -> Case:
    """Return a transposition of a dense tensor to an order of its axes, or what `changes` makes of it."""
    size = int(np.prod(sizes))
    strides = [int(np.prod(sizes[axis + 1 :])) for axis in range(len(sizes))]
    made = tuple(sizes[axis] for axis in order)
    to = tuple(int(np.prod(made[axis + 1 :])) for axis in range(len(made)))
    operator = Copy(made, 0, tuple(strides[axis] for axis in order), 0, to, size, size, None, element)
    operator = dataclasses.replace(operator, **changes)
    x = RNG.integers(0, 2 if element == "bool" else 100, operator.source_size).astype(element)
    filler = np.frombuffer(b"\xff" * 8 * operator.size, x.dtype, operator.size)
    y = filler.copy() if operator.fill is None else np.full(operator.size, operator.fill, x.dtype)
    o = operator
    references.copied(x, o.shape, o.source, o.strides, o.to, o.to_strides, y)
    return Case(operator, [x], [y], 0)


def gather(outer: int, extent: int, inner: int, count: int, element: Any, index: Any) -> Case:
    x = RNG.integers(0, 100, (outer, extent, inner)).astype(element)
    indices = RNG.integers(-3 * extent, 3 * extent, count).astype(index)
    wanted = np.clip(np.where(indices < 0, indices + extent, indices), 0, extent - 1)
    return Case(Gather(outer, extent, inner, count, element, index), [x, indices], [x[:, wanted]], 0)


def top_k(outer: int, size: int, inner: int, count: int, element: Any = "float32", largest: bool = True) -> Case:
    """Return a case whose elements are whole numbers, many of them equal."""
    x = RNG.integers(0, 50, (outer, size, inner)).astype(element)
    signed = -x.astype(np.float64) if largest else x
    order = np.argsort(signed, axis=1, kind="stable")[:, :count]
    operator = TopK(outer, size, inner, count, largest, element)
    return Case(operator, [x], [np.take_along_axis(x, order, 1), order], 0)


def running_sum(outer: int, size: int, inner: int, element: Any = "float32", **how: bool) -> Case:
    x = (50 * RNG.standard_normal((outer, size, inner))).astype(element)
    axis = x[:, ::-1] if how.get("reverse") else x
    y = np.cumsum(axis, axis=1, dtype=np.float64)
    if how.get("exclusive"):
        y = y - axis
    y = y[:, ::-1] if how.get("reverse") else y
    return Case(RunningSum(outer, size, inner, element=element, **how), [x], [y], 0 if "int" in element else 3e-6)


def one_hot(outer: int, depth: int, inner: int, element: Any = "float32", index: Any = "int64") -> Case:
    indices = RNG.integers(-2 * depth, 2 * depth, (outer, inner)).astype(index)
    values = np.array([1, 0] if element == "bool" else [3, 7]).astype(element)
    place = np.where(indices < 0, indices + depth, indices)[:, None]
    y = np.where(place == np.arange(depth)[None, :, None], values[1], values[0])
    return Case(OneHot(outer, depth, inner, element, index), [indices, values], [y], 0)


def scatter_nd(
    extents: tuple[int, ...], inner: int, count: int, joining: Any = "none", element: Any = "float32"
) -> Case:
    """Return a case with indices beyond both ends; of updates of one place the last one stays."""
    x = RNG.integers(1, 9, (*extents, inner)).astype(element)
    index = np.stack([RNG.integers(-n - 1, n + 1, count) for n in extents], axis=1)
    updates = RNG.integers(1, 9, (count, inner)).astype(element)
    functions = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}
    y = x.copy()
    for numbers, update in zip(index, updates, strict=True):
        place = tuple(min(max(i + n * (i < 0), 0), n - 1) for i, n in zip(numbers, extents, strict=True))
        y[place] = update if joining == "none" else functions[joining](y[place], update)
    return Case(ScatterND(extents, inner, count, joining, element), [x, index, updates], [y], 0)


def scatter_elements(
    shape: tuple[int, ...], made: tuple[int, ...], axis: int, joining: Any = "none", element: Any = "float32"
) -> Case:
    x = RNG.integers(1, 9, shape).astype(element)
    index = RNG.integers(-shape[axis] - 1, shape[axis] + 1, made).astype(np.int32)
    updates = RNG.integers(1, 9, made).astype(element)
    functions = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}
    y = x.copy()
    for place in itertools.product(*map(range, made)):
        i = index[place]
        at = [*place]
        at[axis] = min(max(i + shape[axis] * (i < 0), 0), shape[axis] - 1)
        y[tuple(at)] = updates[place] if joining == "none" else functions[joining](y[tuple(at)], updates[place])
    operator = ScatterElements(shape, made, axis, joining, element, "int32")
    return Case(operator, [x, index, updates], [y], 0)


def transposed(window: Window, channels: int, outputs: int, e: Epilogue) -> Case:
    operator = TransposedConvolution(window, channels, outputs, e)
    x = draw(window.batch, *window.out, channels)
    w = draw(channels, *window.kernel, outputs, scale=channels**-0.5)
    more = further(e, operator.ports[-1].size, outputs)
    y = references.transposed(x.astype(np.float64), w.astype(np.float64), window)
    return Case(operator, [x, w, *more], [references.finished(y, e, more)])


def recurrence(
    cell: Any, steps: int, batch: int, hidden: int, reverse: bool, after: bool = False, rank: int = 0
) -> Case:
    operator = Recurrence(cell, steps, batch, hidden, reverse, after, rank)
    x, bias = draw(steps, batch, operator.gates, hidden), draw(operator.gates, hidden, scale=0.3)
    w = stored = draw(operator.gates, hidden, hidden, scale=hidden**-0.5)
    if rank:
        a, b = draw(operator.gates, hidden, rank, scale=rank**-0.5), draw(rank, hidden, scale=hidden**-0.5)
        w, stored = a.astype(np.float64) @ b.astype(np.float64), np.concatenate([b.ravel(), a.ravel()])
    states = [draw(batch, hidden) for _ in range(2 if cell == "lstm" else 1)]
    made = references.recurrent(
        operator, *(a.astype(np.float64) for a in (x, w, bias)), [s.astype(np.float64) for s in states]
    )
    return Case(operator, [x, stored, bias, *states], made, 4e-6)


def interpolation(
    batch: int, channels: int, image: tuple[int, int], tables: list[list[tuple[int, int, float]]]
) -> Case:
    operator = Interpolation(batch, image, channels, *map(tuple, tables))
    x = draw(batch, *image, channels)
    y = x.astype(np.float64)
    for axis, table in enumerate(tables):
        low, high, fraction = (np.array(column) for column in zip(*table, strict=True))
        part = fraction.reshape((-1, 1, 1) if axis == 0 else (-1, 1))
        y = np.take(y, low, axis + 1) * (1 - part) + np.take(y, high, axis + 1) * part
    return Case(operator, [x], [y])


def linear(size: int, made: int, align: bool = False) -> list[tuple[int, int, float]]:
    """Return the table of a linear resize by half pixels, or with aligned corners."""
    positions = np.linspace(0, size - 1, made) if align else (np.arange(made) + 0.5) * size / made - 0.5
    table = []
    for position in np.clip(positions, 0, size - 1):
        low = min(int(position), size - 1)
        table.append((low, min(low + 1, size - 1), float(position) - low))
    return table


def nearest(size: int, made: int) -> list[tuple[int, int, float]]:
    return [(i * size // made, i * size // made, 0.0) for i in range(made)]


def product_cases() -> Iterator[Case]:
    for e in (NO_EPILOGUE, ALL):
        yield fully_connected(7, 13, 5, 1, e)
        yield fully_connected(1, 1, 1, 1, e)
        yield fully_connected(31, 70, 67, 1, e)
    yield fully_connected(23, 40, 1024, 1, BIAS)
    for schedule in ("out:4:2x3:u4:b16x1x31", "out:4:3x2:u2:b70x2x5", "out:1:4x2:u2:b24x2x8", "out:4:2x3:u4:b16x1x31i"):
        yield dataclasses.replace(fully_connected(31, 21, 67, 1, ALL), schedule=schedule)
    yield fully_connected(3, 5, 7, 11, epilogue("channel", "same", "scalar"))
    yield fully_connected(2, 33, 17, 50, epilogue("channel", "same", "scalar"))
    for apart, e in itertools.product((False, True), (NO_EPILOGUE, epilogue("scalar"))):
        yield batched(3, 5, 7, 11, apart, e)
        yield batched(2, 17, 19, 40, apart, e)
        yield batched(1, 1, 1, 1, apart, e)
    # Rows of the right matrix lie 1024 bytes apart: an in-order core reads them from a copy.
    yield batched(16, 90, 70, 16, True, NO_EPILOGUE)
    yield batched(2, 9, 3, 5, False, ALL)
    yield batched(2, 9, 3, 5, True, epilogue("channel", "same", "row"))


def window(image: int | tuple[int, int], kernel: int | tuple[int, int], pad: int = 0, **more: Any) -> Window:
    sizes = (image, image) if isinstance(image, int) else image
    kernels = (kernel, kernel) if isinstance(kernel, int) else kernel
    return Window(more.pop("batch", 1), sizes, kernels, pads=more.pop("pads", (pad,) * 4), **more)


def convolution_cases() -> Iterator[Case]:
    yield convolution(window(5, 3), 3, 4, 1, NO_EPILOGUE)
    yield convolution(window(6, 3, 1), 5, 17, 1, ALL)
    yield convolution(window((7, 9), (3, 5), strides=(2, 3), pads=(1, 0, 2, 3), batch=2), 3, 21, 1, ALL)
    yield convolution(window(9, 3, 2, dilations=(2, 3)), 4, 6, 1, BIAS)
    yield convolution(window((1, 31), (1, 4), pads=(0, 3, 0, 0), dilations=(1, 2)), 6, 8, 1, BIAS)
    yield convolution(window(4, 1, batch=2), 7, 9, 1, ALL)
    yield convolution(window(5, 1, strides=(2, 2)), 7, 9, 1, ALL)
    yield convolution(window(5, 1), 1024, 20, 1, BIAS)
    yield convolution(window(3, 3), 2, 3, 1, NO_EPILOGUE)
    yield convolution(window(8, 3, 1), 6, 9, 3, ALL)
    yield convolution(window(8, 3, 1, batch=2, strides=(2, 1)), 32, 64, 2, BIAS)
    yield convolution(window(6, 3, 1), 4, 8, 4, BIAS)
    # Few output channels: neighbouring columns are taken for channels, by whole groups and by one that overlaps.
    for size in (64, 53):
        yield convolution(window((4, size), (2, 3), 1, batch=2), 5, 1, 1, ALL)
        yield convolution(window((3, size), (2, 4), 1), 3, 2, 1, epilogue("same", "scalar"))
    yield convolution(window((1, 200), (1, 31), strides=(1, 2)), 1, 1, 1, BIAS)
    yield convolution(window((2, 60), (2, 25), 1), 3, 8, 1, epilogue("channel", "same"))
    for schedule in ("out:4:1x3:u2:b18x1x12", "out:4:2x5:u4:b9x2x4", "out:1:3x2:u2:b27x1x40", "out:4:2x3:u4:b54x1x6"):
        yield dataclasses.replace(convolution(window((7, 6), 3, 1, batch=2), 6, 11, 1, ALL), schedule=schedule)
    yield dataclasses.replace(
        convolution(window(9, 3, 2, dilations=(2, 3)), 8, 12, 2, BIAS), schedule="out:4:1x2:u2:b18x1x18"
    )
    yield dataclasses.replace(convolution(window(9, 3, strides=(2, 2)), 8, 12, 1, ALL), schedule="out:4:2x2:u2:b36x1x8")
    dilated = (
        window((7, 12), 3, 1, batch=2, dilations=(1, 2), strides=(1, 3)),
        window((5, 14), (1, 4), dilations=(1, 3)),
        window((14, 5), (4, 1), dilations=(3, 2), pads=(1, 0, 2, 0)),
    )
    for each in dilated:
        part = 4 * each.kernel[0] * each.kernel[1]
        yield dataclasses.replace(convolution(each, 8, 12, 1, ALL), schedule=f"out:4:2x3:u2:b{part}x1x8")
    yield convolution(window((12, 3), 3, pads=(1, 0, 1, 0)), 16, 24, 1, BIAS)


def depthwise_cases() -> Iterator[Case]:
    for channels in (1, 3, 8, 37):
        if channels > 1:
            yield convolution(window(5, 3, 1), channels, channels, channels, ALL)
            yield convolution(window((30, 23), 3, 1), channels, channels, channels, BIAS)
    yield convolution(window((31, 27), 5, 2, strides=(2, 2)), 19, 19, 19, BIAS)
    yield convolution(window(9, 3, 0, batch=2), 16, 16, 16, NO_EPILOGUE)
    yield convolution(window((1, 40), (1, 7), pads=(0, 3, 0, 2), strides=(1, 2)), 12, 12, 12, BIAS)
    yield convolution(window(40, 3, 2, dilations=(2, 2)), 5, 5, 5, BIAS)
    yield convolution(window(2, 3, 1), 20, 20, 20, BIAS)
    yield convolution(window((30, 40), 5, pads=(0, 4, 3, 1), batch=2), 9, 9, 9, BIAS)


def row_cases() -> Iterator[Case]:
    for size in (1, 2, 7, 16, 33, 100):
        yield softmax(3, size, False)
        yield softmax(2, size, True)
        yield normalization(3, size, True, epilogue("channel", "channel") if size > 1 else NO_EPILOGUE)
        yield normalization(2, size, False, ALL)
    for size, channels in ((1, 1), (7, 7), (64, 64), (1000, 1), (60, 12), (51, 17), (330, 33)):
        yield elementwise(size, channels, ALL)
        yield elementwise(size, channels, epilogue("same"))
        yield elementwise(size, channels, NO_EPILOGUE)


def pool_cases() -> Iterator[Case]:
    for kind, counts in (("max", False), ("mean", False), ("mean", True)):
        yield pool(window(6, 2, strides=(2, 2)), 6, kind, counts)
        yield pool(window(7, 3, 1, strides=(2, 2), batch=2), 33, kind, counts)
        yield pool(window((9, 6), (3, 2), strides=(3, 2), pads=(1, 0, 0, 1), ceil=True), 64, kind, counts)
        yield pool(window(11, 3, 1, dilations=(2, 3)), 3, kind, counts)
        yield pool(window((4, 5), (4, 5)), 70, kind, counts)
        yield pool(window(3, 1), 1, kind, counts)
    for kind in ("sum", "mean", "max", "min", "prod", "l1", "l2", "sumsquare"):
        for outer, size, inner in ((2, 3, 1), (3, 37, 1), (1, 1, 1), (2, 5, 7), (2, 9, 40), (1, 70, 131)):
            yield reduction(outer, size, inner, kind)


def sum_cases() -> Iterator[Case]:
    """Long sums of positive numbers, whose rounding grows with their length where one accumulator takes them all."""
    rng = np.random.default_rng(0)
    for size in (6625, 6637, 4096, 1500):
        x = rng.uniform(0, 1, (2, size)).astype(np.float32)
        y = special.softmax(x.astype(np.float64), axis=1)
        yield Case(Softmax(2, size, False), [x], [y], 6e-7)
    for outer, size, inner in ((2, 6625, 1), (1, 6637, 1), (1, 4096, 40), (2, 1499, 7)):
        x = rng.uniform(0, 1, (outer, size, inner)).astype(np.float32)
        yield Case(Reduction(outer, size, inner, "mean"), [x], [x.astype(np.float64).mean(1)], 6e-7)
        yield Case(Reduction(outer, size, inner, "sumsquare"), [x], [(x.astype(np.float64) ** 2).sum(1)], 6e-7)


def copy_cases() -> Iterator[Case]:
    for element in ("float32", "int64", "bool", "float64", "int16", "uint8", "float16"):
        yield copy((3, 5, 7), (2, 0, 1), element)
        yield copy((4, 33), (0, 1), element)
        yield copy((19, 23), (1, 0), element)
        yield copy((2, 9, 3, 20), (0, 2, 1, 3), element)
    yield copy((64, 64), (1, 0))
    yield copy((1, 1), (1, 0))
    yield copy((500,), (0,))
    yield copy((16, 16), (0, 1), shape=(16, 8), strides=(16, 1), to_strides=(8, 1), size=128)
    # A slice backwards, a broadcast along either axis, padding with a number, and one part of a concatenation.
    yield copy((9, 21), (0, 1), shape=(9, 21), source=188, strides=(-21, -1))
    yield copy((9,), (0,), shape=(9, 21), strides=(1, 0), to_strides=(21, 1), size=189)
    yield copy((21,), (0,), shape=(9, 21), strides=(0, 1), to_strides=(21, 1), size=189)
    yield copy((4, 5), (0, 1), to=8, to_strides=(7, 1), size=42, fill=1.5)
    yield copy((4, 5), (0, 1), to=8, to_strides=(7, 1), size=42, fill=0.0)
    yield copy((4, 16), (0, 1), to=16, to_strides=(40, 1), size=160)
    yield copy((4, 5), (0, 1), shape=(0, 5), size=500, fill=0.0)
    # Bytes, of which LLVM would call memset.
    for element in ("bool", "int8", "uint8"):
        yield copy((9,), (0,), element, shape=(9, 121), strides=(1, 0), to_strides=(121, 1), size=1089)
        yield copy((4, 5), (0, 1), element, to=8, to_strides=(7, 1), size=542, fill=1)
    for index in ("int64", "int32"):
        yield gather(1, 10, 64, 7, "float32", index)
        yield gather(3, 5, 1, 4, "float32", index)
        yield gather(2, 5, 3, 4, "int64", index)


def axis_cases() -> Iterator[Case]:
    for count in (1, 2, 3, 7, 8, 63, 64):
        yield top_k(2, 64, 1, count)
        yield top_k(1, 64, 3, count, largest=False)
    yield top_k(1, 1000, 1, 1000)
    yield top_k(1, 8400, 1, 100)
    yield top_k(3, 1, 5, 1)
    # One element of all.
    yield top_k(1, 1, 1, 1)
    yield running_sum(1, 1, 1)
    yield running_sum(1, 1, 1, "int64", exclusive=True, reverse=True)
    yield one_hot(1, 1, 1)
    yield scatter_nd((1,), 1, 1)
    yield scatter_nd((1, 1), 1, 1, "add")
    yield scatter_elements((1,), (1,), 0)
    for element in ("float64", "int8", "uint8", "int16", "uint16", "int32", "int64"):
        yield top_k(2, 40, 3, 5, element)
        yield top_k(2, 40, 1, 40, element, largest=False)
    for element in ("float32", "float64", "int32", "int64"):
        for how in ({}, {"exclusive": True}, {"reverse": True}, {"exclusive": True, "reverse": True}):
            yield running_sum(2, 31, 1, element, **how)
            yield running_sum(3, 9, 21, element, **how)
        yield running_sum(200, 1, 1, element, exclusive=True)
        yield running_sum(200, 1, 1, element)
    yield running_sum(1, 5, 64)
    for element in ("float32", "float64", "bool", "int8", "int64", "float16"):
        yield one_hot(5, 40, 1, element)
        yield one_hot(3, 7, 5, element, "int32")
        yield one_hot(200, 1, 1, element)
    for element in ("float32", "bool", "int64", "float16"):
        yield scatter_nd((7,), 9, 5, "none", element)
        yield scatter_nd((3, 4, 5), 1, 17, "none", element)
        yield scatter_elements((4, 5, 6), (3, 5, 2), 1, "none", element)
    for joining in ("add", "mul", "max", "min"):
        for element in ("float32", "float64", "int32", "int64"):
            yield scatter_nd((3, 4), 5, 6, joining, element)
            yield scatter_elements((5, 6), (4, 6), 0, joining, element)
    for index in ("uint8", "int8", "int16", "float32", "float64"):
        yield one_hot(30, 20, 1, "float32", index)
    # Not numbers, and what no index of 32 bits holds; parts of numbers are left out.
    far = np.array([np.nan, np.inf, -np.inf, 1e20, -1e20, 2.9, -0.5, -2.9], np.float32)
    expected = np.zeros((8, 3), np.float32)
    expected[[5, 6, 7], [2, 0, 1]] = 1
    yield Case(OneHot(8, 3, 1, index="float32"), [far, np.array([0, 1], np.float32)], [expected], 0)
    far = np.array([2**32, 2**32 + 1, -(2**32), 2**63 - 1, -(2**63), 2, -3, 3])
    expected = np.zeros((8, 3), np.float32)
    expected[[5, 6], [2, 0]] = 1
    yield Case(OneHot(8, 3, 1), [far, np.array([0, 1], np.float32)], [expected], 0)


def transposed_cases() -> Iterator[Case]:
    yield transposed(window(8, 2, strides=(2, 2)), 5, 3, ALL)
    yield transposed(window((10, 14), 2, strides=(2, 2), batch=2), 24, 17, BIAS)
    yield transposed(window(9, 3, 1, strides=(2, 2)), 7, 8, BIAS)
    yield transposed(window((12, 11), 4, 1, strides=(2, 2)), 6, 9, ALL)
    yield transposed(window(6, 3, 1), 4, 16, BIAS)
    yield transposed(window((17, 9), (3, 2), strides=(3, 4), batch=2), 5, 33, ALL)
    yield transposed(window((11, 13), 3, pads=(1, 0, 2, 1), strides=(2, 1), dilations=(2, 3)), 3, 5, BIAS)
    yield transposed(window((1, 23), (1, 5), pads=(0, 2, 0, 2), strides=(1, 3)), 6, 7, BIAS)
    yield transposed(window(7, 1, strides=(3, 3)), 2, 20, ALL)
    # Few output channels: those of neighbouring inputs fill a vector.
    yield transposed(window((6, 64), 2, strides=(2, 2), batch=2), 5, 1, ALL)
    yield transposed(window((9, 32), (3, 2), strides=(3, 2)), 3, 2, epilogue("same", "scalar"))
    yield transposed(window((6, 68), 2, strides=(2, 2)), 5, 1, ALL)


def recurrent_cases() -> Iterator[Case]:
    for hidden, batch in ((1, 1), (5, 3), (19, 1), (48, 2)):
        yield recurrence("lstm", 4, batch, hidden, reverse=False)
        yield recurrence("lstm", 5, batch, hidden, reverse=True)
        yield recurrence("gru", 4, batch, hidden, reverse=True)
        yield recurrence("gru", 5, batch, hidden, reverse=False, after=True)
        yield recurrence("lstm", 4, batch, hidden, reverse=False, rank=max(1, hidden // 3))
        yield recurrence("gru", 3, batch, hidden, reverse=True, after=True, rank=max(1, hidden // 4))
    yield recurrence("lstm", 2, 3, 33, reverse=False, rank=32)
    yield recurrence("gru", 1, 2, 9, reverse=False)
    yield recurrence("lstm", 1, 2, 9, reverse=False)


def interpolation_cases() -> Iterator[Case]:
    for channels in (1, 5, 40):
        yield interpolation(2, channels, (3, 5), [linear(3, 6), linear(5, 10)])
        yield interpolation(1, channels, (4, 7), [nearest(4, 8), nearest(7, 21)])
        yield interpolation(1, channels, (7, 5), [linear(7, 17, align=True), linear(5, 3)])
        yield interpolation(1, channels, (7, 50), [nearest(7, 5), nearest(50, 73)])
    yield interpolation(1, 3, (1, 1), [linear(1, 1), linear(1, 4)])


FAMILIES = {
    "products": product_cases,
    "convolutions": convolution_cases,
    "depthwise": depthwise_cases,
    "rows": row_cases,
    "sums": sum_cases,
    "pools": pool_cases,
    "copies": copy_cases,
    "axes": axis_cases,
    "transposed": transposed_cases,
    "recurrences": recurrent_cases,
    "interpolations": interpolation_cases,
}
