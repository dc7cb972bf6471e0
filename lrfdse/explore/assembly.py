"""What the compiler made of a kernel, as text: size, spills, instruction mix, and the code of its innermost loops."""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from lrfdse.design import Artifact, Target

_VFMA, _FMA = "vector multiply-add", "scalar multiply-add"

CLASSES = (
    *(_VFMA, _FMA, "vector load", "vector store", "scalar load", "scalar store"),
    *("vector configuration", "other vector", "other float", "branch", "integer"),
)
"""Every instruction is of one of these; loads and stores of a single element or a general register are scalar."""

_RULES = {
    "riscv64": (
        (_VFMA, r"vfn?m(acc|add|sac|sub)\."),
        (_FMA, r"fn?m(add|sub)\."),
        ("vector configuration", r"vset"),
        ("vector load", r"vl(s?e\d|[1248]r|m\.|[uo]xei|s?seg)"),
        ("vector store", r"vs(s?e\d|[1248]r|m\.|[uo]xei|s?seg)"),
        ("other vector", r"v"),
        ("scalar load", r"(fl[hwd]|l[bhwd]u?)\s"),
        ("scalar store", r"(fs[hwd]|s[bhwd])\s"),
        ("branch", r"(b(eq|ne|lt|ge|gt|le)\w*|j\w*|ret|call|tail)\b"),
        ("other float", r"f(?!ence)"),
    ),
    "aarch64": (
        (_VFMA, r"fml[as]\s+v"),
        (_FMA, r"(fn?m(add|sub)|fml[as])\s"),
        ("vector load", r"(ldn?p|ldu?r)\s+q|ld[1-4]r?\s"),
        ("vector store", r"(stn?p|stu?r)\s+q|st[1-4]\s"),
        ("scalar load", r"ld"),
        ("scalar store", r"st"),
        ("branch", r"(b|b\.\w+|blr?|br|cbn?z|tbn?z|ret)\b"),
        ("other vector", r".*\b(v\d+\.|q\d)"),
        ("other float", r"f|.*\s[sd]\d+\b"),
    ),
    "armv7": (
        (_VFMA, r"v(fm|ml)[as]\S*\s+[qd]"),
        (_FMA, r"v(fn?m|n?ml)[as]\S*\s+s"),
        ("vector load", r"vld(\d|r\s+d|m)|vpop"),
        ("vector store", r"vst(\d|r\s+d|m)|vpush"),
        ("scalar load", r"vldr|ldr|ldm|pop"),
        ("scalar store", r"vstr|str|stm|push"),
        ("branch", r"(b|bl|bx|blx)(eq|ne|cs|hs|cc|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le)?\s"),
        ("other float", r"v\S+\s+s\d|vmrs|vcmp"),
        ("other vector", r"v"),
    ),
    "x86_64": (
        (_VFMA, r"vfn?m(add|sub)\d+ps"),
        (_FMA, r"vfn?m(add|sub)\d+ss"),
        ("scalar store", r"(vmovs[sd]|vmov[dq]|vextractps|mov\w*)\s+[%$].*, .*\(.*\)$|push"),
        ("scalar load", r"(vmovs[sd]|vmov[dq]|mov\w*)\s+[^%$]*\(|pop"),
        ("vector store", r"v(mov|extract)\S*\s.*\(.*\)( \{.*)?$"),
        ("vector load", r"v(mov|broadcast)\S*\s+[^%$]*\("),
        ("other float", r"v(?!broadcast)\S+s[sd]\b"),
        ("other vector", r"v"),
        ("branch", r"(j\w+|ret\w*|call\w*)\b"),
    ),
}
"""The first rule whose pattern an instruction begins with gives its class; without one it is an integer's."""
_LABEL = re.compile(r"([.\w$]+):")
_TARGET = re.compile(r"(?:^|[\s,])(\.LBB\w+)$")
_COMMENT = {"riscv64": "#", "aarch64": "//", "armv7": "@", "x86_64": "#"}


@dataclass(frozen=True, slots=True)
class Loop:
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
    from lrfdse.kernels import spills

    code = instructions(artifact.assembly, target.isa)
    inner = [loop for loop in innermost_loops(artifact.assembly, target.isa) if _computes(loop, target.isa)]
    size = code_size(artifact.object_code, artifact.symbol)
    lines = [
        f"{name}: {artifact.spec}",
        f"  symbol        {artifact.symbol}",
        f"  schedule      {artifact.schedule}",
        f"  machine code  {'' if size is None else f'{size:,} bytes, '}{len(code):,} instructions",
        f"  spills        {spills(artifact)}",
        f"  instructions  {_mix(code, target.isa)}",
    ]
    if not inner:
        lines.append("  loops         none: the steps are unrolled whole")
    for place, loop in enumerate(inner, 1):
        lines += [
            "",
            f"  innermost loop {place} of {len(inner)}: {_mix(loop.instructions, target.isa)}",
            *(f"    {line}" for line in (f"{loop.label}:", *(f"  {text}" for text in loop.instructions))),
        ]
    return "\n".join(lines) + "\n"


def instructions(assembly: str, isa: str) -> tuple[str, ...]:
    """Return the instructions of a kernel in their order: no labels, directives or comments; one space or none."""
    return tuple(text for label, text in _lines(assembly, isa) if not label)


def mix(code: Iterable[str], isa: str) -> dict[str, int]:
    """Return how many instructions of each of `CLASSES` there are, in that order, where there are any."""
    counts = Counter(class_of(text, isa) for text in code)
    return {name: counts[name] for name in CLASSES if counts[name]}


def class_of(instruction: str, isa: str) -> str:
    """Return the class of an instruction, one of `CLASSES`.

    >>> class_of("vfmacc.vf v8, fa5, v24", "riscv64"), class_of("ldp q6, q16, [x2]", "aarch64")
    ('vector multiply-add', 'vector load')
    """
    return next((name for name, pattern in _RULES[isa] if re.match(pattern, instruction)), "integer")


def innermost_loops(assembly: str, isa: str) -> list[Loop]:
    """Return the loops that contain no other, in the order of the code: from a label to the last branch back to it."""
    lines = list(_lines(assembly, isa))
    labels = {text: place for place, (label, text) in enumerate(lines) if label}
    ends: dict[int, int] = {}
    for place, (label, text) in enumerate(lines):
        found = None if label else _TARGET.search(text)
        if found and labels.get(found[1], place) < place:
            ends[labels[found[1]]] = place
    return [
        Loop(lines[start][1], tuple(text for label, text in lines[start : end + 1] if not label))
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


def _lines(assembly: str, isa: str) -> Iterable[tuple[bool, str]]:
    """Yield labels (True) and instructions (False), each with its text."""
    for line in assembly.splitlines():
        text = " ".join(line.partition(_COMMENT[isa] + " ")[0].split())
        if found := _LABEL.fullmatch(text):
            yield True, found[1]
        elif text and not text.startswith("."):
            yield False, text


def _computes(loop: Loop, isa: str) -> bool:
    return any(class_of(text, isa) in (_VFMA, _FMA) for text in loop.instructions)


def _mix(code: Iterable[str], isa: str) -> str:
    return ", ".join(f"{count} {name}" for name, count in mix(code, isa).items())
