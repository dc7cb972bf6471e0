"""The C header that goes with a kernel's object file."""

from __future__ import annotations

from lrfdse.design import Artifact, KernelSpec
from lrfdse.kernels.layout import step_cores, tilings

_PACKING = {
    "out": "[panel][inner][tile * lanes]: the rows of a panel side by side for each inner index",
    "columns": "[panel][inner][tile]: the rows of a panel side by side for each inner index",
    "inner": "[panel][inner / lanes][tile][lanes]: a vector of each row in turn",
}
_ROLES = {"input": "input", "weight": "packed core", "bias": "bias", "output": "output", "work": "scratch"}


def c_header(artifact: Artifact) -> str:
    """Return the C header of a kernel: its prototype, the size of every array, and how weights are packed."""
    spec, symbol = artifact.spec, artifact.symbol
    constant = ("input", "weight", "bias")
    parameters = ", ".join(
        f"{'const ' if a.role in constant else ''}float *restrict {a.name}" for a in artifact.arguments
    )
    steps = dict(zip(step_cores(spec), tilings(spec, artifact.schedule), strict=True))
    lines = [f" *   {a.name:6s} {_ROLES[a.role]}, {a.size} floats{_shape(spec, a.role)}" for a in artifact.arguments]
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
            f"#ifndef {guard}",
            f"#define {guard}",
            "",
            f"/* {formula}, W of {spec.outputs} x {spec.inputs} as {spec.factorization}, {spec.rows} row(s).",
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
            f"#endif /* {guard} */",
            "",
        ]
    )


def _shape(spec: KernelSpec, role: str) -> str:
    sizes = {"input": f" ({spec.rows} x {spec.inputs})", "output": f" ({spec.rows} x {spec.outputs})"}
    return sizes.get(role, "")
