"""The C interface of a library: what its header declares and documents."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from lrfdse.base.version import __version__
from lrfdse.ir.ports import Element
from lrfdse.ir.program import Interface, Program
from lrfdse.library.layout import LINE, Layout
from lrfdse.library.names import comment, macro
from lrfdse.library.tensor import Tensor
from lrfdse.targets.target import Target

ERRORS: tuple[tuple[str, str], ...] = (
    ("OK", "the outputs are written"),
    ("NULL_POINTER", "a pointer is null"),
    ("MISALIGNED", "the arena, or an array, is not aligned as required"),
    ("OVERLAP", "an output or the arena overlaps another array"),
    ("UNSUPPORTED", "this machine lacks what the library needs"),
    ("WRONG_WEIGHTS", "the weights are those of another library, or none"),
)
"""What `NAME_run` returns, in the order of the numbers from 0, and what it means. Numbers never change."""

_C_TYPES: dict[Element, str] = {
    "float32": "float",
    "float16": "uint16_t, the bits of a half-precision float",
    "float64": "double",
    "int8": "int8_t",
    "uint8": "uint8_t",
    "int16": "int16_t",
    "uint16": "uint16_t",
    "int32": "int32_t",
    "int64": "int64_t",
    "bool": "uint8_t, 0 or 1",
}


@dataclass(frozen=True, slots=True)
class Signature:
    """Everything that a caller of a library has to know."""

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    arena: int
    """Bytes of the arena."""
    alignment: int
    """Bytes to which the arena is aligned."""
    weights_file: int | None
    """Bytes of the file of weights; None where the weights are part of the library."""

    @property
    def run(self) -> str:
        """The prototype of the function that runs the model, without its semicolon."""
        upper = macro(self.name)
        weights = "" if self.weights_file is None else ", const void *weights"
        inputs, outputs = f"const void *const inputs[{upper}_INPUTS]", f"void *const outputs[{upper}_OUTPUTS]"
        return f"int {self.name}_run({inputs}, {outputs}, void *arena{weights})"


def signature(name: str, program: Program, layout: Layout, *, weights_file: bool) -> Signature:
    """Return what the caller of a library named `name` has to know."""

    def tensors(ports: Sequence[Interface]) -> tuple[Tensor, ...]:
        values = [program.values[port.value] for port in ports]
        return tuple(Tensor(p.name, v.element, p.shape, v.bytes) for p, v in zip(ports, values, strict=True))

    size = len(layout.weights) if weights_file else None
    return Signature(name, tensors(program.inputs), tensors(program.outputs), layout.arena, layout.alignment, size)


def header(facts: Signature, target: Target, model: str) -> str:
    """Return the text of ``NAME.h``; `model` names the model in a comment."""
    name, upper, needs = facts.name, macro(facts.name), target.needs
    core = " ".join(target.core.split())
    intro = [
        f"{comment(model)} as a C library without a runtime, made by lrfdse {__version__} for: {comment(core)}.",
        f"Needs {needs.words} {needs.unchecked}".strip(),
    ]
    enum = [f"    {upper}_{error} = {number}, /* {means} */" for number, (error, means) in enumerate(ERRORS)]
    enum[-1] = enum[-1].replace(",", "", 1)
    weights = []
    if facts.weights_file is not None:
        weights = [
            "",
            "/* The file of weights, read or mapped to memory that stays the same while the model runs. */",
            f"#define {upper}_WEIGHTS_BYTES {facts.weights_file}",
            f"#define {upper}_WEIGHTS_ALIGN {LINE}",
        ]
    return "\n".join(
        [
            *_block(intro),
            f"#ifndef {upper}_H",
            f"#define {upper}_H",
            "",
            f"#if !({needs.macro})",
            f'#error "{name}.h and lib{name}.a are for {target.isa}, but this compiler makes code for another machine"',
            "#endif",
            *needs.guard,
            "",
            "/* Memory that a run works in: of the caller, for one run at a time. */",
            f"#define {upper}_ARENA_BYTES {facts.arena}",
            f"#define {upper}_ARENA_ALIGN {facts.alignment}",
            *weights,
            "",
            "/* Every array is dense and row-major, aligned as its elements need it. */",
            *_tensors(upper, "INPUT", facts.inputs),
            "",
            *_tensors(upper, "OUTPUT", facts.outputs),
            "",
            "#ifdef __cplusplus",
            'extern "C" {',
            "#endif",
            "",
            f"/* What {name}_run() returns. */",
            f"enum {name}_error {{",
            *enum,
            "};",
            "",
            *_block(_about_run(facts)),
            f"{facts.run};",
            "",
            "/* Returns 1 where this machine has what the library needs, 0 where it does not. */",
            f"int {name}_supported(void);",
            "",
            "#ifdef __cplusplus",
            "}",
            "#endif",
            "",
            f"#endif /* {upper}_H */",
            "",
        ]
    )


def _about_run(facts: Signature) -> list[str]:
    upper = macro(facts.name)
    text = [
        f"Runs the model once and returns {upper}_OK, which is 0. Otherwise it returns one of the errors above and has "
        "written nothing.",
        "Outputs and arena may overlap no other array; inputs may overlap each other. It keeps nothing between runs: "
        "with an arena and outputs for each, runs may go on at the same time. It calls nothing outside of the library, "
        "takes no memory but what it is given, and some stack.",
    ]
    if facts.weights_file is not None:
        text.append(
            f"`weights` points to the content of {facts.name}_weights.bin. Each run compares its first bytes with what "
            "the library was made with; the rest is trusted."
        )
    return text


def _tensors(upper: str, kind: str, tensors: Sequence[Tensor]) -> list[str]:
    lines = [f"#define {upper}_{kind}S {len(tensors)}"]
    for number, tensor in enumerate(tensors):
        about = f"{comment(tensor.name)}: {tensor.text}; elements of type {_C_TYPES[tensor.element]}"
        lines += [
            f"/* {kind.lower()}s[{number}] is {about}. */",
            f"#define {upper}_{kind}_{number}_BYTES {tensor.bytes}",
        ]
    return lines


def _block(paragraphs: Sequence[str]) -> list[str]:
    lines = [line for part in paragraphs for line in textwrap.wrap(part, 112, break_on_hyphens=False)]
    return [f"/* {lines[0]}", *(f" * {line}" for line in lines[1:]), " */"]
