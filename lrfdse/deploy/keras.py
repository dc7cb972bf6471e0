"""A design as a Keras file: the original's, its layers replaced, checked in Keras before it is kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lrfdse.deploy.chains import products, slides
from lrfdse.errors import InputError
from lrfdse.ir.form import FORM_FILES

if TYPE_CHECKING:
    from lrfdse.formats.keras.format import Read
    from lrfdse.formats.keras.replace import Chain
    from lrfdse.ir.factors import Factors
    from lrfdse.model.graph import Model

_NODE = re.compile(r"(?:FULLY_CONNECTED|CONV_2D)_(\d+):")
"""What the names of nodes begin with that stand for an operator with a layer's weight."""


def keras_file(model: Model, factors: Mapping[str, Factors]) -> bytes:
    """Return the Keras file of a design, after Keras computed what its ONNX model computes.

    Parameters
    ----------
    model
        The original model, read from a Keras file.
    factors
        Layer name to factors, of the layers that the design compresses.

    Raises
    ------
    InputError
        A layer is none of Keras' Dense and Conv2D, or Keras' outputs differ from those of the ONNX model by more than
        1e-4 of the largest.
    """
    from lrfdse.formats.keras.format import KERAS
    from lrfdse.formats.keras.replace import replaced
    from lrfdse.formats.onnx import as_proto, model_bytes
    from lrfdse.formats.tflite.verify import furthest
    from lrfdse.model.passes.factor import rewrite

    path = model.path
    read = KERAS.converted(path)
    if read.digest != model.sha256:
        raise InputError(f"{path}: changed since it was explored")
    chains = [_chain(model, read, name, each) for name, each in factors.items() if not each.choice.is_original]
    design = as_proto(rewrite(model, factors))
    ports = len(read.graph.inputs), len(read.graph.outputs)
    content, runs = replaced(model_bytes(path, "a Keras"), chains, ports, path)
    for given, wanted in runs:
        feeds = {read.graph.tensors[index].name: array for index, array in zip(read.graph.inputs, given, strict=True)}
        if (found := furthest(design, feeds, wanted, path)) is not None:
            name = read.graph.tensors[read.graph.outputs[found[0]]].name
            where = path.with_name(FORM_FILES["keras"])
            raise InputError(f"{where}: not kept: Keras' output {name!r} differs by {found[1]:.3g} from ONNX's")
    return content


def _chain(model: Model, read: Read, name: str, chosen: Factors) -> Chain:
    from lrfdse.formats.keras.replace import Chain

    layer, sites = model.layer(name), model.sites[name]
    owners = {None if site.joined else _owner(read, site.node) for site in sites}
    if len(owners) != 1 or None in owners:
        raise InputError(f"{model.path}: layer {name!r} is no Dense or Conv2D of Keras that could be replaced")
    parts = products(chosen) if layer.kind == "fc" else slides(chosen, sites[0], layer.channels)
    f, (owner,) = chosen.factorization, owners
    return Chain(str(owner), parts, model.weight(name), (f.inputs, f.outputs), chosen.bias_shift)


def _owner(read: Read, node: str) -> str | None:
    """Return the Keras layer whose weight an operator reads."""
    found = _NODE.match(node)
    if found is None:
        return None
    operator = read.graph.operators[int(found[1])]
    owner = read.graph.tensors[operator.inputs[1]].name.rpartition("/")[0]
    return owner if owner in read.layers else None
