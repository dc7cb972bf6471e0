"""``front.json`` and ``front.csv``: the exploration for machines, schema version 1."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

from lrfdse.base.events import Listener, silent
from lrfdse.base.files import write_atomically
from lrfdse.board.result import run_entry
from lrfdse.report.command import command_of
from lrfdse.report.firmware import recommended_kernels
from lrfdse.report.paths import relative, source
from lrfdse.targets.catalog import noun_digest

if TYPE_CHECKING:
    from pathlib import Path

    from lrfdse.ir.layer import Untouched
    from lrfdse.ir.plan import Design
    from lrfdse.ir.space import Funnel
    from lrfdse.results.exploration import Exploration, Inspection, LayerResult, Spectrum
    from lrfdse.results.settings import Settings

SCHEMA_VERSION = 1
"""Of ``front.json`` (docs/front-json.md): new keys leave it, a key that goes or changes its meaning raises it."""


def front_document(exploration: Exploration) -> dict[str, Any]:
    """Return the content of ``front.json``; it holds no time of day, so equal explorations give equal documents."""
    settings = exploration.settings
    return {
        "schema_version": SCHEMA_VERSION,
        "model": {
            "name": _name(settings.model),
            "path": relative(settings.model, settings.output),
            "sha256": exploration.model_sha256,
        },
        "data_sha256": dict(exploration.data_sha256),
        "target": settings.target.name,
        "meter": exploration.meter,
        "latency": {
            "unit": "us",
            "kind": exploration.meter_kind,
            "covers": "the sum over the model's fully-connected layers; the rest of the model is not in it",
            "procedure": exploration.procedure,
            "bracket": exploration.bracket,
        },
        "metric": exploration.metric,
        "verified": exploration.verified,
        "classes_hit": exploration.classes_hit,
        "versions": dict(exploration.versions),
        "command": command_of(settings),
        "settings": _settings(settings),
        "layers": [_layer(result) for result in exploration.layers],
        "untouched": _untouched(exploration.untouched),
        "baseline": _design(exploration.baseline, exploration),
        "recommended": exploration.recommended,
        "svd_at_equal_params": exploration.plain,
        "designs": [_design(design, exploration) for design in exploration.designs if is_listed(design, exploration)],
        "dominated": [
            _design(design, exploration)
            for design in exploration.designs
            if not is_listed(design, exploration) and design.id != exploration.baseline.id
        ],
        "evaluated": len(exploration.designs),
        "kernels": recommended_kernels(exploration),
        "plan_gap": exploration.plan_gap,
        "notes": list(exploration.notes),
    }


def is_listed(design: Design, exploration: Exploration) -> bool:
    """Whether the design belongs into reports: on the front, or a baseline to compare with."""
    return design.id in (*exploration.front, exploration.plain) or design.origin == "uniform-svd"


def inspection_document(inspection: Inspection) -> dict[str, Any]:
    """Return what ``lrfdse inspect --json`` prints."""
    return {
        "schema_version": SCHEMA_VERSION,
        "model": {"path": str(inspection.settings.model), "sha256": inspection.model_sha256},
        "target": inspection.settings.target.name,
        "space": inspection.settings.space.name,
        "layers": [_layer(result) for result in inspection.layers],
        "untouched": _untouched(inspection.untouched),
    }


def write_reports(exploration: Exploration, tell: Listener = silent) -> None:
    """Write ``front.csv``, ``report.html`` and ``front.json`` to the output folder, each by atomic rename.

    Then dress the study for optuna-dashboard, where that is installed; `tell` hears of it where that fails.
    """
    from lrfdse.report.dashboard import dress_study
    from lrfdse.report.page.html import report_html

    document = front_document(exploration)
    folder = exploration.settings.output
    write_atomically(folder / "front.csv", _csv(document))
    write_atomically(folder / "report.html", report_html(document))
    write_atomically(folder / "front.json", json.dumps(document, indent=1) + "\n")
    study = exploration.study
    dress_study(study.url, study.name, document, folder / "designs", study.artifacts, study.shared, tell)


def _design(design: Design, exploration: Exploration) -> dict[str, Any]:
    kept = f"designs/{design.id}/model.onnx"
    return {
        "id": design.id,
        "params": design.params,
        "flops": design.flops,
        "latency_us": _rounded(design.latency.us),
        "latency_low_us": _rounded(design.latency.low_us),
        "latency_high_us": _rounded(design.latency.high_us),
        "cache_regime": design.regime,
        "accuracy": design.accuracy,
        "eval_accuracy": design.eval_accuracy,
        "fidelity": design.fidelity,
        "output_error": None if design.output_error is None else _rounded(design.output_error),
        "loss_standard_error": _rounded(design.standard_error),
        "eval_interval": _interval(design.eval_interval),
        "accuracy_interval": _interval(design.accuracy_interval),
        "accuracy_loss_standard_error": None if design.accuracy_error is None else _rounded(design.accuracy_error),
        "plan": design.plan.texts(),
        "origin": design.origin,
        "refined": design.refined,
        "on_front": design.id in exploration.front,
        "model": kept if design.id in exploration.kept else None,
        "board": run_entry(exploration.boards[design.id]) if design.id in exploration.boards else None,
    }


def _layer(result: LayerResult) -> dict[str, Any]:
    layer = result.layer
    return {
        "name": layer.name,
        "in": layer.inputs,
        "out": layer.outputs,
        "uses": len(layer.uses),
        "rows": layer.rows,
        "params": layer.params,
        "share": round(result.share, 6),
        "effective_rank": round(result.effective_rank, 3),
        "spectra": {
            "weight": _spectrum(result.spectrum),
            "whitened": _spectrum(result.whitened),
            "inputs": _spectrum(result.activations),
        },
        "kept_dense": result.kept_dense,
        "funnel": _funnel(result.funnel),
        "options": [
            {
                "factorization": option.text,
                "params": option.params,
                "flops": option.cost.flops,
                "peak_activation_bytes": 4 * option.cost.peak,
                "weight_error": _rounded(option.weight_error),
                "output_error": None if option.output_error is None else _rounded(option.output_error),
                "loss": None if option.loss is None else _rounded(option.loss),
                "warm_us": [_rounded(x) for x in (option.warm.us, option.warm.low_us, option.warm.high_us)],
                "cold_us": [_rounded(x) for x in (option.cold.us, option.cold.low_us, option.cold.high_us)],
                "kernel_error": _rounded(option.max_error),
                "schedules": list(option.schedules),
            }
            for option in result.options
        ],
        "failures": dict(result.failures),
    }


def _spectrum(found: Spectrum | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "size": found.size,
        "effective_rank": round(found.effective_rank, 3),
        "ranks": list(found.ranks),
        "values": list(found.values),
        "errors": list(found.errors),
    }


def _untouched(parts: tuple[Untouched, ...]) -> list[dict[str, Any]]:
    return [{"name": part.name, "op": part.op, "params": part.params, "reason": part.reason} for part in parts]


def _funnel(funnel: Funnel) -> dict[str, Any]:
    return {"stages": [{"stage": stage, "designs": count} for stage, count in funnel.stages], "gap": funnel.gap}


def _settings(settings: Settings) -> dict[str, Any]:
    def path(value: Path | None) -> str | None:
        return None if value is None else relative(value, settings.output)

    return {
        "target": source(settings.target_source, settings.output),
        "target_digest": noun_digest(settings.target),
        "space": source(settings.space_source, settings.output),
        "space_digest": noun_digest(settings.space),
        "method": settings.space.method,
        "correct": settings.correct,
        "calib": path(settings.data.calib),
        "eval": path(settings.data.eval),
        "test": path(settings.data.test),
        "shape": {name: list(sizes) for name, sizes in settings.shape.items()},
        "meter": settings.meter,
        "seed": settings.seed,
        "metric": settings.metric,
        "eval_samples": settings.eval_samples,
        "proxy": settings.proxy,
        "sampler": settings.sampler,
        "minutes": settings.minutes,
        "budget": settings.budget,
        "keep": settings.keep,
        "accept_unverified": settings.accept_unverified,
        "max_drop": settings.limits.max_drop,
        "max_params": settings.limits.max_params,
        "max_latency_us": settings.limits.max_latency_us,
        "isa": settings.target.isa,
        "core": settings.target.core,
        "clock_mhz": settings.target.clock_mhz,
        "l1_kib": settings.target.l1.kib,
        "last_level_kib": settings.target.last_level.kib,
        "provenance": dict(settings.target.provenance),
    }


def _csv(document: dict[str, Any]) -> str:
    text = io.StringIO()
    layers = [layer["name"] for layer in document["layers"]]
    columns = ["id", "params", "flops", "latency_us", "latency_low_us", "latency_high_us", "accuracy", "eval_accuracy"]
    columns += ["fidelity", "output_error", "origin", "on_front"]
    # A table that travels alone cannot say that these are of random inputs.
    hidden = () if document["verified"] else ("eval_accuracy", "fidelity")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*columns, *layers])
    for design in document["designs"]:
        costs = (None if column in hidden else design[column] for column in columns)
        writer.writerow([*costs, *(design["plan"][name] for name in layers)])
    return text.getvalue()


def _name(model: Path) -> str:
    """Return the model's name: its file's, or its folder's where the file is called model.onnx."""
    return model.resolve().parent.name if model.stem == "model" else model.stem


def _interval(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else [_rounded(bound) for bound in interval]


def _rounded(value: float) -> float:
    """Return seven significant digits: more would be noise, and would differ between machines' libraries."""
    return float(f"{value:.7g}")
