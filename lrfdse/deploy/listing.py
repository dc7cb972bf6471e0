"""What the compiler made of a kernel, as text: size, spills, instruction mix, and the code of its innermost loops."""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from lrfdse.ir.kernel import Artifact
from lrfdse.targets.isa.classes import CLASSES, SCALAR_FMA, VECTOR_FMA
from lrfdse.targets.isa.description import InstructionSet
from lrfdse.targets.target import Target

_LABEL = re.compile(r"([.\w$]+):")
_TARGET = re.compile(r"(?:^|[\s,])(\.LBB\w+)$")


@dataclass(frozen=True, slots=True)
class InnermostLoop:
    """A loop with no other inside."""

    label: str
    instructions: tuple[str, ...]
    """From the label to the branch back to it."""


def kernel_text(name: str, artifact: Artifact, target: Target) -> str:
    """Return what a person wants to know of a kernel's machine code before reading it.

    Parameters
    ----------
    name
        What the layer's kernel is called.
    artifact
        The compiled kernel.
    target
        What it was compiled for.
    """
    from lrfdse.kernels.spills import spills

    isa = target.instruction_set
    code = instructions(artifact.assembly, isa)
    inner = [loop for loop in innermost_loops(artifact.assembly, isa) if _computes(loop, isa)]
    size = code_size(artifact.object_code, artifact.symbol)
    lines = [
        f"{name}: {artifact.spec}",
        f"  symbol        {artifact.symbol}",
        f"  schedule      {artifact.schedule}",
        f"  machine code  {'' if size is None else f'{size:,} bytes, '}{len(code):,} instructions",
        f"  spills        {spills(artifact, target)}",
        f"  instructions  {_mix(code, isa)}",
    ]
    if not inner:
        lines.append("  loops         none: the steps are unrolled whole")
    for place, loop in enumerate(inner, 1):
        lines += [
            "",
            f"  innermost loop {place} of {len(inner)}: {_mix(loop.instructions, isa)}",
            *(f"    {line}" for line in (f"{loop.label}:", *(f"  {text}" for text in loop.instructions))),
        ]
    return "\n".join(lines) + "\n"


def instructions(assembly: str, isa: InstructionSet) -> tuple[str, ...]:
    """Return the instructions of a kernel in their order: no labels, directives or comments; one space or none."""
    return tuple(text for label, text in _lines(assembly, isa) if not label)


def mix(code: Iterable[str], isa: InstructionSet) -> dict[str, int]:
    """Return how many instructions of each of `CLASSES` there are, in that order, where there are any."""
    counts = Counter(isa.class_of(text) for text in code)
    return {name: counts[name] for name in CLASSES if counts[name]}


def innermost_loops(assembly: str, isa: InstructionSet) -> list[InnermostLoop]:
    """Return the loops that contain no other, in the order of the code: from a label to the last branch back to it."""
    lines = list(_lines(assembly, isa))
    labels = {text: place for place, (label, text) in enumerate(lines) if label}
    ends: dict[int, int] = {}
    for place, (label, text) in enumerate(lines):
        found = None if label else _TARGET.search(text)
        if found and labels.get(found[1], place) < place:
            ends[labels[found[1]]] = place
    return [
        InnermostLoop(lines[start][1], tuple(text for label, text in lines[start : end + 1] if not label))
        for start, end in sorted(ends.items())
        if not any(start < other <= end for other in ends)
    ]


def code_size(object_code: bytes, symbol: str) -> int | None:
    """Return the bytes of machine code of a function in an ELF object file, or None where it does not say."""
    if object_code[:4] != b"\x7fELF" or object_code[5] != 1:
        return None
    wide = object_code[4] == 2
    (sections,) = struct.unpack_from("<Q" if wide else "<I", object_code, 40 if wide else 32)
    entry, count = struct.unpack_from("<HH", object_code, 58 if wide else 46)
    layout, places = ("<IIQQQQIIQQ", (1, 4, 5, 6)) if wide else ("<IIIIIIIIII", (1, 4, 5, 6))
    headers = [struct.unpack_from(layout, object_code, sections + index * entry) for index in range(count)]
    for kind, offset, size, link in ([header[place] for place in places] for header in headers):
        if kind != 2:
            continue
        names = headers[link][4]
        for start in range(offset, offset + size, 24 if wide else 16):
            if wide:
                name, _, _, _, _, length = struct.unpack_from("<IBBHQQ", object_code, start)
            else:
                name, _, length, _, _, _ = struct.unpack_from("<IIIBBH", object_code, start)
            begin = names + name
            if object_code[begin : object_code.index(b"\0", begin)] == symbol.encode():
                return int(length)
    return None


def _lines(assembly: str, isa: InstructionSet) -> Iterable[tuple[bool, str]]:
    """Yield labels (True) and instructions (False), each with its text."""
    for line in assembly.splitlines():
        text = " ".join(line.partition(isa.comment + " ")[0].split())
        if found := _LABEL.fullmatch(text):
            yield True, found[1]
        elif text and not text.startswith("."):
            yield False, text


def _computes(loop: InnermostLoop, isa: InstructionSet) -> bool:
    return any(isa.class_of(text) in (VECTOR_FMA, SCALAR_FMA) for text in loop.instructions)


def _mix(code: Iterable[str], isa: InstructionSet) -> str:
    return ", ".join(f"{count} {name}" for name, count in mix(code, isa).items())
