"""A part of a model as its backward pass needs it: recurrences in single steps, and what its values are in a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lrfdse.model.passes.carried.unrolled import unrolled
from lrfdse.model.passes.cut import exposed
from lrfdse.model.vjp.backward import depends

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

    from lrfdse.model.runtime import Arrays, Runtime


def in_steps(
    part: ir.Model, names: Sequence[str], feeds: Mapping[str, NDArray[Any]], runtime: Runtime
) -> tuple[ir.Model, Arrays]:
    """Return a part with its recurrences in single steps, and the values of a run that depend on some.

    Parameters
    ----------
    part
        The part, which stays as it is.
    names
        Inputs, or values that nodes of the main graph make.
    feeds
        The part's inputs in that run, and maybe others; they are among the values returned.
    runtime
        What runs the part.

    Raises
    ------
    InputError
        The part cannot be run.
    """

    def seen_in(form: ir.Model) -> Arrays:
        session = runtime.session(exposed(form, depends(form, names)))
        return runtime.call(session, {port.name: feeds[port.name] for port in session.get_inputs()}) | dict(feeds)

    seen = seen_in(part)
    steps = unrolled(part, {name: array.shape for name, array in seen.items()})
    return (part, seen) if steps is part else (steps, seen_in(steps))
