"""How much of the whole model the layers hold that can be compressed, and what bound follows for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lrfdse.results.designs import WholeModel
    from lrfdse.results.layers import LayerFacts, UntouchedPart


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a whole, in one unit."""

    part: float
    whole: float

    @property
    def fraction(self) -> float:
        """The part over the whole; 0 of nothing."""
        return self.part / self.whole if self.whole else 0.0

    @property
    def most_times(self) -> float | None:
        """By what factor the whole can shrink at most: to nothing but the rest; None where there is no rest."""
        rest = self.whole - self.part
        return self.whole / rest if rest > 0 else None


@dataclass(frozen=True, slots=True)
class Shares:
    """What the layers that can be compressed hold of the whole model."""

    layers: int
    """How many layers can be compressed."""
    weight_bytes: Share
    """Bytes of weights, as the model stores them; vectors (biases, scales) of other parts are not counted."""
    macs: Share | None
    """MACs of one inference; None where those of a part are not known."""
    warm_us: Share | None
    """Warm latency of the original as a C library (us); None where it was not built or not metered, and where its
    operators do not tell the layers apart."""


def shares_of(
    layers: Sequence[LayerFacts],
    untouched: Sequence[UntouchedPart],
    macs: int | None,
    original: WholeModel | None = None,
) -> Shares | None:
    """Return the shares of a model; None where a document does not say how many bytes its other parts take.

    Parameters
    ----------
    layers
        The layers; those that are kept dense belong to the rest.
    untouched
        The other parts that hold weights.
    macs
        MACs of the whole model; None where they are not known.
    original
        What the original costs as a whole; None where nobody compiled it.
    """
    rest = [part.weight_bytes for part in untouched]
    if any(size is None for size in rest):
        return None
    open_layers = [layer for layer in layers if not layer.kept_dense]
    weights = sum(layer.weight_bytes for layer in layers) + sum(size or 0 for size in rest)
    mine = sum(layer.macs for layer in open_layers)
    time = None
    if original is not None and (found := original.share_of({layer.name for layer in open_layers})) is not None:
        warm = original.latency.warm
        time = None if warm is None else Share(found[1] * warm.us, warm.us)
    return Shares(
        len(open_layers),
        Share(sum(layer.weight_bytes for layer in open_layers), weights),
        None if macs is None else Share(mine, macs),
        time,
    )
