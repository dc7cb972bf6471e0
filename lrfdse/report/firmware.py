"""The C functions of the recommended design: what a firmware calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lrfdse.deploy.designs import kernel_names, symbol_of
from lrfdse.ir.kernel import Schedule, kernel_spec

if TYPE_CHECKING:
    from lrfdse.results.exploration import Exploration


def recommended_kernels(exploration: Exploration) -> list[dict[str, Any]]:
    """Return symbol, files and parameters of each kernel of the recommended design, in the order of the layers."""
    if exploration.recommended is None or exploration.recommended not in exploration.kept:
        return []
    from lrfdse.kernels.chain import arguments
    from lrfdse.kernels.layout import tilings

    plan = exploration.design(exploration.recommended).plan
    names = kernel_names([result.layer for result in exploration.layers])
    found = []
    for result in exploration.layers:
        layer, option = result.layer, result.option(plan[result.layer.name])
        # Where the output error is known, factors were fitted on data.
        corrected = option.output_error is not None
        for place, use in enumerate(layer.uses):
            spec = kernel_spec(layer, use, option.factorization, corrected)
            listed = arguments(spec, tilings(spec, Schedule.parse(option.schedules[place])))
            name = names[layer.name][place]
            found.append(
                {
                    "layer": layer.name,
                    "name": name,
                    "symbol": symbol_of(name),
                    "rows": use.rows,
                    "relu": use.relu,
                    "arguments": [{"name": a.name, "role": a.role, "floats": a.size} for a in listed],
                }
            )
    return found
