"""What a whole model costs, operator by operator, and which of its layers each operator is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lrfdse.base.codec import to_plain
from lrfdse.ir.latency import Latency
from lrfdse.ir.products import Recurrence
from lrfdse.model.passes.carried.spelled import state_of
from lrfdse.results.designs import OperatorCost, WholeModel
from lrfdse.results.layers import Latencies

if TYPE_CHECKING:
    from lrfdse.ir.layer import Layer
    from lrfdse.library.facts import LibraryFacts, OperatorFacts


def rest_of(cost: WholeModel, layers: Sequence[Layer]) -> tuple[Latency | None, str]:
    """Return what a whole model takes in a warm run without the operators of its layers, or why that is not known.

    Ends of measured latencies do not add up exactly; none of the difference is below zero.
    """
    warm = cost.latency.warm
    mine = [each for each in cost.operators if each.layer is not None]
    lost = {layer.name for layer in layers} - {each.layer for each in mine}
    if lost:
        return None, f"no operator of the whole model is known to be layer {', '.join(sorted(lost))}"
    taken = [each.latency.warm for each in mine]
    if warm is None or None in taken:
        return None, "its meter gives no latency of single operators"
    known = [each for each in taken if each is not None]
    middle = max(0.0, warm.us - sum(each.us for each in known))
    low = max(0.0, warm.low_us - sum(each.low_us for each in known))
    high = warm.high_us - sum(each.high_us for each in known)
    return rounded(Latency(middle, min(low, middle), max(high, middle))), ""


def cost_of(facts: LibraryFacts, layers: Sequence[Layer], library: str | None) -> WholeModel:
    """Return what a library costs.

    Parameters
    ----------
    facts
        What there is to say of it.
    layers
        The fully-connected layers of its model whose operators are to be named.
    library
        Path of its folder, relative to the output folder; None where it is not kept.
    """
    nodes = {node: layer for layer in layers for use in layer.uses for node in use.nodes if layer.kind != "state"}
    cells = _cells_of(facts.operators, layers)
    return WholeModel(
        latency=_latencies(facts.warm, facts.cold),
        flash_bytes=facts.code_bytes + facts.weight_bytes,
        code_bytes=facts.code_bytes,
        weight_bytes=facts.weight_bytes,
        arena_bytes=facts.arena_bytes,
        meter=None if facts.meter is None else facts.meter.name,
        kind=None if facts.meter is None else facts.meter.kind,
        library=library,
        operators=tuple(
            OperatorCost(
                name=", ".join(each.nodes),
                op=each.kind,
                latency=_latencies(each.warm, each.cold),
                flash_bytes=each.weight_bytes,
                layer=cells[place] if place in cells else _layer_of(each, nodes),
            )
            for place, each in enumerate(facts.operators)
        ),
    )


def _cells_of(operators: Sequence[OperatorFacts], layers: Sequence[Layer]) -> dict[int, str | None]:
    """Return for each recurrence among operators, by its place, the layer whose matrix it multiplies the state by.

    Those of a node stand in the order of its directions.
    """
    named = {use.node: layer.name for layer in layers if layer.kind == "state" for use in layer.uses}
    found: dict[int, str | None] = {}
    before: Counter[str] = Counter()
    for place, operator in enumerate(operators):
        if operator.kind == Recurrence.__name__:
            node = next(iter(operator.nodes), "")
            label = state_of(node)
            found[place] = named.get(label, named.get(f"{label}.{before[node]}"))
            before[node] += 1
    return found


def _layer_of(operator: OperatorFacts, layers: Mapping[str, Layer]) -> str | None:
    """Return the layer that an operator computes.

    onnxruntime joins a product with its bias while it folds constants, and appends what it did to the node's name.
    """
    if not operator.weight_bytes:
        return None
    for node in operator.nodes:
        known = [name for name in layers if node == name or node.startswith(f"{name}/")]
        found = layers[max(known, key=len)] if known else None
        # Rows are looked up without multiplying.
        if found is not None and (operator.macs or found.table):
            return found.name
    return None


def _latencies(warm: Latency | None, cold: Latency | None) -> Latencies:
    return Latencies(warm=rounded(warm), cold=rounded(cold))


def rounded(latency: Latency | None) -> Latency | None:
    """Return a latency to seven significant digits: more would be noise."""
    return None if latency is None else Latency(*(float(f"{us:.7g}") for us in to_plain(latency).values()))
