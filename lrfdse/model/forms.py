"""The forms that arrays of a data file may have: where their samples lie, and how all of them agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrfdse.errors import InputError
from lrfdse.model.shapes import Port


@dataclass(frozen=True, slots=True)
class Form:
    """One way to read the array of an input."""

    count: int | None
    """Samples; None where the array is one input that all samples share."""
    axis: int | None = None
    """The model's axis of samples; None where a sample is a whole input."""
    stacked: bool = False
    """Whether the array has an axis of samples more than the input."""

    def samples_first(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the array with samples first and, where these are fed along an axis, without that axis."""
        if self.stacked:
            return array if self.axis is None else array.squeeze(self.axis + 1)
        return array if self.axis is None else np.moveaxis(array, self.axis, 0)


def forms_of(array: NDArray[Any], port: Port, path: Path) -> list[Form]:
    """Return the ways to read an array, the likeliest first.

    Raises
    ------
    InputError
        There is none.
    """
    where = f"{path}: array for input {port}"
    if array.size == 0 or (array.ndim == 0 and port.shape != ()):
        raise InputError(f"{where} is empty")
    if port.shape is None:
        return [Form(len(array), 0)]
    found = []
    if array.ndim == len(port.shape) and port.axis is not None:
        own = list(port.shape)
        own[port.axis] = None
        if _fit(array.shape, own):
            found.append(Form(array.shape[port.axis], port.axis))
    if array.ndim == len(port.shape) + 1 and _fit(array.shape[1:], port.shape):
        alone = port.axis is not None and array.shape[1 + port.axis] == 1
        found.append(Form(len(array), port.axis if alone else None, stacked=True))
    if (port.axis is None or port.shape[port.axis] == 1) and _fit(array.shape, port.shape):
        found.append(Form(None))
    if not found:
        hint = "" if port.axis == 0 else "; each of them has the shape of the input"
        raise InputError(f"{where} has shape {'x'.join(map(str, array.shape)) or '1'}, samples first{hint}")
    return found


def _fit(shape: Sequence[int], own: Sequence[int | None]) -> bool:
    return len(shape) == len(own) and all(want in (None, size) for want, size in zip(own, shape, strict=True))


def agreeing(forms: Mapping[str, Sequence[Form]], count: int | None) -> dict[str, Form] | None:
    """Return a way to read each array such that they have one number of samples; None where there is none."""
    wanted = [form.count for found in forms.values() for form in found if form.count is not None]
    for number in [count] if count is not None else [*wanted, None]:
        chosen = {
            name: next(
                (form for form in found if form.count == number), next((f for f in found if f.count is None), None)
            )
            for name, found in forms.items()
        }
        if all(form is not None for form in chosen.values()):
            return {name: form for name, form in chosen.items() if form is not None}
    return None


def are_equal(array: NDArray[Any]) -> bool:
    """Return whether all samples are the same."""
    return bool((array == array[:1]).all())


def check_runs(inputs: Mapping[str, Any], axes: Mapping[str, int | None], ports: Sequence[Port], path: Path) -> None:
    """Refuse samples of which a run takes several of one input, but one of another.

    Raises
    ------
    InputError
        As said.
    """
    sizes = {}
    for port in ports:
        if port.name in inputs and port.shape is not None:
            axis = axes.get(port.name, 0)
            if (size := 1 if axis is None else port.shape[axis]) is not None:
                sizes[port] = size
    if len(set(sizes.values())) > 1:
        most = max(sizes, key=lambda port: sizes[port])
        raise InputError(
            f"{path}: a run takes {sizes[most]} samples of input {most}, but one of others: give every sample the "
            f"whole shape of that input, one axis more than it has"
        )
