"""The composer: from settings to a finished exploration, every stage in its order, each with a request of its own."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

from lrfdse.base.events import Event, Listener, silent
from lrfdse.base.files import sole_writer
from lrfdse.base.log import failures_logged, logged
from lrfdse.base.store import Store
from lrfdse.base.text import counted
from lrfdse.calibrate.session import board_notes, measured_on, open_board
from lrfdse.deploy.folders import DESIGNS
from lrfdse.deploy.forms import check_forms, check_written
from lrfdse.errors import ToolError
from lrfdse.explore.designs import chosen_designs, write_designs
from lrfdse.explore.evidence import evidence_notes
from lrfdse.explore.firmware import functions_of
from lrfdse.explore.healing_kept import check_healing
from lrfdse.explore.identity import study_identity
from lrfdse.explore.inputs import open_inputs
from lrfdse.explore.int8 import Int8Forms
from lrfdse.explore.judging import output_facts
from lrfdse.explore.layers.fits import blind_notes, explored_layers, open_builder, open_fits
from lrfdse.explore.layers.left import idle_layers, still_layers
from lrfdse.explore.layers.options import study_layers
from lrfdse.explore.layers.repaired import RANKS
from lrfdse.explore.plans.assemble import metric_of
from lrfdse.explore.plans.choose import pareto
from lrfdse.explore.plans.evaluator import Evaluator
from lrfdse.explore.plans.job import TrialRequest
from lrfdse.explore.plans.proxy import predicted_errors
from lrfdse.explore.plans.search import StudyRequest, check_study, search_plans
from lrfdse.explore.refusals import check_board, check_explored, check_storages
from lrfdse.explore.requests import (
    data_request,
    effort_of,
    files_of,
    fit_request,
    kept_of,
    kernel_request,
    search_request,
    space_of,
    study_place,
    whole_request,
    with_rest,
)
from lrfdse.explore.runtime import check_runtime
from lrfdse.explore.sensitivity import sensitivity_of
from lrfdse.explore.versions import plugins, versions
from lrfdse.explore.whole import whole_models, with_gates
from lrfdse.explore.whole_beside import designs_beside, original_beside
from lrfdse.ir.choice import Choice
from lrfdse.ir.kernel import has_kernel
from lrfdse.ir.storage import asked_storages
from lrfdse.results.exploration import Exploration, LayerResult
from lrfdse.results.folder import check_output
from lrfdse.results.settings import check_proxy, check_storage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lrfdse.explore.plans.search import SearchResult
    from lrfdse.ir.plan import Design
    from lrfdse.meters.meter import Meter
    from lrfdse.model.graph import Model
    from lrfdse.results.sensitivity import SensitivityCase
    from lrfdse.results.settings import Settings
    from lrfdse.targets.target import Target


def explore(
    settings: Settings, progress: Listener = silent, finish: Callable[[Exploration, Listener], None] | None = None
) -> Exploration:
    """Explore the model and return everything found; the chosen designs lie in the output folder.

    Parameters
    ----------
    settings
        What to explore, for what, within what limits.
    progress
        Called with every event, stage by stage.
    finish
        Called with the result and the log's listener, while the output folder is still this exploration's own, to write
        reports into it.

    Raises
    ------
    InputError
        The model, the data or an option cannot be used as given, or the output folder holds what is not lrfdse's.
    ToolError
        A tool that the target needs is missing or failed, or a board; of a board that fails after the search, all else
        has been written.
    """
    from lrfdse.meters.meter import open_meter
    from lrfdse.model.macs import macs_of

    began = time.monotonic()
    deadline = None if settings.minutes is None else began + 60 * settings.minutes
    folder, facts = settings.output, {"model": str(settings.model), "target": settings.target.name}
    check_output(folder)
    with failures_logged(folder, facts):
        check_proxy(settings.proxy)
        check_storage(settings.storage, settings.target)
        check_forms(settings.model, settings.format)
        check_runtime(settings.runtime, settings.model, settings.format)
        inputs = open_inputs(files_of(settings), data_request(settings))
        model, calib = inputs.model, inputs.calib
        check_written(model, settings.format)
        check_storages(settings, inputs)
        macs = macs_of(model)
        meter = open_meter(settings.meter, settings.target)
        effort = effort_of(settings, model)
        search = search_request(settings, meter.name, meter.kind, effort)
        fit = fit_request(settings, inputs, effort)
        idle = idle_layers(model, inputs.judging.objective)
        explored = [name for name in explored_layers(settings.space, model) if name not in idle]
        check_explored(explored, idle, settings.space, model)
        identity = study_identity(fit, settings.target.name, settings.target.resident, inputs, meter)
        check_board(settings.runner, model)
        check_healing(settings, inputs)
        place = study_place(settings, identity)
        check_study(place, identity, search.sampler)
        board = open_board(settings.runner, settings.target)
    with failures_logged(folder, facts), sole_writer(folder), logged(folder / "log.jsonl", progress, facts) as progress:
        progress(Event("note", f"{settings.model}: {_layers_text(model)}"))
        cache = Store(settings.cache)
        whole_asked = whole_request(settings, meter)
        may_recommend = inputs.verified or settings.accept_unverified
        with original_beside(
            whole_asked, model.layers, may_recommend, cache, progress, settings.workers
        ) as original_done:
            if calib is not None:
                progress(Event("calibrate", counted(calib.count, "sample")))
            fits = open_fits(fit, model, calib, explored, cache, progress, settings.workers)
            idle |= still_layers(fits, model, explored)
            check_explored([name for name in explored if name not in idle], idle, settings.space, model)
            layers = study_layers(
                space_of(settings, effort),
                kernel_request(settings, meter, effort),
                model,
                fits,
                cache,
                progress,
                idle,
                asked_storages(settings.storage),
                effort.screened,
                # A board times kernels, and layers with a repair have none of their own.
                RANKS if settings.runner is None else (),
                effort.plain,
            )
            measured = with_gates(original_done(), layers)
        search = with_rest(search, measured.rest_us)
        builder = open_builder(fit, model, calib, fits, cache, settings.workers)
        evaluator = Evaluator(builder, inputs, settings.workers)
        unmeasured: list[str] = []
        errors = predicted_errors(
            settings.proxy,
            fit,
            inputs,
            layers,
            evaluator,
            cache,
            progress,
            unmeasured,
            settings.workers,
            effort.probed,
            effort.least_run,
        )
        trial = TrialRequest(data_request(settings), fit, settings.target, search.limits, layers)
        study = StudyRequest(place, identity, trial, files_of(settings))
        found = search_plans(search, study, inputs, evaluator, errors, progress, deadline)
        metric, classes = metric_of(inputs), evaluator.classes_hit
        front = pareto(found.designs, metric, inputs.verified, search.resolution)
        # What a board is to be compared on.
        compared = [] if board is None else [found.baseline, *([] if found.plain is None else [found.plain])]
        # Who is to choose from the trade-off has the original already.
        spread = front if inputs.verified else [design for design in front if design.id != found.baseline.id]
        chosen = chosen_designs(spread, found.recommended, kept_of(settings, effort), compared)
        int8 = Int8Forms(inputs, evaluator) if settings.int8 else None
        one = found.recommended or found.baseline
        plain = [] if found.plain is None else [found.plain]
        best = [] if found.recommended is None else [found.recommended, *plain]
        with designs_beside(whole_asked, measured, found.baseline, best, builder, cache, settings.workers) as begun:
            kept = write_designs(
                folder / DESIGNS,
                chosen,
                layers,
                builder,
                settings.target,
                progress,
                int8,
                settings.format,
                None if effort.int8_of_all else (one.id, found.baseline.id),
            )
            if int8 is not None:
                int8.add_baselines(found.baseline.id, effort.int8_of_all)
            cases = _sensitivity(found, meter, settings.target, layers, cache, progress)
            whole = whole_models(
                whole_asked,
                measured,
                found.baseline,
                found.recommended,
                plain,
                builder,
                folder / DESIGNS,
                kept,
                cache,
                progress,
                begun,
            )
        boards, failure = measured_on(board, folder, kept, settings.target, cache, progress)
        exploration = Exploration(
            settings=settings,
            model_sha256=model.sha256,
            data_sha256=inputs.digests,
            meter=meter.name,
            meter_kind=meter.kind,
            procedure=meter.procedure,
            bracket=meter.bracket,
            versions=versions() | meter.versions() | plugins(settings, meter),
            layers=tuple(_on_front(result, front) for result in layers),
            untouched=model.untouched,
            macs=macs.total,
            node_macs=macs.nodes,
            metric=metric,
            original=found.baseline,
            designs=tuple(sorted(found.designs, key=lambda d: (d.latency.us, d.bytes, d.id))),
            front=tuple(design.id for design in front),
            recommended=None if found.recommended is None else found.recommended.id,
            svd_at_equal_size=None if found.plain is None else found.plain.id,
            kept=tuple(kept),
            notes=(
                *evidence_notes(inputs, found.recommended or found.baseline, classes, search.limits.max_drop),
                *inputs.notes,
                *([] if calib is None else blind_notes(fit, model, explored)),
                *board_notes(boards.values()),
                *unmeasured,
                *effort.left_out,
                *whole.notes,
                *(() if int8 is None else int8.notes),
                *found.notes,
            ),
            plan_gap=found.gap,
            study=place,
            boards=boards,
            whole=whole.costs,
            rest=measured.rest,
            kernels=() if found.recommended is None else functions_of(found.recommended.plan, layers, settings.target),
            sensitivity=cases,
            verified=inputs.verified,
            classes_hit=None if classes is None else classes[0],
            outputs=output_facts(inputs.judging),
            int8={} if int8 is None else int8.facts,
            int8_baseline=None if int8 is None else int8.baseline,
        )
        if finish is not None:
            finish(exploration, progress)
        if failure is not None:
            raise ToolError(f"{failure}; all else was written: go on with `lrfdse bench {folder} --runner ...`")
        return exploration


def _layers_text(model: Model) -> str:
    """Return how many layers of each kind the model has."""
    from lrfdse.model.kinds import KINDS

    kinds = [layer.kind for layer in model.layers]
    return ", ".join(counted(kinds.count(kind), each.noun) for kind, each in KINDS.items() if kind in kinds)


def _sensitivity(
    found: SearchResult,
    meter: Meter,
    target: Target,
    layers: Sequence[LayerResult],
    cache: Store,
    progress: Listener,
) -> tuple[SensitivityCase, ...]:
    """Return on which assumption the recommended design's speed-up rests; nothing where no model gave it."""
    if meter.name != "model" or found.recommended is None or found.recommended.id == found.baseline.id:
        return ()
    # Only kernels are counted again, once each.
    compared = [found.baseline, found.recommended, *([] if found.plain is None else [found.plain])]
    chosen = [(result.layer, design.plan[result.layer.name]) for result in layers for design in compared]
    if not all(has_kernel(use, choice) and use.turns == 1 for layer, choice in chosen for use in layer.uses):
        return ()
    return sensitivity_of(compared, layers, target, cache, progress)


def _on_front(result: LayerResult, front: Sequence[Design]) -> LayerResult:
    """Return the layer with the last stage of its funnel."""
    if result.kept_dense is not None:
        return result
    chosen = {design.plan[result.layer.name] for design in front} - {Choice(result.dense)}
    return dataclasses.replace(result, funnel=result.funnel.extended("on the final front", len(chosen)))
