"""Running the object code of operators: on the host, or under QEMU."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lrfdse.ir.compiled import CompiledOperator
from lrfdse.ir.operators import Operator
from lrfdse.ir.ports import Port
from lrfdse.kernels.operators.build import compile_operator, packed_weight, schedules_of
from lrfdse.targets.target import Target
from lrfdse.toolchain.programs import require_zig
from lrfdse.toolchain.zig import run_zig

PROGRAM = r"""
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#define PAGE 65536
enum { INPUT, OUTPUT, WORK };
#define FAIL(text) do { fprintf(stderr, "case %d, argument %d: " text "\n", number, i); return 1; } while (0)
extern void (*const calls[])(void **);
extern const int cases;
/* An array between two inaccessible pages, flush with one of them; all of it is 255, which is NaN for floats. */
static unsigned char *room(size_t size, int at_end)
{
    size_t body = (size + PAGE - 1) / PAGE * PAGE;
    unsigned char *made = mmap(0, body + 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(made + PAGE, 255, body);
    mprotect(made, PAGE, PROT_NONE);
    mprotect(made + PAGE + body, PAGE, PROT_NONE);
    return made + PAGE + (at_end ? body - size : 0);
}
static int run(int number, const uint64_t *head, int ports, unsigned char **given, unsigned char **kept, int at_end)
{
    void *arguments[32];
    for (int i = 0; i < ports; i++) {
        arguments[i] = room(head[2 * i], at_end);
        if (head[2 * i + 1] == INPUT)
            memcpy(arguments[i], given[i], head[2 * i]);
    }
    calls[number](arguments);
    for (int i = 0; i < ports; i++) {
        size_t size = head[2 * i], body = (size + PAGE - 1) / PAGE * PAGE;
        unsigned char *data = arguments[i], *first = at_end ? data + size - body : data;
        for (size_t k = 0; k < body; k++)
            if ((first + k < data || first + k >= data + size) && first[k] != 255) FAIL("wrote outside of it");
        if (head[2 * i + 1] == INPUT && memcmp(given[i], data, size)) FAIL("wrote to an input");
        if (head[2 * i + 1] == OUTPUT) {
            if (at_end) {
                kept[i] = malloc(size + 1);
                memcpy(kept[i], data, size);
            } else if (memcmp(kept[i], data, size)) FAIL("the second run differs");
        }
        munmap(first - PAGE, body + 2 * PAGE);
    }
    return 0;
}
int main(int argc, char **argv)
{
    FILE *in = fopen(argv[1], "rb"), *out = fopen(argv[2], "wb");
    for (int number = 0, i = 0; number < cases; number++) {
        uint64_t head[64], ports;
        unsigned char *given[32] = {0}, *kept[32] = {0};
        if (fread(&ports, 8, 1, in) != 1 || fread(head, 16, ports, in) != ports) FAIL("no data");
        for (i = 0; i < (int)ports; i++) {
            given[i] = malloc(head[2 * i] + 1);
            if (head[2 * i + 1] == INPUT && fread(given[i], 1, head[2 * i], in) != head[2 * i]) FAIL("no data");
        }
        if (run(number, head, ports, given, kept, 1) || run(number, head, ports, given, kept, 0))
            return 1;
        for (i = 0; i < (int)ports; i++) {
            if (kept[i] && fwrite(kept[i], 1, head[2 * i], out) != head[2 * i]) FAIL("no room");
            free(given[i]);
            free(kept[i]);
        }
    }
    return fclose(out);
}
"""
"""Calls each operator with its arrays flush against inaccessible pages, behind and before, and writes its outputs."""


@dataclass(frozen=True)
class Case:
    """An operator with what its inputs and weights hold, and what it must give."""

    operator: Operator
    arrays: Sequence[NDArray[Any]]
    """One for each port that is no output, in the order of the ports."""
    expected: Sequence[NDArray[Any]] = ()
    tolerance: float = 2e-6
    """Of the largest magnitude that is expected, or of `terms` where that is larger."""
    terms: float = 1e-30
    """The largest magnitude of what is summed, where a result may be one number that cancelled."""
    schedule: str | None = None
    """None takes the first."""


def compiled_case(case: Case, target: Target, symbol: str) -> CompiledOperator:
    """Return the object code of a case."""
    schedule = schedules_of(case.operator, target)[0] if case.schedule is None else case.schedule
    compiled = compile_operator(case.operator, schedule, target, symbol)
    return compiled


def run_cases(cases: Sequence[Case], target: Target, folder: Path) -> list[list[NDArray[Any]]]:
    """Return what the outputs of each case hold, all of them run in one program."""
    objects, lines, data = [], [], []
    for number, case in enumerate(cases):
        compiled = compiled_case(case, target, f"op{number}")
        objects.append(folder / f"op{number}.o")
        objects[-1].write_bytes(compiled.object_code)
        heads, contents = _data(case, compiled, target)
        data += [struct.pack("<Q", len(heads)), *(struct.pack("<QQ", *head) for head in heads), *contents]
        arguments = ", ".join(f"a[{i}]" for i in range(len(heads)))
        lines.append(f"void op{number}({', '.join(['void *'] * len(heads))});")
        lines.append(f"static void call{number}(void **a) {{ op{number}({arguments}); }}")
    calls = ", ".join(f"call{number}" for number in range(len(cases)))
    lines += [f"void (*const calls[])(void **) = {{{calls}}};", f"const int cases = {len(cases)};"]
    (folder / "main.c").write_text(PROGRAM + "\n".join(lines) + "\n")
    (folder / "in").write_bytes(b"".join(data))
    link = target.link or target.instruction_set.zig
    options = ["-target", link, "-O1", "-static", "-fno-sanitize=undefined"]
    files = [str(folder / "main.c"), *map(str, objects), "-o", str(folder / "program")]
    run_zig([require_zig().path, "cc", *options, *files], "linking operators")
    run = [*target.emulator, str(folder / "program"), str(folder / "in"), str(folder / "out")]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stderr or done.returncode, [case.operator for case in cases])
    made, place = (folder / "out").read_bytes(), 0
    outputs: list[list[NDArray[Any]]] = []
    for case in cases:
        outputs.append([])
        for port in _outputs(case):
            outputs[-1].append(np.frombuffer(made, port.element, port.size, place))
            place += port.bytes
    assert place == len(made)
    return outputs


def _outputs(case: Case) -> list[Port]:
    return [port for port in case.operator.ports if port.role == "output"]


def _data(case: Case, compiled: CompiledOperator, target: Target) -> tuple[list[tuple[int, int]], list[bytes]]:
    """Return size and kind of each argument, and what the inputs hold."""
    heads: list[tuple[int, int]] = []
    contents: list[bytes] = []
    given = list(case.arrays)
    for port in case.operator.ports:
        if port.role == "output":
            heads.append((port.bytes, 1))
            continue
        array = np.ascontiguousarray(given.pop(0))
        if port.role == "weight":
            array = packed_weight(case.operator, compiled.schedule, target, array)
        else:
            assert array.size == port.size and array.dtype == port.element, (case.operator, port, array.shape)
        contents.append(array.tobytes())
        heads.append((len(contents[-1]), 0))
    assert not given
    return [*heads, *([(compiled.work, 2)] if compiled.work else [])], contents


Check = Callable[[Sequence[Case], Target], None]


@pytest.fixture
def check_cases(tmp_path: Path) -> Check:
    """Return a function that runs cases and compares what they give with what is expected."""

    def check(cases: Sequence[Case], target: Target) -> None:
        if target.emulator and not shutil.which(target.emulator[0]):
            pytest.skip(f"{target.emulator[0]} is not installed")
        for case, made in zip(cases, run_cases(cases, target, tmp_path), strict=True):
            for output, expected in zip(made, case.expected, strict=True):
                flat = np.asarray(expected).ravel()
                finite = np.abs(flat[np.isfinite(flat)].astype(np.float64))
                atol = case.tolerance * finite.max(initial=case.terms)
                np.testing.assert_allclose(output, flat, rtol=0, atol=atol, err_msg=str(case.operator))

    return check
