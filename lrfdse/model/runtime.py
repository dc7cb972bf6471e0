"""Running models in onnxruntime, on one core."""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lrfdse.base.privacy import load_onnxruntime
from lrfdse.base.temporary import temporary_folder
from lrfdse.base.text import one_line
from lrfdse.errors import InputError
from lrfdse.formats.onnx import serialized

if TYPE_CHECKING:
    from lrfdse.model.data import Dataset

_ORIGIN = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : |\S*/onnxruntime_src/\S+:\d+ .*?\) (?=[A-Z])")
"""What onnxruntime's errors say before what is wrong: their code, and the line and signature in its source."""

Arrays = dict[str, NDArray[Any]]

SESSIONS = 16
"""Sessions that a runtime keeps: about as many as correcting a plan of two layers with two sweeps opens (14)."""

SESSION_BYTES = 1 << 26
"""Bytes of all serialized models whose sessions a runtime keeps; onnxruntime holds about twice that. The session of a
larger model (BERT-base has 438 MB) lives as long as who asked for it, because another one may be opened beside it."""

_TRIAL = 3
"""Samples in the run that shows whether a model takes batches: no model fixes this number by accident. Chosen."""


class Runtime:
    """Onnxruntime on one core of the CPU, so that sums do not depend on how many cores a machine has.

    Sessions are kept by what a model holds, its outputs included, and those used least recently are dropped. Nothing is
    shared between two runtimes: who runs many versions of a model holds one runtime for as long as that takes.

    Parameters
    ----------
    sessions
        Most sessions that are kept.
    session_bytes
        Most bytes of the serialized models whose sessions are kept.
    """

    def __init__(self, sessions: int = SESSIONS, session_bytes: int = SESSION_BYTES) -> None:
        self._most, self._most_bytes = sessions, session_bytes
        self._sessions: OrderedDict[str, tuple[Any, int]] = OrderedDict()

    def session(self, model: ir.Model | bytes) -> Any:
        """Return an inference session of a model, which stays as it is.

        This is where a model is serialized; the bytes of a model file are taken as they are.

        Raises
        ------
        InputError
            Onnxruntime cannot run the model.
        """
        content = serialized(model) if isinstance(model, ir.Model) else model
        key = hashlib.sha256(content).hexdigest()
        if key in self._sessions:
            self._sessions.move_to_end(key)
            return self._sessions[key][0]
        self._make_room(len(content))
        session = _opened(content)
        if self._most and len(content) <= self._most_bytes:
            self._sessions[key] = session, len(content)
        return session

    def _make_room(self, size: int) -> None:
        """Drop the sessions that have to go before one of a model of `size` bytes is kept."""
        if size > self._most_bytes:
            return
        held = sum(bytes_ for _, bytes_ in self._sessions.values())
        while self._sessions and (len(self._sessions) >= self._most or held + size > self._most_bytes):
            held -= self._sessions.popitem(last=False)[1][1]

    def call(self, session: Any, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None) -> Arrays:
        """Run a session once; `outputs` defaults to all.

        Raises
        ------
        InputError
            Onnxruntime reports an error.
        """
        ort = load_onnxruntime()

        names = [port.name for port in session.get_outputs()] if outputs is None else list(outputs)
        if not names:
            return {}
        options = ort.RunOptions()
        options.log_severity_level = 4
        try:
            arrays = session.run(names, dict(feeds), options)
        except Exception as error:
            raise InputError(f"onnxruntime cannot run the model: {one_line(error)}") from error
        for name, array in zip(names, arrays, strict=True):
            if not isinstance(array, np.ndarray):
                raise InputError(f"output {name!r} is no tensor: name another output")
        return dict(zip(names, arrays, strict=True))

    def run(
        self, model: ir.Model | bytes, dataset: Dataset, batch: int = 64, outputs: Sequence[str] | None = None
    ) -> Arrays:
        """Return output name to array, samples along the first axis.

        A model with a fixed batch is fed in batches of that size. One that declares an open batch but mixes or loses
        samples beyond the first is fed one sample at a time.

        Parameters
        ----------
        model
            The model, or the bytes of its file.
        dataset
            What to run it on.
        batch
            Samples a run, where the model leaves that open.
        outputs
            Names of the outputs to return; all of them by default.

        Raises
        ------
        InputError
            The model cannot be run on the data, or an output changes its shape from sample to sample.
        """
        session = self.session(model)
        names = [port.name for port in session.get_outputs()] if outputs is None else list(outputs)
        parts: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
        size, fixed = self.batch(session, dataset, batch)
        for feeds, count in batches(dataset, size, pad=fixed):
            for name, array in self.call(session, feeds, names).items():
                parts[name].append(array[:count] if array.shape[:1] == (size,) or size > 1 else array[None])
        for name, pieces in parts.items():
            if len({piece.shape[1:] for piece in pieces}) > 1:
                raise InputError(f"output {name!r} changes its shape from sample to sample: name another output")
        return {name: np.concatenate(pieces) for name, pieces in parts.items()}

    def batch(self, session: Any, dataset: Dataset, wanted: int) -> tuple[int, bool]:
        """Return how many samples go into one run, and whether the model fixes that number."""
        sizes = {port.name: port.shape[0] if port.shape else None for port in session.get_inputs()}
        fixed = {size for name, size in sizes.items() if name in dataset.inputs and isinstance(size, int)}
        if fixed:
            return max(fixed), True
        size = max(1, min(wanted, dataset.count))
        if size == 1 or self._takes_batches(session, dataset.head(_TRIAL)):
            return size, False
        return 1, False

    def _takes_batches(self, session: Any, dataset: Dataset) -> bool:
        """Return whether a batch gives what its first and last samples give alone."""
        try:
            together = self.call(session, dataset.inputs)
        except InputError:
            return False
        for index in (0, dataset.count - 1):
            alone = self.call(session, {name: array[index : index + 1] for name, array in dataset.inputs.items()})
            for name, array in together.items():
                if array.shape[:1] != (dataset.count,) or array[index : index + 1].shape != alone[name].shape:
                    return False
                if array.dtype.kind == "f" and not _close(array[index : index + 1], alone[name]):
                    return False
        return True


def batches(dataset: Dataset, size: int, pad: bool = False) -> Iterator[tuple[Arrays, int]]:
    """Yield the feeds of each run and how many of its samples are real; `pad` repeats the last sample to fill a run."""
    for start in range(0, dataset.count, size):
        count = min(size, dataset.count - start)
        feeds = {name: array[start : start + count] for name, array in dataset.inputs.items()}
        if pad and count < size:
            feeds = {name: np.concatenate([a, np.repeat(a[-1:], size - count, axis=0)]) for name, a in feeds.items()}
        yield feeds, count


def simplified(content: bytes) -> bytes:
    """Return a model with its constants folded and its functions written out: onnxruntime's basic optimizations.

    These keep to standard operators, and to a few of onnxruntime's own (domain ``com.microsoft``).

    Parameters
    ----------
    content
        The bytes of a model file; what may be folded depends on the sizes of its inputs that are fixed.

    Raises
    ------
    InputError
        Onnxruntime cannot load the model.
    """
    with temporary_folder() as folder:
        file = folder / "model.onnx"
        _opened(content, file)
        return file.read_bytes()


def _opened(content: bytes, simplified: Path | None = None) -> Any:
    """Return a session; where a file is named, it is optimized only as far as that file says."""
    ort = load_onnxruntime()

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if simplified is not None:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(simplified)
    try:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise InputError(f"onnxruntime cannot load the model: {one_line(_ORIGIN.sub('', str(error)))}") from error


def _close(one: NDArray[Any], other: NDArray[Any]) -> bool:
    scale = float(np.abs(other).max(initial=0.0)) or 1.0
    # Outputs that overflow differ by NaN, which is not close.
    with np.errstate(invalid="ignore"):
        return bool(np.abs(one.astype(np.float64) - other.astype(np.float64)).max(initial=0.0) <= 1e-2 * scale)
