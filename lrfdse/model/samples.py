"""Where samples lie: in what a model is fed in one run, and in what it gives."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Sizes: TypeAlias = Sequence[int | None]

_BATCH = re.compile(r"n|b|bs|bsz|samples?|.*batch.*", re.IGNORECASE)
"""Names under which exporters leave the number of samples open."""

_CLOSE = 1e-2
"""Largest difference, relative to the largest element, of what a batch and its samples alone may give: float16 sums in
another order differ by less. Chosen."""

HELD = 1 << 26
"""Bytes of activations that are read of one run where a model leaves open how many samples it takes. Chosen: what the
37 layers of a sentence encoder read in 128 tokens is 16 MB, and 96 texts at once held 1.6 GB."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the samples of one run lie in a value."""

    axis: int | None
    """Axis of the samples; None where the whole value belongs to every sample of the run."""
    each: int = 1
    """Elements along that axis that belong to one sample, one sample after another."""

    def split(self, array: NDArray[Any], count: int) -> NDArray[Any]:
        """Return the value of a run of `count` samples with samples first; an axis of one element each is dropped.

        >>> Place(1, 2).split(np.zeros((5, 6)), 3).shape, Place(None).split(np.zeros(5), 3).shape
        ((3, 5, 2), (3, 5))
        """
        if self.axis is None:
            return np.broadcast_to(array, (count, *array.shape))
        sizes = (*array.shape[: self.axis], count, self.each, *array.shape[self.axis + 1 :])
        moved = np.moveaxis(array.reshape(sizes), self.axis, 0)
        return moved.squeeze(self.axis + 1) if self.each == 1 else moved

    def joined(self, samples: NDArray[Any]) -> NDArray[Any]:
        """Return what `split` was given; where the whole value belongs to every sample, that of the first."""
        if self.axis is None:
            return np.asarray(samples[0])
        if self.each == 1:
            samples = np.expand_dims(samples, self.axis + 1)
        moved = np.moveaxis(samples, 0, self.axis)
        sizes = (*moved.shape[: self.axis], moved.shape[self.axis] * self.each, *moved.shape[self.axis + 2 :])
        return moved.reshape(sizes)

    def split_axis(self, axis: int, rank: int) -> int:
        """Return where a negative axis of a value of `rank` dimensions lies once `split` was applied, as negative."""
        dropped = self.axis is not None and self.each == 1 and self.axis > rank + axis
        return axis + 1 if dropped else axis


@dataclass(frozen=True, slots=True)
class Rows:
    """How a value of one run becomes rows of features sample by sample, and back."""

    place: Place
    """Where the samples lie."""
    feature: int
    """The axis of features once samples come first, as a negative number."""
    inner: tuple[int, ...]
    """Sizes between the axis of samples, which is first, and that of features, which is last."""

    @classmethod
    def of(cls, array: NDArray[Any], place: Place, feature: int, count: int) -> Rows:
        """Return the layout of a value like this one, of `count` samples, whose features lie along `feature` (< 0)."""
        axis = place.split_axis(feature, array.ndim)
        return cls(place, axis, np.moveaxis(place.split(array, count), axis, -1).shape[1:-1])

    def rows(self, array: NDArray[Any], count: int) -> NDArray[Any]:
        """Return a value of `count` samples as (count, rows, features)."""
        moved = np.moveaxis(self.place.split(array, count), self.feature, -1)
        return moved.reshape(count, -1, moved.shape[-1])

    def value(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return the value whose rows these are.

        >>> array = np.arange(24.0).reshape(2, 3, 4)
        >>> layout = Rows.of(array, Place(1), -1, 3)
        >>> layout.rows(array, 3).shape, bool((layout.value(layout.rows(array, 3)) == array).all())
        ((3, 2, 4), True)
        """
        moved = rows.reshape(len(rows), *self.inner, rows.shape[-1])
        return np.ascontiguousarray(self.place.joined(np.moveaxis(moved, -1, self.feature)))


def single_place(shape: Sequence[int]) -> Place:
    """Return where a run of one sample has it: the first or the second axis where that has one element, else the whole.

    >>> single_place((1, 10)), single_place((20, 1, 37)), single_place((20, 37))
    (Place(axis=0, each=1), Place(axis=1, each=1), Place(axis=None, each=1))
    """
    return Place(next((axis for axis in (0, 1) if tuple(shape[axis : axis + 1]) == (1,)), None))


def found_place(together: NDArray[Any], alone: NDArray[Any], other: NDArray[Any], count: int) -> Place | None:
    """Return where a run of `count` samples has them, None where it cannot be told or they depend on each other.

    Parameters
    ----------
    together
        What `count` samples gave in one run.
    alone, other
        What the first and the last of them gave by themselves.
    count
        Samples of the run.
    """
    if together.shape == alone.shape:
        same = alone.shape == other.shape and close(together, alone) and close(together, other)
        return Place(None) if same else None
    differ = [axis for axis, sizes in enumerate(zip(together.shape, alone.shape, strict=False)) if len(set(sizes)) > 1]
    if together.ndim != alone.ndim or len(differ) != 1 or alone.shape != other.shape:
        return None
    place = Place(differ[0], alone.shape[differ[0]])
    if together.shape[differ[0]] != count * place.each or not place.each:
        return None
    samples = place.split(together, count)
    first, last = place.split(alone, 1)[0], place.split(other, 1)[0]
    return place if close(samples[0], first) and close(samples[-1], last) else None


def rolled_place(before: NDArray[Any], after: NDArray[Any], count: int) -> Place | None:
    """Return where a run has its `count` samples, given what it gave before and after these moved on by one place.

    None where no axis moved as the samples did.
    """
    if before.shape != after.shape:
        return None
    for axis, size in enumerate(before.shape):
        if size and size % count == 0 and close(np.roll(before, size // count, axis), after):
            return Place(axis, size // count)
    return None


def close(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Return whether two values are the same but for rounding; values that are no floating point, whatever they are."""
    if one.shape != other.shape:
        return False
    if one.dtype.kind not in "fV":
        return True
    one, other = one.astype(np.float64), other.astype(np.float64)
    scale = float(np.abs(other).max(initial=0.0)) or 1.0
    # Outputs that overflow differ by NaN, which is not close.
    with np.errstate(invalid="ignore"):
        return bool(np.abs(one - other).max(initial=0.0) <= _CLOSE * scale)


def sample_axes(
    shapes: Sequence[Sizes | None], labels: Sequence[Sequence[str]], runs: Sequence[Sizes | None]
) -> list[int | None]:
    """Return the axis of each input along which samples are fed together, as far as declared shapes tell.

    It is the open axis that is called like a batch, or like the first axis of most inputs; else the first one. None
    for an input that has none: its samples are inputs of the whole shape, and run one by one.

    Parameters
    ----------
    shapes
        The declared shapes: None for an open size; None altogether where not even the rank is known.
    labels
        Their sizes in words, with the names of the open ones.
    runs
        The shapes in the timed inference.

    >>> sample_axes([(None, 40), (2, None, 16)], [("batch", "40"), ("2", "batch", "16")], [(1, 40), (2, 1, 16)])
    [0, 1]
    >>> sample_axes([(1, 40), (2, 1, 16), ()], [(), (), ()], [(1, 40), (2, 1, 16), ()])
    [0, None, None]
    """
    opened = [
        {label: axis for axis, label in enumerate(words) if shape[axis] is None and label != "?"}
        for shape, words in zip(([] if s is None else s for s in shapes), labels, strict=True)
    ]
    firsts = [words[0] for words, own in zip(labels, opened, strict=True) if words and words[0] in own]
    named = [label for own in opened for label in own if _BATCH.fullmatch(label)]
    batch = named[0] if named else max(firsts, key=lambda label: sum(label in own for own in opened), default=None)
    fixed = {shape[0] for shape in shapes if shape and shape[0] is not None}
    is_open = any(shape is None or None in shape[:1] for shape in shapes) or any(batch in own for own in opened)
    found: list[int | None] = []
    for shape, words, own in zip(shapes, labels, opened, strict=True):
        if shape is None:
            found.append(0)
        elif not shape or list(words).count(batch or "") > 1:
            found.append(None)
        elif batch in own:
            found.append(own[str(batch)])
        elif shape[0] is None or shape[0] == 1 or (fixed == {shape[0]} and not is_open):
            found.append(0)
        else:
            found.append(None)
    if all(axis is not None or not shape for axis, shape in zip(found, shapes, strict=True)):
        return found
    # What one input has of a sample is whole, so what the others have must be, too.
    return [
        None if axis is None or (run is not None and run[axis] not in (None, 1)) else axis
        for axis, run in zip(found, runs, strict=True)
    ]


def rolled(feeds: Mapping[str, NDArray[Any]], axes: Mapping[str, int | None]) -> dict[str, NDArray[Any]]:
    """Return the feeds of a run with its samples moved on by one place."""
    moved = {}
    for name, array in feeds.items():
        axis = axes.get(name)
        moved[name] = array if axis is None else np.roll(array, 1, axis)
    return moved


def batch_within(most: int, arrays: Sequence[NDArray[Any]], samples: int, room: int = HELD) -> int:
    """Return how many samples to run together, `most` of them or as many as leave what is read of a run small enough.

    Parameters
    ----------
    most
        As many as there may be.
    arrays
        What is read of a run.
    samples
        Samples of that run.
    room
        Bytes that may be read of a run.
    """
    read = sum(array.nbytes for array in arrays) / samples
    return max(1, min(most, int(room / read))) if read else most
