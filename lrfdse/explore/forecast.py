"""What an exploration would do, and how long that takes where it is known; nothing is kept of the look."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lrfdse.base.temporary import temporary_folder
from lrfdse.deploy.forms import check_forms, check_written
from lrfdse.explore.healing_kept import check_healing
from lrfdse.explore.inputs import open_inputs
from lrfdse.explore.inspection import inspect
from lrfdse.explore.refusals import check_board, check_storages
from lrfdse.explore.requests import data_request, effort_of, files_of, search_request
from lrfdse.explore.runtime import check_runtime
from lrfdse.results.folder import check_output
from lrfdse.results.settings import Data, check_proxy, check_storage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lrfdse.results.exploration import Inspection, LayerResult
    from lrfdse.results.settings import Settings

PLAN_MINUTES = 0.0054
"""CPU minutes for one plan. Measured on 2026-11-28 on one core of an AMD EPYC: the example for riscv64 with a full
cache and a new output folder took 19.3 s for its 60 plans, reading and writing included."""
LAYER_MINUTES = 2.3
"""CPU minutes for one layer: its kernels and fits, and its part of corrections and refinement. Measured in the same
place: with an empty cache and two workers the example took 275 s more, for two layers that are explored."""
MEASURED_LAYER = (300, 784)
"""Outputs and inputs of the largest layer of the example that the minutes are of."""
MEASURED_LAYERS = 2
"""Layers of the example that are explored."""
MEASURED_SAMPLES = 2048
"""Samples of the example's largest data."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What an exploration would do."""

    inspection: Inspection
    meter: str
    """The meter that latencies would come from."""
    samples: dict[str, int]
    """Samples of the data in each role; random inputs that stand for evaluation data are not counted."""
    plans: int
    """Plans that would be evaluated at most."""
    cpu_minutes: float | None
    """CPU minutes on the machine of the measurement; None where nothing is known."""
    unknown: tuple[str, ...]
    """Why nothing is known of the time."""


def forecast(settings: Settings) -> Forecast:
    """Return what an exploration would do; model, data, options and tools are checked as it would, nothing is written.

    The time is stated only for what is no larger than the example that it was measured on.

    Raises
    ------
    InputError
        The model, the data or an option cannot be used as given.
    ToolError
        A tool that the target needs is missing or too old.
    """
    from lrfdse.meters.meter import METERS, auto_meter
    from lrfdse.search.samplers.builtin import open_sampler
    from lrfdse.search.study.urls import check_form
    from lrfdse.toolchain.programs import require_tools

    check_output(settings.output)
    check_proxy(settings.proxy)
    check_storage(settings.storage, settings.target)
    check_forms(settings.model, settings.format)
    check_runtime(settings.runtime, settings.model, settings.format)
    meter = auto_meter(settings.target) if settings.meter == "auto" else settings.meter
    require_tools(settings.target, METERS.get(meter).tools)
    inputs = open_inputs(files_of(settings), data_request(settings))
    check_written(inputs.model, settings.format)
    check_storages(settings, inputs)
    check_board(settings.runner, inputs.model)
    check_healing(settings, inputs)
    # Whether a storage answers is not asked: asking makes one.
    check_form(settings.study)
    open_sampler(settings.sampler)
    with temporary_folder() as folder:
        inspection = inspect(dataclasses.replace(settings, cache=folder, data=Data()))
    parts = {"calib": inputs.calib, "eval": inputs.choosing if inputs.verified else None, "test": inputs.reporting}
    samples = {role: part.count for role, part in parts.items() if part is not None}
    layers = [result for result in inspection.layers if result.kept_dense is None]
    unknown = tuple(_unknown(settings, meter, samples, layers))
    plans = search_request(settings, meter, "modelled", effort_of(settings, inputs.model)).budget
    minutes = None if unknown else LAYER_MINUTES * len(layers) + PLAN_MINUTES * plans
    return Forecast(inspection, meter, samples, plans, minutes, unknown)


def _unknown(settings: Settings, meter: str, samples: dict[str, int], layers: Sequence[LayerResult]) -> list[str]:
    """Return in what an exploration goes beyond the example whose time was measured."""
    found = []
    if meter != "model":
        found.append(f"the meter is {meter}, and the model meter was measured")
    if settings.space_source != "default":
        found.append(f"the search space is {settings.space_source}, and the default one was measured")
    if settings.effort != "normal":
        found.append(f"the effort is {settings.effort}, and normal was measured")
    if settings.runner is not None:
        found.append("a board takes part")
    if (
        settings.sampler != "nsga2"
        or settings.proxy != "loss"
        or settings.metric not in (None, "top1")
        or settings.judge
    ):
        found.append("sampler, proxy, metric and outputs are not those that were measured")
    most = MEASURED_LAYER[0] * MEASURED_LAYER[1]
    if large := [each.layer.name for each in layers if each.layer.outputs * each.layer.inputs > most]:
        found.append(f"larger than 300 x 784, the largest layer measured: {', '.join(large)}")
    if shared := [each.layer.name for each in layers if each.layer.rows > 1]:
        found.append(f"layers of one row were measured, and these have more: {', '.join(shared)}")
    if len(layers) > 2 * MEASURED_LAYERS:
        found.append(f"{len(layers)} layers, and {MEASURED_LAYERS} were measured")
    if not {"calib", "eval"} <= set(samples):
        found.append("calibration and evaluation data were there when it was measured")
    if max(samples.values(), default=0) > MEASURED_SAMPLES:
        found.append(f"more than {MEASURED_SAMPLES} samples")
    return found
