"""Instruction words to assembly text, and runs to the sequences that the cycle models read."""

from __future__ import annotations

from collections.abc import Iterable

from lrfdse.base.processes import run_to_end
from lrfdse.errors import ToolError
from lrfdse.meters.trace import Trace
from lrfdse.targets.isa.code import Run, Sequence
from lrfdse.targets.target import Target
from lrfdse.toolchain.programs import require_llvm


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
        sequence = self._target.instruction_set.sequence
        return {run.id: sequence((self._texts[word] for word in words[run.id]), run.vtype) for run in trace.runs}

    def _read(self, words: set[tuple[int, int]]) -> None:
        if not words:
            return
        order = sorted(words)
        source = "\n".join(" ".join(f"{byte:#04x}" for byte in word.to_bytes(size, "little")) for word, size in order)
        command = [
            self._tool.path,
            "--disassemble",
            f"-triple={self._target.instruction_set.llvm}",
            f"-mattr={','.join(self._target.features)}",
        ]
        ended = run_to_end(command, "llvm-mc", faults=(), input=source + "\n")
        lines = [" ".join(line.split()) for line in ended.stdout.splitlines()]
        texts = [line for line in lines if line and not line.startswith(".")]
        if ended.returncode or len(texts) != len(order):
            message = next((line for line in ended.stderr.splitlines() if line), "no message")
            raise ToolError(f"llvm-mc cannot read the code of target {self._target.name}: {message}")
        self._texts.update(zip(order, texts, strict=True))


def _words(trace: Trace, run: Run) -> Iterable[tuple[int, int]]:
    address = run.start
    while address < run.end:
        word, size = trace.code[address]
        yield word, size
        address += size
