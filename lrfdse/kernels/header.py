"""The C header that goes with a kernel's object file."""

from __future__ import annotations

import textwrap

from lrfdse.ir.kernel import GIVEN, Artifact, KernelSpec
from lrfdse.kernels.layout import step_cores, tilings
from lrfdse.kernels.needs import supported_function, supported_name
from lrfdse.targets.target import Target

_PACKING = {
    "out": "[panel][inner][tile * lanes]: the rows of a panel side by side for each inner index",
    "columns": "[panel][inner][tile]: the rows of a panel side by side for each inner index",
    "inner": "[panel][inner / lanes][tile][lanes]: a vector of each row in turn",
}
_ROLES = {
    "input": "input",
    "weight": "packed core",
    "scale": "scales of its outputs",
    "bias": "bias",
    "output": "output",
    "work": "scratch",
}

_TYPES = {"float32": "float", "float16": "unsigned short", "int8": "signed char"}
"""The C type of an element, one that needs no header: the bits of a float16, and "signed char", which is ``int8_t``
wherever that exists."""
_COUNTED = {"float32": "floats", "float16": "halves (IEEE 754 binary16)", "int8": "bytes"}


def c_header(artifact: Artifact, target: Target) -> str:
    """Return the C header of a kernel compiled for `target`.

    It says what the kernel needs of a machine, holds its prototype, a function that asks the machine, the size of every
    array, and how weights are packed.
    """
    spec, symbol = artifact.spec, artifact.symbol
    target = target.reading(spec.storage)
    parameters = ", ".join(
        f"{'const ' if a.role in GIVEN else ''}{_TYPES[a.storage.element]} *restrict {a.name}"
        for a in artifact.arguments
    )
    steps = dict(zip(step_cores(spec), tilings(spec, artifact.schedule), strict=True))
    lines = [
        f" *   {a.name:6s} {_ROLES[a.role]}, {a.size} {_COUNTED[a.storage.element]}{_shape(spec, a.role)}"
        for a in artifact.arguments
    ]
    packing = [
        f" *   w{core}: {tile.step.out} x {tile.step.inner} matrix, {_PACKING[tile.schedule.axis]}"
        f" (lanes {tile.schedule.lanes}, tile {tile.schedule.out_tile})"
        for core, tile in sorted(steps.items())
    ]
    relu = "relu(" if spec.relu else ""
    formula = f"y = {relu}x W^T{' + bias' if spec.bias else ''}{')' if relu else ''}"
    guard = f"{symbol.upper()}_H"
    return "\n".join(
        [
            *_needs(target, symbol),
            f"#ifndef {guard}",
            f"#define {guard}",
            "",
            f"/* {formula}, W of {spec.outputs} x {spec.inputs} as {spec.choice}, {spec.rows} row(s).",
            f" * Target {artifact.target}, schedule {artifact.schedule}.",
            " *",
            *lines,
            " *",
            " * Arrays may not overlap. Any alignment of a float is right; 64 bytes is fastest.",
            " * Packing (all arrays row-major, written by lrfdse; a last vector overlaps its neighbour):",
            *packing,
            " */",
            "#ifdef __cplusplus",
            f'extern "C" void {symbol}({parameters.replace("restrict", "__restrict__")});',
            "#else",
            f"void {symbol}({parameters});",
            "#endif",
            "",
            "/* 1 where the machine has what the kernel needs, 0 where it does not. */",
            *supported_function(target, symbol),
            "",
            f"#endif /* {guard} */",
            "",
        ]
    )


def _needs(target: Target, symbol: str) -> list[str]:
    """Return the comment that a header begins with."""
    needs = target.needs
    core = " ".join(target.core.split()).replace("*/", "* /")
    text = [
        f"Needs {needs.words}",
        f"Made for: {core}.",
        f"Call {symbol}() only where {supported_name(symbol)}() returns 1. {needs.unchecked}".strip(),
    ]
    lines = [line for part in text for line in textwrap.wrap(part, 112, break_on_hyphens=False)]
    return [f"/* {lines[0]}", *(f" * {line}" for line in lines[1:]), " */"]


def _shape(spec: KernelSpec, role: str) -> str:
    sizes = {"input": f" ({spec.rows} x {spec.inputs})", "output": f" ({spec.rows} x {spec.outputs})"}
    return sizes.get(role, "")
