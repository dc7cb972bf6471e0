"""Kernels compiled and measured in parallel processes, each once for all layers, models and runs."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrfdse.design import KernelSpec, Latency, Measurement, MeterName, Target
from lrfdse.errors import KernelError
from lrfdse.explore.cache import Cache, digest
from lrfdse.explore.events import Event, Listener

if TYPE_CHECKING:
    from lrfdse.measure import Meter


@dataclass(frozen=True, slots=True)
class MeasuredKernel:
    """A kernel's best schedule with its measurement, or the reason why there is none."""

    schedule: str = ""
    measurement: Measurement | None = None
    failure: str = ""


def measure_kernels(
    specs: Iterable[KernelSpec], target: Target, meter: Meter, cache: Cache, workers: int, tell: Listener
) -> dict[KernelSpec, MeasuredKernel]:
    """Return every spec's measurement; what the cache knows costs nothing, what fails is marked and passed over.

    The host meter reads a wall clock, so it gets one process and the machine to itself.
    """
    wanted = list(dict.fromkeys(specs))
    compiler, name = _compile_key(target), meter.name
    keys = {spec: digest("kernel", str(spec), compiler, meter.key()) for spec in wanted}
    found = {spec: _from_json(known) for spec in wanted if (known := cache.get("kernels", keys[spec])) is not None}
    rest = [spec for spec in wanted if spec not in found]
    tell(Event("kernels", "", len(found), len(wanted)))
    if not rest:
        return found
    with _pool(1 if name == "host" else min(workers, len(rest)), target, name) as pool:
        futures = {pool.submit(_measure, spec): spec for spec in rest}
        try:
            for future in as_completed(futures):
                spec, kernel = futures[future], future.result()
                found[spec] = kernel
                cache.put("kernels", keys[spec], asdict(kernel))
                tell(
                    Event(
                        "kernels", f"{spec}: {kernel.failure}" if kernel.failure else str(spec), len(found), len(wanted)
                    )
                )
        except BaseException:
            _stop(pool)
            raise
    return found


_worker: dict[str, Any] = {}
"""What a worker process opens once: its target and its meter."""


def _pool(workers: int, target: Target, meter: MeterName) -> ProcessPoolExecutor:
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(target, meter))


def _start_worker(target: Target, meter: MeterName) -> None:
    from lrfdse.measure import open_meter

    # Ctrl-C is the parent's: it ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker.update(target=target, meter=open_meter("host" if meter == "host" else "model", target))


def _stop(pool: ProcessPoolExecutor) -> None:
    """End the workers now: a kernel under way is lost, all finished ones are in the cache."""
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(2)


def _measure(spec: KernelSpec) -> MeasuredKernel:
    from lrfdse.tune import best_kernel

    try:
        artifact, measurement = best_kernel(spec, _worker["target"], _worker["meter"])
    except KernelError as error:
        return MeasuredKernel(failure=str(error))
    return MeasuredKernel(str(artifact.schedule), measurement)


def _compile_key(target: Target) -> str:
    """Return what generated code depends on beside the spec: the target, TVM, and the generator itself."""
    from importlib.metadata import version

    generator = hashlib.sha256()
    for package in ("kernels", "tune"):
        for path in sorted((Path(__file__).parent.parent / package).glob("*.py")):
            generator.update(path.read_bytes())
    facts = (
        target.triple,
        target.cpu,
        target.features,
        target.abi,
        target.lanes,
        target.vector_registers,
        target.groups,
    )
    return digest(facts, version("apache-tvm"), generator.hexdigest())


def _from_json(known: dict[str, Any]) -> MeasuredKernel:
    if (stored := known["measurement"]) is None:
        return MeasuredKernel(known["schedule"], None, known["failure"])
    name: MeterName = stored["meter"]
    measurement = Measurement(
        name, Latency(**stored["warm"]), Latency(**stored["cold"]), stored["max_error"], stored["details"]
    )
    return MeasuredKernel(known["schedule"], measurement, "")
