"""Instruction words to assembly text, and runs to the sequences that the cycle models read."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from lrfdse.design import Target
from lrfdse.errors import InputError, ToolError
from lrfdse.measure.toolchain import require_llvm
from lrfdse.measure.trace import Run, Trace

_ARCHITECTURE = {"riscv64": "riscv64", "aarch64": "aarch64", "armv7": "armv7a", "x86_64": "x86_64"}
_SEW_BITS = {8: 0, 16: 1, 32: 2, 64: 3}
_LMUL_BITS = {"m1": 0, "m2": 1, "m4": 2, "m8": 3, "mf8": 5, "mf4": 6, "mf2": 7}
_VSET = re.compile(r"vseti?vli .*\be(8|16|32|64), ?(mf?[1248])\b")


class Instruction(NamedTuple):
    """An instruction as text, with the vtype under which it runs (vector instructions of RVV only)."""

    text: str
    vtype: int | None = None


@dataclass(frozen=True, slots=True)
class Registers:
    """Registers of one instruction, by the names of the smallest parts that are tracked."""

    writes: tuple[str, ...]
    """Ready after the instruction's latency."""
    reads: tuple[str, ...]
    updates: tuple[str, ...] = ()
    """Address registers that a load or store advances: ready after one cycle."""


Sequence = tuple[Instruction, ...]


def architecture(isa: str) -> str:
    """Return the triple under which LLVM's tools read code of an instruction set."""
    try:
        return _ARCHITECTURE[isa]
    except KeyError:
        raise InputError(f"no cycle model reads {isa} code: use the host meter") from None


class Disassembler:
    """Reads instruction words of one target; what was read once is kept."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._tool = require_llvm("llvm-mc")
        self._texts: dict[tuple[int, int], str] = {}

    def sequences(self, trace: Trace) -> dict[int, Sequence]:
        """Return the instructions of every run of a trace, by the run's id."""
        words = {run.id: list(_words(trace, run)) for run in trace.runs}
        self._read({word for run in words.values() for word in run} - self._texts.keys())
        return {run.id: with_vtype((self._texts[word] for word in words[run.id]), run.vtype) for run in trace.runs}

    def _read(self, words: set[tuple[int, int]]) -> None:
        if not words:
            return
        order = sorted(words)
        source = "\n".join(" ".join(f"{byte:#04x}" for byte in word.to_bytes(size, "little")) for word, size in order)
        command = [
            self._tool.path,
            "--disassemble",
            f"-triple={architecture(self._target.isa)}",
            f"-mattr={','.join(self._target.features)}",
        ]
        ended = subprocess.run(command, input=source + "\n", capture_output=True, text=True, check=False)
        lines = [" ".join(line.split()) for line in ended.stdout.splitlines()]
        texts = [line for line in lines if line and not line.startswith(".")]
        if ended.returncode or len(texts) != len(order):
            message = next((line for line in ended.stderr.splitlines() if line), "no message")
            raise ToolError(f"llvm-mc cannot read the code of target {self._target.name}: {message}")
        self._texts.update(zip(order, texts, strict=True))


def with_vtype(texts: Iterable[str], vtype: int | None) -> Sequence:
    """Attach to each vector instruction the vtype in force, which vset instructions in the text change.

    >>> with_vtype(["vsetivli zero, 8, e32, m1, ta, ma", "vle32.v v8, (a0)", "add a0, a0, a1"], None)[1:]
    (Instruction(text='vle32.v v8, (a0)', vtype=16), Instruction(text='add a0, a0, a1', vtype=None))
    """
    sequence = []
    for text in texts:
        if text.startswith("vset"):
            found = _VSET.match(text)
            vtype = _SEW_BITS[int(found[1])] << 3 | _LMUL_BITS[found[2]] if found else None
            sequence.append(Instruction(text))
        else:
            is_vector = text.startswith("v") and vtype is not None
            sequence.append(Instruction(text, vtype & 0x3F if is_vector and vtype is not None else None))
    return tuple(sequence)


def lmul(vtype: int) -> str:
    """Return the register group of a vtype in LLVM's spelling.

    >>> lmul(0b010_010), lmul(0b010_111)
    ('M4', 'MF2')
    """
    return {bits: name for name, bits in _LMUL_BITS.items()}[vtype & 7].upper()


def sew(vtype: int) -> str:
    """Return the element width of a vtype in LLVM's spelling.

    >>> sew(0b010_000)
    'E32'
    """
    return {bits: f"E{width}" for width, bits in _SEW_BITS.items()}[vtype >> 3 & 7]


def _words(trace: Trace, run: Run) -> Iterable[tuple[int, int]]:
    address = run.start
    while address < run.end:
        word, size = trace.code[address]
        yield word, size
        address += size
