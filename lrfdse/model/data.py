"""Data: arrays for a model's inputs, with or without labels."""

from __future__ import annotations

import errno
import hashlib
import math
import zipfile
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrfdse.base.border import reading
from lrfdse.base.files import open_regular
from lrfdse.base.machine import memory_bytes
from lrfdse.errors import InputError
from lrfdse.model.forms import agreeing, are_equal, check_runs, forms_of
from lrfdse.model.shapes import Port, run_sizes

LABELS = ("labels", "y")
"""Names under which labels are found."""

RANDOM_BYTES = 1 << 28
"""Most that random data take. Chosen: 64 samples of 3x512x512 float32 are three quarters of it."""

_MOST_UNPACKED, _BEST_RATIO = 1 << 28, 200
"""An archive may become so many bytes, or so many times its size, if that is more. Chosen: deflate reaches a factor of
1,030 on zeros alone, and less than 100 on data that are worth anything."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Dataset:
    """Samples along the first axis of every array."""

    inputs: Mapping[str, NDArray[Any]]
    """Input name to array, in the type that the model takes."""
    labels: NDArray[Any] | None
    """Class of each sample, int64 of shape (count,) or (count, positions); or targets, numbers of any shape."""
    axes: Mapping[str, int | None] = field(default_factory=dict)
    """Input name to the model's axis along which samples are fed together, 0 for those not named; None for an input
    whose samples have its whole shape, so that they run one by one."""
    shared: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Input name to array, of those that every run is fed alike, in their own shape."""

    def __repr__(self) -> str:
        kind = "with" if self.labels is not None else "without"
        return f"Dataset({self.count} samples, {', '.join([*self.inputs, *self.shared])}, {kind} labels)"

    @property
    def count(self) -> int:
        """Number of samples; 1 where every input is shared."""
        return len(next(iter(self.inputs.values()))) if self.inputs else 1

    @property
    def one_by_one(self) -> bool:
        """Whether samples cannot be fed together."""
        return not self.inputs or any(self.axes.get(name, 0) is None for name in self.inputs)

    @property
    def digest(self) -> str:
        """SHA-256 of names, types, shapes and elements, and of how they are fed where that is another way."""
        state = hashlib.sha256()
        arrays = dict(self.inputs) if self.labels is None else {**self.inputs, "": self.labels}
        for name, array in [*sorted(arrays.items()), *sorted(self.shared.items())]:
            fed = ("shared",) if name in self.shared else (axis,) if (axis := self.axes.get(name, 0)) != 0 else ()
            state.update(repr((name, str(array.dtype), array.shape, *fed)).encode())
            state.update(np.ascontiguousarray(array).tobytes())
        return state.hexdigest()

    def feeds(self, start: int, stop: int) -> dict[str, NDArray[Any]]:
        """Return what one run is fed: the samples of that range, one of them where they cannot be fed together."""
        found = dict(self.shared)
        for name, array in self.inputs.items():
            axis = self.axes.get(name, 0)
            found[name] = array[start] if axis is None else np.moveaxis(array[start:stop], 0, axis)
        return found

    def head(self, count: int) -> Dataset:
        """Return the first `count` samples."""
        return self.take(slice(0, count))

    def draw(self, count: int, seed: int) -> Dataset:
        """Return `count` samples drawn without replacement, in their own order; all of them where there are fewer."""
        if count >= self.count:
            return self
        return self.take(np.sort(np.random.default_rng(seed).choice(self.count, count, replace=False)))

    def split(self) -> tuple[Dataset, Dataset]:
        """Return the samples of even and of odd index: one half chooses, the other reports.

        Raises
        ------
        InputError
            There is only one sample.
        """
        if self.count < 2:
            raise InputError("at least 2 samples must be given where one half chooses and the other reports, but got 1")
        return self.take(slice(0, None, 2)), self.take(slice(1, None, 2))

    def take(self, part: slice | NDArray[Any]) -> Dataset:
        """Return the samples that a slice, an index array or a mask selects, with their labels."""
        labels = None if self.labels is None else self.labels[part]
        return replace(self, inputs={name: array[part] for name, array in self.inputs.items()}, labels=labels)


def load_data(path: str | Path, ports: Sequence[Port], classes: bool = True, fixed: Collection[str] = ()) -> Dataset:
    """Read a data set from an ``.npz`` file.

    Arrays are named like the model's inputs (one array of any name where there is one input), labels "labels" or "y".
    They are converted to the inputs' types where that changes no value beyond rounding of floating point. Samples lie
    along the input's own axis of samples, or along an axis more than the input has: then each is an input of the whole
    shape. An array of the input's own shape is what all samples share.

    Parameters
    ----------
    path
        The file.
    ports
        The model's inputs.
    classes
        Whether labels must be class numbers; else they may be targets: finite numbers of any shape, samples first.
    fixed
        Names of what `--value` fixed: inputs of the file, but none of the model as it is run.

    Raises
    ------
    InputError
        The file cannot be read, or its names, shapes, types or values do not fit the model.
    """
    path = Path(path)
    with reading(path, "data"):
        return _loaded(path, ports, classes, fixed)


def _loaded(path: Path, ports: Sequence[Port], classes: bool, fixed: Collection[str]) -> Dataset:
    arrays = _arrays(path)
    if twice := sorted(set(fixed) & set(arrays)):
        raise InputError(f"{path}: holds {twice[0]}, which --value fixes: leave one of them out")
    names = {port.name for port in ports}
    labels = next((arrays.pop(name) for name in LABELS if name in arrays and name not in names), None)
    if len(ports) == 1 and len(arrays) == 1:
        arrays = {ports[0].name: next(iter(arrays.values()))}
    expected = ", ".join(str(port) for port in ports)
    if set(arrays) != names:
        held = ", ".join(sorted(arrays)) or "no input"
        raise InputError(f"{path}: holds {held}, but the model's inputs are {expected}")
    forms = {port.name: forms_of(arrays[port.name], port, path) for port in ports}
    count = None if labels is None else len(labels) if labels.ndim else 0
    chosen = agreeing(forms, count)
    if chosen is None:
        counts = {name: found[0].count for name, found in forms.items()} | ({} if count is None else {"labels": count})
        raise InputError(f"{path}: arrays differ in length, one sample a row is needed: {counts}")
    inputs, axes, shared = {}, {}, {}
    for port in ports:
        form, array = chosen[port.name], _input(arrays[port.name], port, path)
        if form.count is None:
            shared[port.name] = array
            continue
        inputs[port.name] = form.samples_first(array)
        if form.axis is None and are_equal(inputs[port.name]):
            shared[port.name] = inputs.pop(port.name)[0]
        elif form.axis != 0:
            axes[port.name] = form.axis
    if not inputs:
        # Nothing differs from sample to sample, but how many there are still counts.
        kept = next((port.name for port in ports if chosen[port.name].count is not None), ports[0].name)
        one = shared.pop(kept)[None]
        inputs[kept], axes[kept] = np.repeat(one, chosen[kept].count or count or 1, axis=0), None
    check_runs(inputs, axes, ports, path)
    if labels is not None:
        labels = _labels(labels, path) if classes else _targets(labels, path)
    return Dataset(inputs, labels, axes, shared)


def random_data(ports: Sequence[Port], count: int, seed: int) -> Dataset:
    """Return random samples: standard normal numbers, bytes of any value, or small whole numbers.

    Where samples are large there are fewer than `count`, as many as `RANDOM_BYTES` hold, but at least one.

    Raises
    ------
    InputError
        A size of an input is open.
    """
    rng = np.random.default_rng(seed)
    runs = {port.name: run_sizes(port) for port in ports}
    whole = any(port.axis is None for port in ports)
    rest = {port.name: _without(runs[port.name], port.axis) for port in ports}
    sample = sum(math.prod(rest[port.name]) * _dtype(port).itemsize for port in ports)
    count = max(1, min(count, RANDOM_BYTES // sample))
    parts: dict[str, list[NDArray[Any]]] = {port.name: [] for port in ports}
    # One inference after another, as the model takes them, and of the last one what is still wanted.
    for drawn in range(count):
        for port in ports:
            first = 1 if port.axis is None or whole else runs[port.name][port.axis]
            if (left := count - first * drawn) > 0:
                parts[port.name].append(_random(port, (min(first, left), *rest[port.name]), rng))
    axes = {port.name: port.axis for port in ports if port.axis != 0}
    return Dataset({name: np.concatenate(arrays) for name, arrays in parts.items()}, None, axes)


def _without(sizes: tuple[int, ...], axis: int | None) -> tuple[int, ...]:
    """Return the sizes of one sample."""
    return sizes if axis is None else (*sizes[:axis], *sizes[axis + 1 :])


def random_inputs(inputs: Sequence[Port], rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Return random arrays for one timed inference of a model.

    Raises
    ------
    InputError
        A size of an input is open.
    """
    return {port.name: _random(port, run_sizes(port), rng) for port in inputs}


def _random(port: Port, sizes: tuple[int, ...], rng: np.random.Generator) -> NDArray[Any]:
    dtype = _dtype(port)
    if dtype.kind == "b":
        return rng.integers(0, 2, sizes).astype(bool)
    if dtype == np.uint8:
        return rng.integers(0, 256, sizes, dtype=np.uint8)
    if dtype.kind in "iu":
        return rng.integers(0, port.limit, sizes).astype(dtype)
    return rng.standard_normal(sizes).astype(dtype)


def _dtype(port: Port) -> np.dtype[Any]:
    if port.dtype == "bfloat16":
        import ml_dtypes

        bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    try:
        return np.dtype(port.dtype)
    except TypeError as error:
        raise InputError(f"input {port} is of a type that numpy has no arrays for") from error


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of a file; what its headers ask for is compared with what it holds before memory is taken."""
    if path.is_dir():
        raise InputError(f"{path}: a folder, not an .npz file")
    try:
        with open_regular(path, links=True) as stream, zipfile.ZipFile(stream) as file:
            members = file.infolist()
            _check_size(sum(member.file_size for member in members), path)
            arrays = {member.filename.removesuffix(".npy"): _array(file, member, path) for member in members}
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, KeyError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        raise InputError(f"{path}: not a plain .npz file, or damaged") from error
    if not arrays:
        raise InputError(f"{path}: holds no arrays")
    return arrays


def _check_size(unpacked: int, path: Path) -> None:
    packed = path.stat().st_size
    if unpacked > max(_MOST_UNPACKED, _BEST_RATIO * packed) or unpacked > memory_bytes():
        raise InputError(f"{path}: {packed:,} bytes become {unpacked:,} when they are unpacked: refused")


def _array(file: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> NDArray[Any]:
    headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    with file.open(member) as stream:
        shape, turned, dtype = headers[np.lib.format.read_magic(stream)](stream)
        if dtype.hasobject:
            raise InputError(f"{path}: not a plain .npz file, it holds Python objects")
        wanted = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or wanted > member.file_size:
            sizes = "x".join(map(str, shape))
            raise InputError(f"{path}: array {member.filename!r} of {sizes} is damaged: it holds fewer elements")
        content = bytearray(stream.read(wanted))
    if len(content) != wanted:
        raise InputError(f"{path}: array {member.filename!r} is cut short")
    return np.ndarray(shape, dtype, content, order="F" if turned else "C")


def _input(array: NDArray[Any], port: Port, path: Path) -> NDArray[Any]:
    """Return an array in the type that the model takes, every value checked."""
    where = f"{path}: array for input {port}"
    if array.dtype.kind not in "biuf":
        raise InputError(f"{where} holds {array.dtype}, not numbers")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"{where} holds NaN or Inf")
    return _converted(array, _dtype(port), where)


def _converted(array: NDArray[Any], dtype: np.dtype[Any], where: str) -> NDArray[Any]:
    if array.dtype == dtype:
        return array
    with np.errstate(all="ignore"):
        converted = array.astype(dtype)
    if dtype.kind in "biu":
        same = np.array_equal(converted.astype(np.float64), array.astype(np.float64))
    else:
        same = bool(np.isfinite(converted.astype(np.float64)).all())
    if not same:
        raise InputError(f"{where} is of type {array.dtype} and holds values that {dtype} cannot hold")
    return converted


def _labels(labels: NDArray[Any], path: Path) -> NDArray[np.int64]:
    whole = labels.dtype.kind in "biu" or (labels.dtype.kind == "f" and bool((labels == np.round(labels)).all()))
    # A half float compares with infinity instead, which is right.
    with np.errstate(over="ignore"):
        small = whole and (not labels.size or (labels.min() >= 0 and labels.max() < 2**31))
    if not small or labels.ndim not in (1, 2):
        raise InputError(
            f"{path}: labels must be class numbers from 0, one a sample, but got {labels.dtype} {labels.shape}"
        )
    found = labels.astype(np.int64)
    return found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found


def _targets(labels: NDArray[Any], path: Path) -> NDArray[Any]:
    if labels.dtype.kind not in "biuf" or (labels.dtype.kind == "f" and not np.isfinite(labels).all()):
        raise InputError(f"{path}: labels must be finite numbers, but got {labels.dtype} {labels.shape}")
    whole = labels.dtype.kind in "biu"
    return labels.astype(np.int64) if whole else labels.astype(np.float64)


def mixed(data: Dataset, count: int, seed: int) -> Dataset:
    """Return the data with mixtures ``t a + (1 - t) b`` of two samples behind them, t uniform between 1/2 and 1.

    Vicinal samples (Zhang, Cisse, Dauphin and Lopez-Paz 2018), on which the original model says what is right. Where an
    input holds numbers that cannot be mixed (all but floating point and bytes) the data are returned as they are.
    """
    if not all(a.dtype.kind == "f" or a.dtype == np.uint8 or a.dtype.name == "bfloat16" for a in data.inputs.values()):
        return data
    rng = np.random.default_rng(seed)
    one, other = rng.integers(0, data.count, (2, count))
    share = rng.uniform(0.5, 1.0, count)
    inputs = {}
    for name, array in data.inputs.items():
        t = share.reshape(-1, *[1] * (array.ndim - 1))
        made = t * array[one] + (1 - t) * array[other]
        made = np.rint(made) if array.dtype == np.uint8 else made
        inputs[name] = np.concatenate([array, made.astype(array.dtype)])
    return replace(data, inputs=inputs, labels=None)


def samples_at(data: Dataset, index: Any) -> Dataset:
    """Return the samples that an index array or a mask selects, without labels."""
    return replace(data.take(index), labels=None)
