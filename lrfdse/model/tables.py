"""Tables of embeddings as layers see them: rows that a small matrix is multiplied by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lrfdse.model.bodies import values_by_name
from lrfdse.model.constants import stored

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lrfdse.model.graph import Model


def table_rows(model: Model, name: str) -> NDArray[Any] | None:
    """Return Q of an embedding whose table is ``Q W^T``, shape (rows, inputs), W its weight; None of other layers."""
    if model.layer(name).kind != "embedding":
        return None
    source = values_by_name(model.working.graph.graph)[model.sites[name][0].source]
    lookup = source.producer()
    rows = None if lookup is None else lookup.inputs[0]
    assert rows is not None
    found: NDArray[Any] = stored(rows).numpy()
    return found
