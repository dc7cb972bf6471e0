"""Running models in onnxruntime, on one core."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lrfdse.base.privacy import load_onnxruntime
from lrfdse.base.temporary import temporary_folder
from lrfdse.base.text import one_line
from lrfdse.errors import InputError, RoomError
from lrfdse.formats.onnx import serialized
from lrfdse.model.passes.widen import has_bfloat16, widened
from lrfdse.model.samples import Place, found_place, rolled, rolled_place, single_place

if TYPE_CHECKING:
    from lrfdse.model.data import Dataset

_ORIGIN = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : |\S*/onnxruntime_src/\S+:\d+ .*?\) (?=[A-Z])")
"""What onnxruntime's errors say before what is wrong: their code, and the line and signature in its source."""

Arrays = dict[str, NDArray[Any]]

SESSIONS = 24
"""Sessions that a runtime keeps: about as many as correcting a plan of two layers with two sweeps opens (20)."""

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
        # Several threads may share a runtime: a session runs in any number of them at once.
        self._changing = threading.Lock()

    def session(self, model: ir.Model | bytes) -> Any:
        """Return an inference session of a model, which stays as it is.

        This is where a model is serialized; the bytes of a model file are taken as they are.

        Raises
        ------
        InputError
            Onnxruntime cannot run the model.
        """
        if isinstance(model, ir.Model):
            # Onnxruntime has no kernels for bfloat16 on a CPU.
            model = serialized(widened(model) if has_bfloat16(model) else model)
        content = model
        if not self._most:
            return _opened(content)
        key = hashlib.sha256(content).hexdigest()
        with self._changing:
            if key in self._sessions:
                self._sessions.move_to_end(key)
                return self._sessions[key][0]
            self._make_room(len(content))
        session = _opened(content)
        if self._most and len(content) <= self._most_bytes:
            with self._changing:
                self._make_room(len(content))
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
        RoomError
            It finds no memory.
        """
        ort = load_onnxruntime()

        names = [port.name for port in session.get_outputs()] if outputs is None else list(outputs)
        if not names:
            return {}
        options = ort.RunOptions()
        options.log_severity_level = 4
        try:
            arrays = session.run(names, {name: _fed(array) for name, array in feeds.items()}, options)
        except Exception as error:
            raise _failure("run", error) from error
        for name, array in zip(names, arrays, strict=True):
            if not isinstance(array, np.ndarray):
                raise InputError(f"output {name!r} is no tensor: name another output")
        return dict(zip(names, arrays, strict=True))

    def run(
        self,
        model: ir.Model | bytes,
        dataset: Dataset,
        batch: int = 256,
        outputs: Sequence[str] | None = None,
    ) -> Arrays:
        """Return the outputs for all samples, samples first, whatever axis the model has them along.

        Parameters
        ----------
        model
            The model, or the bytes of its file.
        dataset
            The samples.
        batch
            Samples a run, where the model leaves that open.
        outputs
            Names of outputs; all that are tensors of numbers by default.

        Raises
        ------
        InputError
            Onnxruntime reports an error, there is no output of numbers, or samples cannot be told apart in one.
        """
        session = self.session(model)
        names = numeric_outputs(session) if outputs is None else list(outputs)
        if outputs is None and not names:
            raise InputError("the model has no output that is a tensor of numbers")
        parts: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
        layout = self.layout(session, dataset, batch, names)
        for feeds, count in batches(dataset, layout.size, pad=layout.fixed):
            for name, array in self.call(session, feeds, names).items():
                parts[name].append(layout.split(name, array, layout.size if layout.fixed else count)[:count])
        for name, pieces in parts.items():
            if len({piece.shape[1:] for piece in pieces}) > 1:
                raise InputError(f"output {name!r} changes its shape from sample to sample: name another output")
        return {name: np.concatenate(pieces) for name, pieces in parts.items()}

    def layout(self, session: Any, dataset: Dataset, wanted: int, outputs: Sequence[str] | None = None) -> Layout:
        """Return how many samples go into one run of a session, and where its outputs have them.

        Where the model leaves the number open, a batch must give what its samples give alone; where it fixes a number,
        the outputs must move on as the samples do.

        Parameters
        ----------
        session
            The session.
        dataset
            The samples, some of which are run.
        wanted
            Samples a run, where the model leaves that open.
        outputs
            Names of the outputs that count; all that are tensors of numbers by default.

        Raises
        ------
        InputError
            Onnxruntime cannot run single samples.
        """
        names = numeric_outputs(session) if outputs is None else list(outputs)
        if dataset.one_by_one:
            return Layout(1, False, {})
        fixed = set()
        for port in session.get_inputs():
            axis = dataset.axes.get(port.name, 0) if port.name in dataset.inputs else None
            if axis is not None and port.shape and isinstance(port.shape[axis], int) and port.shape[axis] > 0:
                fixed.add(port.shape[axis])
        if fixed:
            size = max(fixed)
            return Layout(size, True, self._rolled(session, dataset, size, names) if size > 1 else {})
        size = max(1, min(wanted, dataset.count))
        places = self._batched(session, dataset.head(_TRIAL), names) if size > 1 else None
        return Layout(1, False, {}) if places is None else Layout(size, False, places)

    def _batched(self, session: Any, few: Dataset, names: Sequence[str]) -> dict[str, Place | None] | None:
        """Return where outputs have the samples of a batch; None where a batch gives other than its samples alone."""
        try:
            together = self.call(session, few.feeds(0, few.count), names)
        except InputError:
            return None
        first, last = (self.call(session, few.feeds(n, n + 1), names) for n in (0, few.count - 1))
        places = {name: found_place(together[name], first[name], last[name], few.count) for name in names}
        return None if None in places.values() else dict(places)

    def _rolled(self, session: Any, dataset: Dataset, size: int, names: Sequence[str]) -> dict[str, Place | None]:
        """Return where outputs have the samples of a run of fixed size."""
        feeds, _ = next(batches(dataset.head(size), size, pad=True))
        before = self.call(session, feeds, names)
        axes = {name: dataset.axes.get(name, 0) for name in dataset.inputs}
        after = self.call(session, rolled(feeds, axes), names)
        return {name: rolled_place(before[name], after[name], size) for name in names}


@dataclass(frozen=True, slots=True)
class Layout:
    """How samples are run."""

    size: int
    """Samples in one run; the last of several runs may have fewer."""
    fixed: bool
    """Whether the model fixes that number."""
    places: Mapping[str, Place | None]
    """Output name to where it has the samples of a run, None where that cannot be told; of no output where `size`
    is 1, as an output then is its sample's."""

    @property
    def together(self) -> bool:
        """Whether several samples may be run together, in any number."""
        return self.size > 1 and not self.fixed

    def place(self, name: str, array: NDArray[Any]) -> Place | None:
        """Return where an output of a run has the samples; None where that cannot be told."""
        return single_place(array.shape) if self.size == 1 else self.places[name]

    def split(self, name: str, array: NDArray[Any], count: int) -> NDArray[Any]:
        """Return an output of a run of `count` samples with samples first.

        Raises
        ------
        InputError
            Where it has them cannot be told.
        """
        if (place := self.place(name, array)) is None:
            raise InputError(
                f"output {name!r}: which part of it belongs to which of {self.size} samples of a run cannot be told: "
                "export the model with an open number of samples, or for one sample"
            )
        if place.axis is not None and (array.ndim <= place.axis or array.shape[place.axis] != count * place.each):
            raise InputError(f"output {name!r} changes its shape from sample to sample: name another output")
        return place.split(array, count)


def numeric_outputs(session: Any) -> list[str]:
    """Return the names of a session's outputs that are tensors of numbers: no strings, sequences or maps."""
    ports = session.get_outputs()
    return [port.name for port in ports if port.type.startswith("tensor(") and port.type != "tensor(string)"]


def batches(dataset: Dataset, size: int, pad: bool = False) -> Iterator[tuple[Arrays, int]]:
    """Yield the feeds of each run and how many of its samples are real; `pad` repeats the last sample to fill a run."""
    for start in range(0, dataset.count, size):
        count = min(size, dataset.count - start)
        index = np.minimum(np.arange(start, start + size), dataset.count - 1)
        padded = dataset.take(index) if pad and count < size else None
        yield (dataset.feeds(start, start + count) if padded is None else padded.feeds(0, size)), count


def _fed(array: Any) -> NDArray[Any]:
    """Return an array as onnxruntime takes it: a scalar of NumPy as an array, and bfloat16 as float32."""
    found = np.asarray(array)
    return found.astype(np.float32) if found.dtype.name == "bfloat16" else found


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


def as_written(content: bytes) -> Any:
    """Return a session that runs a model node by node, as it is written: what it rounds is not what others round.

    Parameters
    ----------
    content
        The bytes of a model file.

    Raises
    ------
    InputError
        Onnxruntime cannot load the model.
    """
    return _opened(content, optimized=False)


def _opened(content: bytes, simplified: Path | None = None, optimized: bool = True) -> Any:
    """Return a session; where a file is named, it is optimized only as far as that file says."""
    ort = load_onnxruntime()

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # An arena keeps what the largest run took as long as its session lives, and a runtime keeps many sessions: three
    # that ran 64 images of RapidOCR's recogniser held 1.4 GiB, without arenas 0.7, for 2 % more processor time.
    options.enable_cpu_mem_arena = False
    if simplified is not None:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(simplified)
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise _failure("load", error) from error
    # It keeps the file to begin again with other providers: of a large model as much as its weights, for nothing.
    session._model_bytes = None
    return session


_NO_MEMORY = ("bad_alloc", "Failed to allocate memory", "Cannot allocate memory", "not enough memory")
"""How onnxruntime says that memory is out."""


def _failure(doing: str, error: Exception) -> InputError | RoomError:
    """Return what an exception of onnxruntime means: that the model is wrong, or that memory is out."""
    said = f"onnxruntime cannot {doing} the model: {one_line(_ORIGIN.sub('', str(error)))}"
    if isinstance(error, MemoryError) or any(each in said for each in _NO_MEMORY):
        return RoomError(f"{said}: more memory is needed, or fewer --workers")
    return InputError(said)
