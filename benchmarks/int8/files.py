"""A whole file in int8: products and the tables of embeddings, each layer fitted by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.accuracy.cases import Case
from benchmarks.int8.accuracy import dense
from benchmarks.results import table
from lrfdse.base.store import Store
from lrfdse.explore.layers.fits import FitRequest, open_fits
from lrfdse.formats.onnx import serialized
from lrfdse.ir.choice import Choice
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.layer import Layer
from lrfdse.ir.storage import FLOAT32, INT8, Storage
from lrfdse.model.graph import load_model
from lrfdse.model.passes.factor import rewrite


@dataclass(frozen=True, slots=True)
class File:
    """A version of a model."""

    what: str
    bytes: int
    """Of the whole ONNX file."""
    score: float
    """On the data that report, of 100."""


def whole(storage: Storage) -> Callable[[Layer], Choice]:
    """Return what chooses a dense layer in a storage."""
    return lambda layer: Choice(dense(layer).factorization, storage)


def by_rank(share: float, storage: Storage) -> Callable[[Layer], Choice]:
    """Return what chooses an SVD whose rank is a share of the least size."""

    def chosen(layer: Layer) -> Choice:
        rank = max(1, int(share * min(layer.outputs, layer.inputs)))
        return Choice(Factorization.svd(layer.outputs, layer.inputs, rank), storage)

    return chosen


VERSIONS = (
    ("as it is", whole(FLOAT32), whole(FLOAT32)),
    ("products in int8", whole(INT8), whole(FLOAT32)),
    ("products and tables in int8", whole(INT8), whole(INT8)),
    ("products in int8, tables by half their rank, in int8", whole(INT8), by_rank(1 / 2, INT8)),
    ("products in int8, tables by 2/5 of their rank", whole(INT8), by_rank(2 / 5, FLOAT32)),
)
"""What products become, and what tables do."""


def files(case: Case, cache: Store) -> Iterator[File]:
    """Yield versions of a model with all its embeddings, the original first.

    Parameters
    ----------
    case
        The model with its data.
    cache
        Keeps fits.
    """
    shape = {port.name: [size or 1 for size in port.fixed or ()] for port in case.model.inputs}
    model = load_model(case.model.path, shape, ("fc", "embedding"))
    names = [layer.name for layer in model.layers]
    fits = open_fits(FitRequest("auto"), model, case.calib, names, cache)
    (part, *_) = case.reporting
    for what, product, lookup in VERSIONS:
        choices = {each.name: (lookup if each.table else product)(each) for each in model.layers}
        factors = {
            name: fits.factors(model.layer(name), choice) for name, choice in choices.items() if not choice.is_original
        }
        content = serialized(rewrite(model, factors))
        yield File(what, len(content), case.scores(content, (part,))[part.name])


def section(name: str, unit: str, found: list[File]) -> list[str]:
    """Return the lines of one model."""
    first = found[0]
    rows = [
        [
            each.what,
            f"{each.bytes:,}",
            f"{first.bytes / each.bytes:.2f}x",
            f"{each.score:.2f}",
            f"{each.score - first.score:+.2f}",
        ]
        for each in found
    ]
    return [
        f"### {name}, whole file",
        "",
        f"Scores are {unit}.",
        "",
        *table(["version", "bytes", "smaller", "score", "points"], rows),
        "",
    ]
