"""A library as a program that can be run and timed: its object, an entry, and the memory of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lrfdse.base.temporary import temporary_folder
from lrfdse.library.interface import Signature, header
from lrfdse.library.objects import make_object
from lrfdse.library.vectors import Vectors
from lrfdse.meters.block import Expected, Whole, packed
from lrfdse.toolchain import zig
from lrfdse.toolchain.programs import require_zig

if TYPE_CHECKING:
    from lrfdse.library.layout import Layout
    from lrfdse.targets.target import Target


def trial(facts: Signature, layout: Layout, target: Target, vectors: Vectors) -> Whole:
    """Return the program that runs a library on its test vectors.

    It is made of the same functions and weights as the library; between operators it calls ``lrf_mark()``.

    Raises
    ------
    ToolError
        zig is missing or failed.
    """
    library = make_object(facts, layout, target, marks=True)
    given = [np.ascontiguousarray(array).tobytes() for array in vectors.inputs]
    written = [b"\xff" * array.nbytes for array in vectors.outputs]
    weights = [] if facts.weights_file is None else [layout.weights]
    block, starts, arena = packed([*given, *written, *weights], facts.arena)
    inputs, outputs = starts[: len(given)], starts[len(given) : len(given) + len(written)]
    source = _entry(facts, inputs, outputs, arena, starts[-1] if weights else None)
    with temporary_folder() as here:
        (here / f"{facts.name}.h").write_text(header(facts, target, ""), encoding="utf-8")
        (here / "entry.c").write_text(source, encoding="ascii")
        (here / "library.o").write_bytes(library)
        machine = target.link or target.instruction_set.zig
        options = ("-target", machine, *zig.COMMON, *zig.FREESTANDING, "-fPIC", "-g0")
        compiler = require_zig().path
        command = [compiler, "cc", *options, str(here / "entry.c"), "-o", str(here / "entry.o")]
        zig.run_zig(command, "compiling the entry of the library")
        joined = [str(here / name) for name in ("entry.o", "library.o")]
        zig.run_zig([compiler, "ld.lld", "-r", *joined, "-o", str(here / "whole.o")], "joining the library")
        content = (here / "whole.o").read_bytes()
    return Whole(
        name=facts.name,
        object_code=content,
        parts=1 + len(layout.steps),
        block=block,
        scratch=(arena, arena + facts.arena),
        tolerance=vectors.tolerance,
        outputs=tuple(
            Expected(tensor.name, start, array)
            for tensor, start, array in zip(facts.outputs, outputs, vectors.outputs, strict=True)
        ),
    )


def _entry(facts: Signature, inputs: list[int], outputs: list[int], arena: int, weights: int | None) -> str:
    last = "" if weights is None else f", block + {weights}"
    return "\n".join(
        [
            f'#include "{facts.name}.h"',
            "void lrf_whole(unsigned char *block);",
            "void lrf_whole(unsigned char *block)",
            "{",
            f"    const void *inputs[] = {{{', '.join(f'block + {at}' for at in inputs)}}};",
            f"    void *outputs[] = {{{', '.join(f'block + {at}' for at in outputs)}}};",
            f"    *(int *)block = {facts.name}_run(inputs, outputs, block + {arena}{last});",
            "}",
            "",
        ]
    )
