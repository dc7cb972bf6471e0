"""Shapes that one run of a model shows, where inference from the graph alone gives up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

if TYPE_CHECKING:
    from lrfdse.model.shapes import Port, Sizes


def seen_sizes(model: ir.Model, inputs: Sequence[Port], names: Sequence[str]) -> dict[str, Sizes]:
    """Return the shapes that values of the main graph have in one run on random inputs, by name.

    Parameters
    ----------
    model
        The model.
    inputs
        Its inputs, all of known sizes in the timed inference.
    names
        Names of inputs of the model and of values that nodes make.

    Raises
    ------
    InputError
        An input has open sizes, or onnxruntime cannot run the model.
    """
    from lrfdse.model.data import random_inputs
    from lrfdse.model.passes.cut import exposed
    from lrfdse.model.runtime import Runtime

    runtime = Runtime()
    session = runtime.session(exposed(model, names))
    feeds = random_inputs(inputs, np.random.default_rng(0))
    arrays = runtime.call(session, feeds, [name for name in names if name not in feeds])
    return {name: array.shape for name, array in (arrays | {k: v for k, v in feeds.items() if k in names}).items()}
