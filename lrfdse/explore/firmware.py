"""The C functions of the recommended design: what a firmware calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lrfdse.deploy.designs import kernel_names, symbol_of
from lrfdse.ir.kernel import Schedule, has_kernel, kernel_spec
from lrfdse.ir.plan import Plan
from lrfdse.results.designs import KernelArgument, KernelFunction

if TYPE_CHECKING:
    from lrfdse.results.exploration import LayerResult
    from lrfdse.targets.target import Target


def functions_of(plan: Plan, layers: Sequence[LayerResult], target: Target) -> tuple[KernelFunction, ...]:
    """Return symbol, files and parameters of each kernel of a plan that was written out, in the order of the layers."""
    from lrfdse.kernels.chain import arguments
    from lrfdse.kernels.layout import tilings

    names = kernel_names([result.layer for result in layers])
    found = []
    for result in layers:
        layer, option = result.layer, result.option(plan[result.layer.name])
        # Where the output error is known, factors were fitted on data.
        corrected = option.output_error is not None
        for place, use in enumerate(layer.uses):
            if not has_kernel(use, option.choice):
                continue
            spec = kernel_spec(layer, use, option.choice, corrected)
            listed = arguments(spec, tilings(spec, Schedule.parse(option.schedules[place])), target)
            name = names[layer.name][place]
            found.append(
                KernelFunction(
                    layer=layer.name,
                    name=name,
                    symbol=symbol_of(name),
                    rows=use.rows,
                    relu=use.relu,
                    arguments=tuple(
                        KernelArgument(
                            name=argument.name,
                            role=argument.role,
                            element=str(argument.storage),
                            elements=argument.size,
                            bytes=argument.bytes,
                        )
                        for argument in listed
                    ),
                )
            )
    return tuple(found)
