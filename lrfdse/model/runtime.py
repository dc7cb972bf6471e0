"""Running models in onnxruntime, on one core unless told otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lrfdse.errors import InputError
from lrfdse.model.files import one_line

if TYPE_CHECKING:
    from lrfdse.model.data import Dataset

Arrays = dict[str, NDArray[Any]]

_TRIAL = 3
"""Samples in the run that shows whether a model takes batches: no model fixes this number by accident."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """Onnxruntime on the CPU."""

    threads: int = 1

    def session(self, content: bytes) -> Any:
        """Return an inference session of a model given as bytes.

        Raises
        ------
        InputError
            Onnxruntime cannot run the model.
        """
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise InputError(f"onnxruntime cannot load the model: {one_line(error)}") from error

    def call(self, session: Any, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None) -> Arrays:
        """Run a session once; `outputs` defaults to all.

        Raises
        ------
        InputError
            Onnxruntime reports an error.
        """
        import onnxruntime as ort

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

    def run(self, content: bytes, dataset: Dataset, batch: int = 64, outputs: Sequence[str] | None = None) -> Arrays:
        """Return output name to array, samples along the first axis.

        A model with a fixed batch is fed in batches of that size. One that declares an open batch but mixes or loses
        samples beyond the first is fed one sample at a time.

        Parameters
        ----------
        content
            The model as bytes.
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
        session = self.session(content)
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


def exposed(content: bytes, names: Sequence[str]) -> bytes:
    """Return the model with values of its main graph as further outputs; its own inputs and outputs are passed over."""
    import onnx

    model = ir.from_proto(onnx.ModelProto.FromString(content))
    outputs = {value.name for value in model.graph.outputs}
    found = {value.name: value for node in model.graph for value in node.outputs if value.name}
    for name in dict.fromkeys(names):
        if name in found and name not in outputs:
            model.graph.outputs.append(found[name])
    return bytes(ir.to_proto(model).SerializeToString())


def _close(one: NDArray[Any], other: NDArray[Any]) -> bool:
    scale = float(np.abs(other).max(initial=0.0)) or 1.0
    return bool(np.abs(one.astype(np.float64) - other.astype(np.float64)).max(initial=0.0) <= 1e-2 * scale)
