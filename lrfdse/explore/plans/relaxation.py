"""`--max-drop` holds: where every compressed design loses too much, one of them is relaxed layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lrfdse.base.text import counted

if TYPE_CHECKING:
    from lrfdse.explore.plans.trials import Trials
    from lrfdse.ir.plan import Design, Metric
    from lrfdse.results.settings import Limits
    from lrfdse.search.plans.tables import LayerTable


def relaxed(
    trials: Trials, tables: Sequence[LayerTable], base: Design, metric: Metric, limits: Limits, most: int
) -> list[str]:
    """Have at most `most` plans evaluated on the way from a compressed design to one that loses little enough.

    Nothing is done where a design does already. The start is the best of the designs that compress most layers: which
    of them to give back is what is to be found out.

    Returns
    -------
    list of str
        What the reader of the results must know: which layers were relaxed, and what each step lost.
    """
    from lrfdse.explore.plans.choose import lost as lost_by
    from lrfdse.search.plans.relax import relax

    def lost(design: Design) -> float:
        return lost_by(design, base, metric, limits)

    def loss(texts: Mapping[str, str]) -> float | None:
        found = trials.run([texts], "relaxed")
        return lost(found[0]) if found else None

    compressed = [design for design in trials.designs() if design.id != base.id]
    if most < 1 or not compressed or any(lost(design) <= limits.max_drop + 1e-9 for design in compressed):
        return []
    start = max(compressed, key=lambda d: (sum(not f.is_original for _, f in d.plan.choices), d.score(metric), d.id))
    found, steps = relax(start.plan.texts(), tables, loss, limits.max_drop, most)
    way = "; ".join(map(str, steps))
    end = "; only the original model holds it" if all(text == "dense" for text in found.values()) else ""
    why = f"every compressed design lost over {counted(100 * limits.max_drop, 'point')}"
    return [f"{why}, so {start.id} was relaxed: {way}{end}"]
