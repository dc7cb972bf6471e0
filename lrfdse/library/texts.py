"""``Makefile`` and ``README.md`` of a library's folder."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from lrfdse.base.version import __version__
from lrfdse.library.interface import ERRORS, Signature
from lrfdse.library.names import comment, macro
from lrfdse.library.tensor import Tensor
from lrfdse.library.vectors import FILE
from lrfdse.targets.target import Target
from lrfdse.toolchain.programs import emulated


def makefile(facts: Signature, target: Target) -> str:
    """Return the text of a Makefile: ``make`` builds the example, ``make check`` runs it.

    The compiler is what ``CC`` says; else the machine's own where it is of the right kind; else a cross compiler of
    gcc, zig, or zig of the Python package ziglang, whichever is there first. Other machines' programs run under QEMU.
    """
    name, machine = facts.name, target.instruction_set.machine
    zig = target.instruction_set.zig
    cross = zig.replace("musl", "gnu")
    emulator = shlex.join(emulated(target)) if target.emulator else ""
    return f"""\
# make              builds the program `example` with the library in this folder
# make check        runs it, on another machine under QEMU
# make CC=COMMAND   uses another compiler, such as CC="zig cc -target {zig}" or CC="clang --target={cross}"
# make RUN=COMMAND check   runs it by another command

NATIVE := $(filter {machine},$(shell uname -m))

ifeq ($(origin CC),default)
ifneq ($(NATIVE),)
CC := cc
else ifneq ($(shell command -v {cross}-gcc),)
CC := {cross}-gcc
else ifneq ($(shell command -v zig),)
CC := zig cc -target {zig}
else ifneq ($(shell python3 -m ziglang version 2>/dev/null),)
CC := python3 -m ziglang cc -target {zig}
else
$(error No compiler for {machine} was found: name one by CC=COMMAND, or `pip install ziglang`)
endif
endif

CFLAGS ?= -O2 -Wall -Wextra
ifeq ($(NATIVE),)
# Static, so that QEMU needs no libraries of the other machine.
LDFLAGS ?= -static
RUN ?= {emulator}
endif

example: example.c {name}.h test_vectors.h lib{name}.a
\t$(CC) -std=c99 $(CFLAGS) example.c lib{name}.a $(LDFLAGS) -o $@

check: example
\t$(RUN) ./example

clean:
\trm -f example

.PHONY: check clean
"""


def readme(facts: Signature, target: Target, model: str, files: Sequence[str]) -> str:
    """Return the text of the folder's README; `files` names what lies there besides the usual."""
    name, upper, needs = facts.name, macro(facts.name), target.needs
    zig = target.instruction_set.zig
    weights_file = facts.weights_file is not None
    extra = []
    if weights_file:
        extra.append(f"| `{name}_weights.bin` | the weights, which `{name}_run` takes as its last argument |")
    if FILE in files:
        extra.append(f"| `{FILE}` | the numbers of the test vectors |")
    run = [f"    {shlex.join(emulated(target))} ./example", ""] if target.emulator else []
    return "\n".join(
        [
            f"# {name}",
            "",
            f"`{_cell(model)}` as a C library for {_cell(' '.join(target.core.split()))}, by lrfdse {__version__}.",
            "No runtime, no heap, no C library.",
            "",
            "| file | |",
            "|---|---|",
            f"| `lib{name}.a`, `{name}.h` | the library and its interface |",
            *extra,
            "| `example.c`, `Makefile` | a program that runs the model on the test vectors |",
            "| `test_vectors.h` | one input with its outputs by onnxruntime |",
            f"| `{name}.json` | every operator: its ONNX nodes, work, bytes, place in memory, latency |",
            "",
            "## Build and run the example",
            "",
            "    make",
            "    make check",
            "",
            "By hand, with any C compiler for this machine:",
            "",
            f"    gcc -O2 example.c lib{name}.a -o example",
            "",
            "or for another one with zig, which has every C library inside:",
            "",
            f"    zig cc -target {zig} -O2 example.c lib{name}.a -o example",
            *run,
            "## Use it",
            "",
            "```c",
            f'#include "{name}.h"',
            "",
            f"static unsigned char arena[{upper}_ARENA_BYTES] __attribute__((aligned({upper}_ARENA_ALIGN)));",
            "",
            f"const void *inputs[{upper}_INPUTS] = {{{', '.join(_variables('input', facts.inputs))}}};",
            f"void *outputs[{upper}_OUTPUTS] = {{{', '.join(_variables('output', facts.outputs))}}};",
            f"if ({name}_run(inputs, outputs, arena{', weights' if weights_file else ''}) != {upper}_OK) return 1;",
            "```",
            "",
            "| array | in the model | bytes |",
            "|---|---|---|",
            *_rows("inputs", facts.inputs),
            *_rows("outputs", facts.outputs),
            "",
            f"The arena has {facts.arena:,} bytes. `{name}_run` returns",
            "",
            *(f"- `{upper}_{error}` ({number}): {means}" for number, (error, means) in enumerate(ERRORS)),
            "",
            f"It needs {needs.words} {needs.unchecked}".strip(),
            "",
        ]
    )


def _variables(kind: str, tensors: Sequence[Tensor]) -> list[str]:
    return [f"{kind}_{number}" for number in range(len(tensors))]


def _rows(kind: str, tensors: Sequence[Tensor]) -> list[str]:
    return [
        f"| `{kind}[{number}]` | `{_cell(tensor.name)}`, {tensor.text} | {tensor.bytes:,} |"
        for number, tensor in enumerate(tensors)
    ]


def _cell(text: str) -> str:
    """Return a text that stays inside a cell of a Markdown table, and inside back-ticks."""
    return comment(text).replace("|", "/").replace("`", "'")
