"""From the settings of an exploration to what its document says was asked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lrfdse.results.asked import Asked, DataFile, DataFiles, Limits, SpaceFacts, TargetFacts
from lrfdse.results.paths import relative, source
from lrfdse.targets.catalog import noun_digest

if TYPE_CHECKING:
    from lrfdse.results.settings import Settings


def target_of(settings: Settings) -> TargetFacts:
    """Return what a document says of the target."""
    target = settings.target
    return TargetFacts(
        name=target.name,
        digest=noun_digest(target),
        source=source(settings.target_source, settings.output),
        isa=target.isa,
        core=target.core,
        clock_mhz=target.clock_mhz,
        l1_kib=target.l1.kib,
        last_level_kib=target.last_level.kib,
        provenance=dict(target.provenance),
        resident=target.resident,
    )


def space_of(settings: Settings) -> SpaceFacts:
    """Return what a document says of the search space."""
    return SpaceFacts(
        source=source(settings.space_source, settings.output),
        digest=noun_digest(settings.space),
        method=settings.space.method,
    )


def data_of(settings: Settings, digests: Mapping[str, str | None]) -> DataFiles:
    """Return what a document says of the data, whose SHA-256 by role are `digests`."""

    def file(role: str, path: Path | None) -> DataFile:
        return DataFile(path=None if path is None else relative(path, settings.output), sha256=digests.get(role))

    data = settings.data
    return DataFiles(calib=file("calib", data.calib), eval=file("eval", data.eval), test=file("test", data.test))


def asked_of(settings: Settings) -> Asked:
    """Return the options of an exploration."""
    limits = settings.limits
    return Asked(
        limits=Limits(
            max_drop=limits.max_drop,
            max_params=limits.max_params,
            max_latency_us=limits.max_latency_us,
            max_other_drop=limits.max_other_drop,
            max_size=limits.max_size,
            max_model_latency_us=limits.max_model_latency_us,
        ),
        meter=settings.meter,
        seed=settings.seed,
        metric=settings.metric,
        judge=settings.judge,
        correct=settings.correct,
        shape={name: tuple(sizes) for name, sizes in settings.shape.items()},
        value=dict(settings.value),
        eval_samples=settings.eval_samples,
        effort=settings.effort,
        proxy=settings.proxy,
        sampler=settings.sampler,
        minutes=settings.minutes,
        budget=settings.budget,
        accept_unverified=settings.accept_unverified,
        keep=settings.keep,
        layers=settings.layers,
        format=settings.format,
        library=settings.library,
        int8=settings.int8,
        storage=settings.storage,
    )
