"""The static program of a whole model that runs on a board: its library, an input and the outputs that are right."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.base.folders import data_folder
from lrfdse.base.temporary import temporary_folder
from lrfdse.base.version import __version__
from lrfdse.errors import ToolError
from lrfdse.targets.eviction import EVICT_FACTOR, eviction_bounds
from lrfdse.toolchain import zig
from lrfdse.toolchain.programs import require_zig

if TYPE_CHECKING:
    from lrfdse.meters.block import Whole
    from lrfdse.targets.target import Target

MOST_BYTES = 512 << 20
"""A model whose library and arrays take more than this gets no program: the board would need twice as much memory.

Chosen, not measured."""

_MAGIC = 0x3157434E4542464C
"""What the block begins with, so that a damaged program says so: "LFBENCW1"."""

_WORDS, _OUTPUT_WORDS = 14, 5
"""64-bit numbers of ``struct data`` and of ``struct output`` of qemu/bench_whole.c."""

_LINE = 64
"""Bytes to which arrays are aligned: LINE of qemu/bench_timing.h."""

_KINDS = {"float32": 0, "float64": 1, "float16": 2}
"""Element types that have rounding, by their numbers in qemu/bench_whole.c; all others are compared byte by byte."""

_WHOLE_NUMBER = 3
"""The number of all other types there."""

_TEXT_ROOM, _PART_ROOM = 1 << 16, 160
"""Bytes for what the program says of the board, and of one part. Chosen; a document that is longer is an error."""

_SOURCES = ("bench_whole.c", "bench_system.c")


def board_program(whole: Whole, target: Target, design: str) -> bytes:
    """Return the program that runs a library on a board of `target`, checks it and times it operator by operator.

    Raises
    ------
    ToolError
        zig is missing or failed, or all of it is larger than `MOST_BYTES`.
    """
    data = _data(whole, target, {"version": __version__, "target": target.name, "design": design, "whole": True})
    size = len(data) + len(whole.object_code)
    if size > MOST_BYTES:
        raise ToolError(f"{size >> 20} MiB of a whole model, but a bench program holds at most {MOST_BYTES >> 20} MiB")
    compiler, link = require_zig().path, target.link or target.instruction_set.zig
    with temporary_folder() as here:
        block, program = here / "data", here / "program"
        block.write_bytes(data)
        (here / "library.o").write_bytes(whole.object_code)
        made = [here / "library.o"]
        for name in _SOURCES:
            made.append(here / f"{name}.o")
            options = ("-target", link, *zig.COMMON, *zig.FREESTANDING, *zig.CONSTANTS)
            command = [compiler, "cc", *options, str(data_folder("qemu") / name), "-o", str(made[-1])]
            zig.run_zig(command, f"compiling {name}")
        names = f"--defsym=bench_data=_binary_{re.sub('[^A-Za-z0-9]', '_', str(block))}_start"
        parts = [*map(str, made), "--format=binary", str(block)]
        command = [compiler, "ld.lld", "-static", "--gc-sections", "--strip-all", names, *parts, "-o", str(program)]
        zig.run_zig(command, f"linking the bench program of {design}")
        return program.read_bytes()


def _data(whole: Whole, target: Target, head: dict[str, object]) -> bytes:
    """Return the block: header, a record an output, then texts and arrays."""
    records = np.zeros((len(whole.outputs), _OUTPUT_WORDS), dtype="<u8")
    content = bytearray(8 * _WORDS + records.nbytes)

    def store(part: bytes) -> tuple[int, int]:
        content.extend(bytes(-len(content) % _LINE))
        content.extend(part)
        return len(content) - len(part), len(part)

    text = store(json.dumps(head)[1:-1].encode("ascii"))
    # Scratch memory lies behind everything else, and begins as ones: nothing of it is stored.
    given = store(whole.block[: whole.scratch[0]].tobytes())
    for record, output in zip(records, whole.outputs, strict=True):
        kind = _KINDS.get(str(output.content.dtype), _WHOLE_NUMBER)
        expected = store(np.ascontiguousarray(output.content).tobytes())
        record[:] = kind, output.content.size, output.content.nbytes, output.start, expected[0]
    bits = 32 * target.lanes if target.vectors.length_varies else 0
    room = _TEXT_ROOM + text[1] + _PART_ROOM * (whole.parts + 1)
    evict = EVICT_FACTOR, *eviction_bounds(target)
    counts = whole.parts, len(whole.outputs), *given, whole.block.nbytes, round(whole.tolerance * 1e9)
    header = np.array([_MAGIC, *text, room, bits, *evict, *counts], dtype="<u8")
    content[: header.nbytes] = header.tobytes()
    content[header.nbytes : header.nbytes + records.nbytes] = records.tobytes()
    return bytes(content)
