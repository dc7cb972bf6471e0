"""How far a library and onnxruntime lie from the same model in float64, on the library's own test vectors.

``python -m benchmarks.whole_model.doubled MODEL TARGET FOLDER`` prints both for the library of a folder, which runs
under QEMU where its target is another machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.whole_model import exact, timing
from lrfdse.library.names import macro
from lrfdse.meters.block import relative_error
from lrfdse.targets.catalog import load_target
from lrfdse.targets.target import Target
from lrfdse.toolchain.programs import emulator_command, require_zig
from lrfdse.toolchain.zig import run_zig


def program(facts: Mapping[str, Any]) -> str:
    """Return C that runs a library once, and writes the inputs of its test vectors and what it made of them."""
    name, upper = facts["name"], macro(facts["name"])
    inputs, outputs = facts["inputs"], facts["outputs"]
    near = ", ".join(f"{name}_input_{i}" for i in range(len(inputs)))
    far = ", ".join(f"file + {upper}_INPUT_{i}_AT" for i in range(len(inputs)))
    made = [f"static _Alignas(64) unsigned char y{i}[{each['bytes']}];" for i, each in enumerate(outputs)]
    written = [f"fwrite(inputs[{i}], 1, {each['bytes']}, out);" for i, each in enumerate(inputs)]
    written += [f"fwrite(y{i}, 1, {each['bytes']}, out);" for i, each in enumerate(outputs)]
    return "\n".join(
        [
            "#include <stdio.h>",
            f'#include "{name}.h"',
            '#include "test_vectors.h"',
            f"static _Alignas({upper}_ARENA_ALIGN) unsigned char arena[{upper}_ARENA_BYTES + 1];",
            *made,
            f"#ifdef {upper}_TEST_BYTES",
            f"static _Alignas(64) unsigned char file[{upper}_TEST_BYTES];",
            "#endif",
            "int main(int count, char **arguments)",
            "{",
            '    FILE *out = fopen(arguments[count - 1], "wb");',
            f"#ifdef {upper}_TEST_BYTES",
            '    FILE *in = fopen("test_vectors.bin", "rb");',
            "    if (!in || fread(file, 1, sizeof file, in) != sizeof file) return 3;",
            f"    const void *inputs[] = {{{far}}};",
            "#else",
            f"    const void *inputs[] = {{{near}}};",
            "#endif",
            f"    void *outputs[] = {{{', '.join(f'y{i}' for i in range(len(outputs)))}}};",
            f"    int status = {name}_run(inputs, outputs, arena);",
            "    if (status || !out) return status + 1;",
            *(f"    {line}" for line in written),
            "    return fclose(out);",
            "}",
            "",
        ]
    )


def run(folder: Path, target: Target) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """Return the inputs of a library's test vectors and what it makes of them.

    Raises
    ------
    ToolError
        zig or QEMU is missing, or the program does not link.
    RuntimeError
        The program failed.
    """
    (path,) = folder.glob("lib*.a")
    name = path.stem.removeprefix("lib")
    facts = json.loads((folder / f"{name}.json").read_text())
    with tempfile.TemporaryDirectory(prefix="lrfdse-bench-") as temporary:
        here = Path(temporary)
        (here / "main.c").write_text(program(facts))
        machine = target.link or target.instruction_set.zig
        options = ["-target", machine, "-O1", "-static", f"-I{folder}", str(here / "main.c"), str(path)]
        run_zig([require_zig().path, "cc", *options, "-o", str(here / "main")], "linking a library")
        emulator = [] if target.is_native else emulator_command(target)
        command = [*emulator, str(here / "main"), str(here / "out")]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"the library's run ended with status {done.returncode}: {done.stderr.strip()}")
        content = (here / "out").read_bytes()
    found: list[list[NDArray[Any]]] = []
    place = 0
    for ports in (facts["inputs"], facts["outputs"]):
        found.append([])
        for each in ports:
            count = int(np.prod(each["shape"], dtype=int))
            found[-1].append(np.frombuffer(content, each["element"], count, place).reshape(each["shape"]))
            place += each["bytes"]
    return found[0], found[1]


def distance(found: Sequence[NDArray[Any]], due: Sequence[NDArray[Any]]) -> float:
    """Return the largest error of an output, relative to its largest element."""
    return max(relative_error(one, other) for one, other in zip(found, due, strict=True))


def main(path: str, target: str, folder: str) -> dict[str, Any]:
    """Return how far ours and onnxruntime's outputs lie from float64, or why that is not known."""
    given, ours = run(Path(folder), load_target(target))
    theirs = timing.onnxruntime(path, [np.array(each) for each in given])
    theirs.run()
    try:
        due = exact.outputs(path, given)
    # The reference implementation raises what it likes.
    except Exception as error:
        return {"failure": f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"}
    others = distance(theirs.outputs(), due)
    if others > exact.MOST:
        return {"failure": f"the reference implementation computes something else: it is off by {others:.1e}"}
    return {"ours": distance(ours, due), "onnxruntime": others}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:4])))
