"""A ``front.json`` of schema version 1 as the document of today; what it does not say is null there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lrfdse.ir.latency import REGIMES, Latency, Regime
from lrfdse.ir.storage import FLOAT32
from lrfdse.results.asked import (
    Asked,
    DataFile,
    DataFiles,
    LatencyFacts,
    Limits,
    MeterFacts,
    ModelFile,
    SpaceFacts,
    TargetFacts,
)
from lrfdse.results.designs import BoardFacts, BoardKernel, DesignFacts, KernelArgument, KernelFunction, Score
from lrfdse.results.document import Document
from lrfdse.results.layers import Choice, Failure, Latencies, LayerFacts, Option, Spectra, UntouchedPart
from lrfdse.results.schema1 import Board1, Design1, Document1, Kernel1, Latency1, Layer1, Option1, Settings1

_STORAGE = str(FLOAT32)
"""Storage of every weight in version 1, which knows no other."""


def upgraded(old: Document1) -> Document:
    """Return the document of today that says what a file of version 1 said."""
    made, layers = old.settings, tuple(_layer(layer) for layer in old.layers)
    options = {(layer.name, option.factorization): option.latency for layer in layers for option in layer.options}
    latency = old.latency or Latency1(kind="modelled" if old.meter == "model" else "measured")

    def designs(entries: Sequence[Design1]) -> tuple[DesignFacts, ...]:
        return tuple(_design(entry, old.metric, options) for entry in entries)

    def data(role: str, path: str | None) -> DataFile:
        return DataFile(path=path, sha256=old.data_sha256.get(role))

    return Document(
        model=ModelFile(name=old.model.name, path=old.model.path, sha256=old.model.sha256),
        target=TargetFacts(
            name=old.target,
            digest=made.target_digest,
            source=made.target,
            isa=made.isa,
            core=made.core,
            clock_mhz=made.clock_mhz,
            l1_kib=made.l1_kib,
            last_level_kib=made.last_level_kib,
            provenance=made.provenance,
        ),
        meter=MeterFacts(name=old.meter, kind=latency.kind, bracket=latency.bracket, procedure=latency.procedure),
        latency=LatencyFacts(covers=latency.covers),
        metric=old.metric,
        # Files from before the key say it by the data that the exploration was given.
        verified=made.eval is not None if old.verified is None else old.verified,
        classes_hit=old.classes_hit,
        data=DataFiles(
            calib=data("calib", made.calib), eval=data("eval", made.eval or None), test=data("test", made.test)
        ),
        space=SpaceFacts(source=made.space, digest=made.space_digest, method=made.method),
        settings=_asked(made),
        versions=old.versions,
        command=old.command,
        notes=old.notes,
        recommended=old.recommended,
        svd_at_equal_size=old.svd_at_equal_params,
        original=_design(old.baseline, old.metric, options),
        designs=designs(old.designs),
        dominated=designs(old.dominated),
        evaluated=old.evaluated,
        plan_gap=old.plan_gap,
        layers=layers,
        untouched=tuple(
            UntouchedPart(name=part.name, op=part.op, params=part.params, reason=part.reason) for part in old.untouched
        ),
        kernels=tuple(_kernel(kernel) for kernel in old.kernels),
    )


def _asked(made: Settings1) -> Asked:
    return Asked(
        limits=Limits(max_drop=made.max_drop, max_params=made.max_params, max_latency_us=made.max_latency_us),
        meter=made.meter,
        seed=made.seed,
        metric=made.metric,
        correct=made.correct,
        shape=made.shape,
        eval_samples=made.eval_samples,
        proxy=made.proxy,
        sampler=made.sampler,
        minutes=made.minutes,
        budget=made.budget,
        accept_unverified=made.accept_unverified,
        keep=made.keep,
    )


def _design(old: Design1, metric: str, options: Mapping[tuple[str, str], Latencies]) -> DesignFacts:
    charged = Latency(old.latency_us, old.latency_low_us, old.latency_high_us)
    parts = [options.get((name, text)) for name, text in old.plan.items()]
    warm, cold = (charged if old.cache_regime == regime else _sum(parts, regime) for regime in REGIMES)
    value = old.fidelity if metric == "fidelity" else old.eval_accuracy
    chosen, tested = None, None
    if value is not None:
        chosen = Score(value=value, interval=old.eval_interval, loss_standard_error=old.loss_standard_error)
    if old.accuracy is not None:
        error = old.accuracy_loss_standard_error
        tested = Score(value=old.accuracy, interval=old.accuracy_interval, loss_standard_error=error)
    return DesignFacts(
        id=old.id,
        params=old.params,
        weight_bytes=FLOAT32.bytes_of(old.params),
        flops=old.flops,
        cache_regime=old.cache_regime,
        latency=Latencies(warm=warm, cold=cold),
        fidelity=old.fidelity,
        output_error=old.output_error,
        eval_score=chosen,
        test_score=tested,
        plan={name: Choice(factorization=text, storage=_STORAGE) for name, text in old.plan.items()},
        origin=old.origin,
        refined=old.refined,
        on_front=old.on_front,
        model=old.model,
        board=None if old.board is None else _board(old.board),
    )


def _sum(parts: Sequence[Latencies | None], regime: Regime) -> Latency | None:
    """Return the sum of the layers' latencies in a regime; None where one of them, or the plan, is not known."""
    found = [None if part is None else part.at(regime) for part in parts]
    known = [part for part in found if part is not None]
    if not known or len(known) < len(found):
        return None
    us, low, high = (sum(values) for values in zip(*((p.us, p.low_us, p.high_us) for p in known), strict=True))
    return Latency(float(f"{us:.7g}"), float(f"{low:.7g}"), float(f"{high:.7g}"))


def _layer(old: Layer1) -> LayerFacts:
    return LayerFacts(
        name=old.name,
        inputs=old.inputs,
        outputs=old.outputs,
        uses=old.uses,
        rows=old.rows,
        params=old.params,
        weight_bytes=FLOAT32.bytes_of(old.params),
        share=old.share,
        peak_activation_bytes=FLOAT32.bytes_of(old.rows * (old.inputs + old.outputs)),
        effective_rank=old.effective_rank,
        spectra=old.spectra or Spectra(),
        kept_dense=old.kept_dense,
        funnel=old.funnel,
        options=tuple(_option(option) for option in old.options),
        failures=tuple(
            Failure(factorization=text, storage=_STORAGE, reason=reason) for text, reason in old.failures.items()
        ),
    )


def _option(old: Option1) -> Option:
    return Option(
        factorization=old.factorization,
        storage=_STORAGE,
        params=old.params,
        weight_bytes=FLOAT32.bytes_of(old.params),
        flops=old.flops,
        peak_activation_bytes=old.peak_activation_bytes,
        weight_error=old.weight_error,
        output_error=old.output_error,
        loss=old.loss,
        latency=Latencies(warm=Latency(*old.warm_us), cold=Latency(*old.cold_us)),
        kernel_error=old.kernel_error,
        schedules=old.schedules,
    )


def _board(old: Board1) -> BoardFacts:
    layers = tuple(
        BoardKernel(
            layer=part.layer,
            use=part.use,
            factorization=part.factorization,
            storage=_STORAGE,
            latency=Latencies(warm=Latency(*part.warm_us), cold=Latency(*part.cold_us)),
        )
        for part in old.layers
    )
    whole = None if old.whole_us is None else Latency(*old.whole_us)
    return BoardFacts(whole=whole, layers=layers, repeats=old.repeats, description=old.description)


def _kernel(old: Kernel1) -> KernelFunction:
    arguments = tuple(
        KernelArgument(
            name=each.name,
            role=each.role,
            element=_STORAGE,
            elements=each.floats,
            bytes=FLOAT32.bytes_of(each.floats),
        )
        for each in old.arguments
    )
    return KernelFunction(
        layer=old.layer, name=old.name, symbol=old.symbol, rows=old.rows, relu=old.relu, arguments=arguments
    )
