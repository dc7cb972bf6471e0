"""From the finished exploration to its document, and from the document to ``front.json``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from lrfdse.base.codec import to_plain
from lrfdse.base.files import write_atomically
from lrfdse.ir.choice import Choice as IrChoice
from lrfdse.ir.cost import cost_of
from lrfdse.ir.latency import Latency
from lrfdse.ir.plan import DENSE_STORED
from lrfdse.ir.storage import FLOAT32
from lrfdse.results.asked import HardwareError, LatencyFacts, MeterFacts, ModelFile
from lrfdse.results.asking import asked_of, data_of, space_of, target_of
from lrfdse.results.command import command_of
from lrfdse.results.designs import BoardFacts, BoardKernel, DesignFacts, Int8Facts, Score, WholeModel
from lrfdse.results.document import Document, InspectionDocument
from lrfdse.results.layers import (
    Bounds,
    Choice,
    Failure,
    Funnel,
    Latencies,
    LayerFacts,
    Option,
    Spectra,
    Spectrum,
    Stage,
    UntouchedPart,
    nouns_text,
)
from lrfdse.results.paths import relative
from lrfdse.results.read import FRONT
from lrfdse.targets.resolution import error_of, resolution_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lrfdse.board.result import BoardRun
    from lrfdse.ir.layer import Untouched
    from lrfdse.ir.plan import Design
    from lrfdse.results import exploration as found
    from lrfdse.results.settings import Settings

_COVERS = "the sum over the model's {}; the rest of the model is not in it"


def document_of(exploration: found.Exploration) -> Document:
    """Return the document of an exploration; it holds no time of day, so equal explorations give equal documents."""
    settings = exploration.settings
    designs = {design.id: _design(design, exploration) for design in (exploration.original, *exploration.designs)}
    listed = [design.id for design in exploration.designs if _is_listed(design, exploration)]
    left = [design.id for design in exploration.designs if design.id not in {*listed, exploration.original.id}]
    return Document(
        model=ModelFile(
            name=_name(settings.model),
            path=relative(settings.model, settings.output),
            sha256=exploration.model_sha256,
        ),
        target=target_of(settings),
        meter=MeterFacts(
            name=exploration.meter,
            kind=exploration.meter_kind,
            bracket=exploration.bracket,
            procedure=exploration.procedure,
            hardware_error=_hardware_error(settings, exploration),
            resolution=_resolution(settings, exploration),
        ),
        latency=LatencyFacts(
            covers=_COVERS.format(nouns_text(result.layer.kind for result in exploration.layers)), rest=exploration.rest
        ),
        metric=exploration.metric,
        verified=exploration.verified,
        classes_hit=exploration.classes_hit,
        outputs=exploration.outputs,
        data=data_of(settings, exploration.data_sha256),
        space=space_of(settings),
        settings=asked_of(settings),
        versions=dict(exploration.versions),
        command=command_of(settings),
        notes=exploration.notes,
        recommended=exploration.recommended,
        svd_at_equal_size=exploration.svd_at_equal_size,
        original=designs[exploration.original.id],
        designs=tuple(designs[identity] for identity in listed),
        dominated=tuple(designs[identity] for identity in left),
        evaluated=len(exploration.designs),
        plan_gap=exploration.plan_gap,
        layers=tuple(_layer(result) for result in exploration.layers),
        untouched=tuple(_untouched(part, exploration.node_macs) for part in exploration.untouched),
        macs=exploration.macs,
        kernels=exploration.kernels,
        sensitivity=exploration.sensitivity,
        int8_baseline=exploration.int8_baseline,
    )


def inspection_of(inspection: found.Inspection) -> InspectionDocument:
    """Return what ``lrfdse inspect --json`` prints."""
    settings = inspection.settings
    return InspectionDocument(
        model=ModelFile(name=_name(settings.model), path=str(settings.model), sha256=inspection.model_sha256),
        target=target_of(settings),
        space=space_of(settings),
        layers=tuple(_layer(result) for result in inspection.layers),
        untouched=tuple(_untouched(part, inspection.node_macs) for part in inspection.untouched),
        macs=inspection.macs,
    )


def board_of(run: BoardRun) -> BoardFacts:
    """Return what a document says of a design on a board."""
    layers = tuple(
        BoardKernel(
            layer=kernel.layer,
            use=kernel.use,
            factorization=str(kernel.spec.factorization),
            storage=str(kernel.spec.storage),
            latency=Latencies(warm=_latency(kernel.warm), cold=_latency(kernel.cold)),
        )
        for kernel in run.kernels
    )
    whole = None if run.whole is None else _latency(run.whole)
    return BoardFacts(whole=whole, layers=layers, repeats=run.repeats, description=dict(run.board))


def json_of(document: Document | InspectionDocument) -> str:
    """Return a document as JSON text without a line's end after it; equal documents give equal texts."""
    return json.dumps(to_plain(document), indent=1)


def write_document(document: Document, folder: Path) -> None:
    """Write ``front.json`` into an output folder by atomic rename.

    Raises
    ------
    InputError
        The folder cannot be written.
    """
    write_atomically(folder / FRONT, json_of(document) + "\n")


def _is_listed(design: Design, exploration: found.Exploration) -> bool:
    """Whether the design belongs into tables: on the front, or a baseline to compare with."""
    compared = design.origin in ("uniform-svd", *DENSE_STORED)
    return compared or design.id in (*exploration.front, exploration.svd_at_equal_size)


def _design(design: Design, exploration: found.Exploration) -> DesignFacts:
    plan = dict(design.plan.choices)
    parts = [result.option(plan[result.layer.name]) for result in exploration.layers]
    chosen, reported = design.eval_accuracy, None
    if exploration.metric == "fidelity":
        chosen = design.fidelity
    if design.accuracy is not None:
        reported = score_of(design.accuracy, design.accuracy_interval, design.accuracy_error)
    run = exploration.boards.get(design.id)
    return DesignFacts(
        id=design.id,
        params=design.params,
        weight_bytes=design.bytes,
        flops=design.flops,
        cache_regime=design.regime,
        latency=Latencies(
            warm=_sum([part.warm for part in parts]),
            cold=_sum([part.cold for part in parts]),
        ),
        fidelity=design.fidelity,
        output_error=None if design.output_error is None else _rounded(design.output_error),
        others={name: _rounded(value) for name, value in design.others.items()},
        others_error={name: _rounded(value) for name, value in design.others_error.items()},
        eval_score=None if chosen is None else score_of(chosen, design.eval_interval, design.standard_error),
        test_score=reported,
        plan={name: _choice(choice) for name, choice in design.plan.choices},
        origin=design.origin,
        refined=design.refined,
        on_front=design.id in exploration.front,
        model=f"designs/{design.id}/model.onnx" if design.id in exploration.kept else None,
        board=None if run is None else board_of(run),
        whole_model=_whole(design, exploration),
        int8=_int8(design.id, exploration),
    )


def _whole(design: Design, exploration: found.Exploration) -> WholeModel:
    known, rest = exploration.whole.get(design.id, WholeModel()), exploration.rest
    return known if rest is None else dataclasses.replace(known, estimated=_sum([rest, design.latency]))


def _int8(identity: str, exploration: found.Exploration) -> Int8Facts | None:
    facts = exploration.int8.get(identity)
    if facts is None or identity not in exploration.kept:
        return facts
    return dataclasses.replace(facts, model=f"designs/{identity}/model.int8.onnx")


def score_of(value: float, interval: tuple[float, float] | None, error: float | None) -> Score:
    """Return a score as documents have it, its errors with seven digits."""
    return Score(
        value=value,
        interval=None if interval is None else (_rounded(interval[0]), _rounded(interval[1])),
        loss_standard_error=None if error is None else _rounded(error),
    )


def _layer(result: found.LayerResult) -> LayerFacts:
    layer = result.layer
    window = layer.uses[0].window
    return LayerFacts(
        name=layer.name,
        inputs=layer.inputs,
        outputs=layer.outputs,
        kind=layer.kind,
        kernel=None if window is None else window.kernel,
        table=layer.table or None,
        uses=len(layer.uses),
        rows=layer.rows,
        params=layer.params,
        storage=str(layer.storage),
        weight_bytes=layer.bytes,
        share=round(result.share, 6),
        peak_activation_bytes=FLOAT32.bytes_of(cost_of(layer, result.dense, 1).peak),
        effective_rank=round(result.effective_rank, 3),
        spectra=Spectra(
            weight=_spectrum(result.spectrum),
            whitened=_spectrum(result.whitened),
            inputs=_spectrum(result.activations),
        ),
        kept_dense=result.kept_dense,
        funnel=Funnel(
            stages=tuple(Stage(stage=stage, designs=count) for stage, count in result.funnel.stages),
            gap=result.funnel.gap,
        ),
        options=tuple(_option(option) for option in result.options),
        failures=tuple(
            Failure(**dataclasses.asdict(_choice(IrChoice.parse(text, *result.sizes))), reason=reason)
            for text, reason in result.failures.items()
        ),
    )


def _option(option: found.MeasuredChoice) -> Option:
    return Option(
        factorization=str(option.choice.factorization),
        storage=str(option.choice.storage),
        params=option.params,
        weight_bytes=option.bytes,
        flops=option.cost.flops,
        peak_activation_bytes=FLOAT32.bytes_of(option.cost.peak),
        weight_error=_rounded(option.weight_error),
        output_error=None if option.output_error is None else _rounded(option.output_error),
        loss=None if option.loss is None else _rounded(option.loss),
        latency=Latencies(warm=_latency(option.warm), cold=_latency(option.cold)),
        bounds=Bounds(warm=option.warm_bound, cold=option.cold_bound),
        kernel_error=_rounded(option.max_error),
        schedules=option.schedules,
    )


def _choice(choice: IrChoice) -> Choice:
    return Choice(factorization=str(choice.factorization), storage=str(choice.storage))


def _spectrum(spectrum: found.Spectrum | None) -> Spectrum | None:
    if spectrum is None:
        return None
    return Spectrum(
        size=spectrum.size,
        effective_rank=round(spectrum.effective_rank, 3),
        ranks=tuple(spectrum.ranks),
        values=tuple(spectrum.values),
        errors=tuple(spectrum.errors),
    )


def _untouched(part: Untouched, macs: Mapping[str, int]) -> UntouchedPart:
    return UntouchedPart(
        name=part.name,
        op=part.op,
        params=part.params,
        weight_bytes=part.weight_bytes,
        macs=macs.get(part.name),
        reason=part.reason,
    )


def _hardware_error(settings: Settings, exploration: found.Exploration) -> HardwareError | None:
    error = error_of(settings.target, exploration.meter)
    if error is None:
        return None
    return HardwareError(low=error.low, high=error.high, source=error.source)


def _resolution(settings: Settings, exploration: found.Exploration) -> float | None:
    known = resolution_of(settings.target, exploration.meter, exploration.meter_kind)
    return None if known is None else _rounded(known)


def _name(model: Path) -> str:
    """Return the model's name: its file's, or its folder's where the file is called model.onnx."""
    return model.resolve().parent.name if model.stem == "model" else model.stem


def _sum(parts: list[Latency]) -> Latency:
    return _latency(Latency(sum(p.us for p in parts), sum(p.low_us for p in parts), sum(p.high_us for p in parts)))


def _latency(latency: Latency) -> Latency:
    return Latency(_rounded(latency.us), _rounded(latency.low_us), _rounded(latency.high_us))


def _rounded(value: float) -> float:
    """Return seven significant digits: more would be noise, and would differ between machines' libraries."""
    return float(f"{value:.7g}")
