"""Data out of loaders, columns and arrays of whatever library, told by what they can do: nothing is imported for it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrfdse.base.text import one_line
from lrfdse.errors import InputError
from lrfdse.model.given import data_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

LABELS = "labels"
"""Name of the labels in files."""
_LABEL_KEYS = ("labels", "label", "y", "target")
"""Under which names labels are found in mappings where none is given."""


def save_data(
    path: str | os.PathLike[str],
    source: Any,
    *,
    inputs: Sequence[str] = (),
    label: str | None = None,
    labelled: bool = True,
    samples: int | None = None,
    batched: bool = True,
) -> Path:
    """Write data of any library to an ``.npz`` file that `explore` reads, and return its path.

    Tensors of PyTorch, TensorFlow, Keras and JAX, images of Pillow, NumPy arrays and lists will do: whatever
    ``numpy.asarray`` takes.

    Parameters
    ----------
    path
        The file, such as ``eval.npz``. One that is there is replaced.
    source
        A loader, or another iterable of batches (`batched`) or samples; a mapping of names to whole columns, such as
        ``dataset[:1000]`` of Hugging Face; a tuple ``(x, y)`` of whole arrays; or one array. A batch is an array, a
        mapping by name, or a tuple of the inputs and then the labels, where inputs may be a mapping or a tuple.
    inputs
        Names of the model's inputs, in the order of a tuple's; of a mapping, the keys to take. Not needed for models
        of one input.
    label
        Key of the labels in a mapping; None takes the first of "labels", "label", "y" and "target" that is there.
    labelled
        Whether labels are written; calibration data need none.
    samples
        How many samples to take at most, from the first on; None takes all.
    batched
        Whether an iterable's items have an axis of samples; False puts one in front of each.

    Raises
    ------
    InputError
        There are no samples, parts do not fit together, or something is no array of numbers.
    """
    file = Path(path)
    if file.suffix != ".npz":
        raise InputError(f"{file}: name a file that ends with .npz")
    parts: dict[str, list[NDArray[Any]]] = {}
    count = 0
    for batch in _batches(source, batched):
        named = _named(batch, inputs, label, labelled)
        arrays = {name: _array(value, name, batched) for name, value in named.items()}
        taken = _count(arrays)
        if samples is not None and count + taken > samples:
            taken = samples - count
        if parts and set(parts) != set(arrays):
            raise InputError(f"one batch holds {', '.join(sorted(parts))}, another {', '.join(sorted(arrays))}")
        for name, array in arrays.items():
            parts.setdefault(name, []).append(array[:taken])
        count += taken
        if samples is not None and count >= samples:
            break
    if not count:
        raise InputError(f"no samples to write to {file}")
    return data_file({name: _joined(name, arrays) for name, arrays in parts.items()}, file.stem, file.parent)


def _batches(source: Any, batched: bool) -> Iterator[Any]:
    """Yield the batches of a source; what is whole is one."""
    if isinstance(source, Mapping | tuple) or _is_array(source):
        if not batched:
            raise InputError("batched=False is for iterables of single samples, but got whole columns")
        yield source
    elif isinstance(source, Iterable) and not isinstance(source, str | bytes):
        yield from source
    else:
        raise InputError(f"a loader, columns or an array are needed, but got an object of type {type(source).__name__}")


def _is_array(value: Any) -> bool:
    return hasattr(value, "__array__") or hasattr(value, "__array_interface__")


def _named(batch: Any, inputs: Sequence[str], label: str | None, labelled: bool) -> dict[str, Any]:
    """Return a batch's parts by name, its labels as "labels"."""
    if isinstance(batch, Mapping):
        return _of_mapping(batch, inputs, label, labelled)
    if not isinstance(batch, tuple | list) or not batch:
        return {inputs[0] if inputs else "input": batch}
    first, *rest = batch
    if isinstance(first, Mapping):
        named, after = {key: first[key] for key in _keys(first, inputs)}, rest
    else:
        flat = [*first, *rest] if isinstance(first, tuple) else list(batch)
        names = list(inputs) or ["input"]
        if len(flat) < len(names):
            raise InputError(f"a batch has {len(flat)} parts, but there are the inputs {', '.join(names)}")
        named, after = dict(zip(names, flat, strict=False)), flat[len(names) :]
    if len(after) > 1:
        raise InputError(f"a batch has {len(after)} parts behind its inputs: give the names of all `inputs`")
    if labelled and after:
        named[LABELS] = after[0]
    return named


def _of_mapping(batch: Mapping[str, Any], inputs: Sequence[str], label: str | None, labelled: bool) -> dict[str, Any]:
    if label is not None and label not in batch:
        raise InputError(f"there is no {label!r}: the data hold {', '.join(map(str, batch))}")
    key = label if label is not None else next((each for each in _LABEL_KEYS if each in batch), None)
    named = {name: batch[name] for name in _keys(batch, inputs) if inputs or name != key}
    if labelled and key is not None:
        named[LABELS] = batch[key]
    return named


def _keys(batch: Mapping[str, Any], inputs: Sequence[str]) -> list[str]:
    if missing := [name for name in inputs if name not in batch]:
        raise InputError(f"there is no {missing[0]!r}: the data hold {', '.join(map(str, batch))}")
    return list(inputs) or list(batch)


def _array(value: Any, name: str, batched: bool) -> NDArray[Any]:
    import numpy as np

    if hasattr(value, "detach"):  # A tensor of PyTorch may be on another device, or wait for gradients.
        value = value.detach().cpu()
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name!r} is no array of numbers: {one_line(error)}") from error
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name!r} is no array of numbers: it holds {array.dtype}")
    array = array if batched else array[np.newaxis]
    if array.ndim == 0:
        raise InputError(f"{name!r} is a single number: samples are wanted along the first axis")
    return array


def _count(arrays: Mapping[str, NDArray[Any]]) -> int:
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) != 1:
        held = ", ".join(f"{name} {count}" for name, count in counts.items()) or "nothing"
        raise InputError(f"the parts of a batch differ in their number of samples: {held}")
    return next(iter(counts.values()))


def _joined(name: str, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    import numpy as np

    if len(shapes := {array.shape[1:] for array in arrays}) > 1:
        held = " and ".join(sorted("x".join(map(str, shape)) or "a number" for shape in shapes))
        raise InputError(f"samples of {name!r} differ in shape: {held}; bring them to one")
    return np.concatenate(arrays)
