"""Kernels compiled and measured in parallel processes, each once for all layers, models and runs."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lrfdse.base.codec import from_plain
from lrfdse.base.events import Event, Listener
from lrfdse.base.keys import CodeKey, code_key, result_key
from lrfdse.base.pools import process_pool
from lrfdse.errors import KernelError
from lrfdse.explore.layers.convolutions import convolution_model
from lrfdse.explore.layers.embeddings import embedding_model
from lrfdse.explore.layers.quantized import quantized_model
from lrfdse.explore.layers.repaired import repaired_model
from lrfdse.explore.layers.small_models import measured_model
from lrfdse.ir.kernel import ConvolutionSpec, EmbeddingSpec, KernelSpec, QuantizedSpec, RepairedSpec, Schedule, Spec
from lrfdse.ir.latency import Latency, Measurement
from lrfdse.meters.meter import METERS, open_meter
from lrfdse.meters.whole import open_whole_meter
from lrfdse.targets import isa
from lrfdse.targets.catalog import noun_digest
from lrfdse.targets.target import Target

if TYPE_CHECKING:
    import onnx

    from lrfdse.base.store import Store
    from lrfdse.meters.meter import Meter
    from lrfdse.meters.whole import WholeMeter


@dataclass(frozen=True, slots=True)
class MeasuredKernel:
    """A kernel's best schedule with its measurement, or the reason why there is none."""

    schedule: str = ""
    measurement: Measurement | None = None
    failure: str = ""


Measure = Callable[[Spec], MeasuredKernel]
"""Compiles, checks and measures one kernel."""


def opened_meter(target: Target, meter: str, tries: int) -> Measure:
    """Open a meter by name and return what measures kernels with it, the best of so many schedules each."""
    opened = open_meter(meter, target)
    # A meter of whole programs learns of instructions what it needs, once for all models.
    whole = functools.cache(lambda: open_whole_meter(meter, target))
    return lambda spec: measured_kernel(spec, target, opened, tries, whole)


@dataclass(frozen=True, slots=True)
class KernelRequest:
    """What kernels are compiled for, and how they are measured."""

    target: Target
    meter: Meter
    workers: int = 1
    """Processes that measure at once, and threads that fit; an exclusive meter, such as one that reads a wall clock,
    gets one process."""
    tries: int = 4
    """Schedules measured for each kernel at most."""
    opened: Callable[[Target, str, int], Measure] = opened_meter
    """Called in each of the processes with the target, the meter's name and the tries, for its first kernel; picklable.
    """


_MODELS: dict[type[Spec], Callable[[Any], onnx.ModelProto]] = {
    ConvolutionSpec: convolution_model,
    EmbeddingSpec: embedding_model,
    QuantizedSpec: quantized_model,
    RepairedSpec: repaired_model,
}
"""What makes a small model of each layer that no kernel stands for."""


def measured_kernel(
    spec: Spec, target: Target, meter: Meter, tries: int = 4, whole: Callable[[], WholeMeter] | None = None
) -> MeasuredKernel:
    """Return the best of so many schedules of a kernel with its measurement; one that fails has the reason instead.

    Parameters
    ----------
    spec
        What is computed.
    target
        The machine.
    meter
        What measures kernels.
    tries
        Schedules that are measured at most.
    whole
        Opens what measures those that are small models; by default the meter of the same name for whole programs.
    """
    from lrfdse.tune import best_kernel

    small = whole or (lambda: open_whole_meter(meter.name, target))
    try:
        if not isinstance(spec, KernelSpec):
            model = _MODELS[type(spec)](spec)
            return MeasuredKernel(*measured_model(model, target, small(), isinstance(spec, ConvolutionSpec)))
        artifact, measurement = best_kernel(spec, target, meter, tries)
    except KernelError as error:
        return MeasuredKernel(failure=str(error))
    return MeasuredKernel(str(artifact.schedule), measurement)


def measure_kernels(
    specs: Iterable[Spec],
    request: KernelRequest,
    cache: Store,
    progress: Listener,
    essential: Collection[Spec] = (),
) -> dict[Spec, MeasuredKernel]:
    """Return the measurement of every kernel: from the cache where it is known, else measured in parallel.

    A kernel that fails is marked with the reason, and the others go on; so is one over which its process died. Those
    that are `essential` come first, and where one of them fails, what nobody has begun is left out.
    """
    wanted = list(dict.fromkeys([*essential, *specs]))
    keys = kernel_keys(wanted, request)
    found = {spec: known for spec in wanted if (known := cache.get("kernels", keys[spec], _stored)) is not None}
    progress(Event("kernels", "" if len(found) == len(wanted) else _waiting(request.meter), len(found), len(wanted)))
    processes = 1 if request.meter.exclusive else request.workers
    while rest := [spec for spec in wanted if spec not in found]:
        try:
            for spec, kernel in _measured(rest, min(processes, len(rest)), request):
                found[spec] = kernel
                # A failure may be the machine's (load, memory), so it is not remembered for other runs.
                if kernel.measurement is not None:
                    cache.put("kernels", keys[spec], dataclasses.asdict(kernel))
                text = f"{spec}: {kernel.failure}" if kernel.failure else str(spec)
                progress(Event("kernels", _waiting(request.meter) or text, len(found), len(wanted)))
                if kernel.failure and spec in essential:
                    return found
        except BrokenProcessPool:
            unfinished = [spec for spec in rest if spec not in found]
            if processes == 1 and unfinished:
                found[unfinished[0]] = MeasuredKernel(failure="its process died while compiling it (out of memory?)")
                if unfinished[0] in essential:
                    return found
            processes = 1
    return found


def _waiting(meter: Meter) -> str:
    """Return what is said while another run times kernels on this machine; nothing where none does."""
    if meter.name != "host":
        return ""
    from lrfdse.meters.host_meter import timed_by_another

    process = timed_by_another()
    return "" if process is None else f"waiting for process {process}, another run that times kernels on this machine"


def _measured(specs: list[Spec], processes: int, request: KernelRequest) -> Iterator[tuple[Spec, MeasuredKernel]]:
    """Yield every kernel as it is done; with one process, in order.

    Raises
    ------
    BrokenProcessPool
        A process died. What was done before has been yielded; with one process, the next spec was the culprit.
    """
    given = (request.opened, request.target, request.meter.name, request.tries)
    with process_pool(processes) as pool:
        futures = {pool.submit(_measure, *given, spec): spec for spec in specs}
        left = set(futures)
        for future in as_completed(futures):
            if not isinstance(future.exception(), BrokenProcessPool):
                left.discard(future)
                yield futures[future], future.result()
        if left:
            raise BrokenProcessPool(f"{len(left)} kernels were not measured")


_here: list[Measure] = []
"""In one of the processes: what measures its kernels, once the first has come."""


def _measure(
    opens: Callable[[Target, str, int], Measure], target: Target, meter: str, tries: int, spec: Spec
) -> MeasuredKernel:
    if not _here:
        _here.append(opens(target, meter, tries))
    return _here[0](spec)


def kernel_keys(specs: Iterable[Spec], request: KernelRequest) -> dict[Spec, str]:
    """Return the key of each kernel's measurement in the cache."""
    from lrfdse.tune import best_kernel

    target, meter = request.target, request.meter
    common = {
        "target": noun_digest(target),
        "isa": isa.REGISTRY.identity(target.isa),
        "meter": (METERS.identity(meter.name), meter.key()),
    }
    codes: dict[type[Spec], CodeKey] = {KernelSpec: code_key(best_kernel)}
    codes |= {kind: code_key(measured_model, make) for kind, make in _MODELS.items()}
    # Other specs stand for small models, which are tuned as such.
    return {
        spec: result_key(
            "kernels",
            spec=str(spec),
            code=codes[type(spec)],
            tries=request.tries if isinstance(spec, KernelSpec) else None,
            **common,
        )
        for spec in specs
    }


def _stored(known: Any) -> MeasuredKernel:
    """Return a kernel as the cache keeps it."""
    stored, schedule = known["measurement"], known["schedule"]
    warm, cold = (from_plain(Latency, stored[regime]) for regime in ("warm", "cold"))
    if not all(
        0 <= each.low_us < math.inf and 0 < each.us < math.inf and each.high_us < math.inf for each in (warm, cold)
    ):
        raise ValueError("no latency")
    if not isinstance(schedule, str):
        raise TypeError("no schedule")
    # Raises where it is none; what only moves rows has none at all.
    if schedule:
        Schedule.parse(schedule)
    details = dict(stored["details"].items())
    if not all(isinstance(value, (int, float, str)) for value in details.values()):
        raise TypeError("no details")
    measurement = Measurement(str(stored["meter"]), warm, cold, float(stored["max_error"]), details)
    return MeasuredKernel(schedule, measurement, "")
