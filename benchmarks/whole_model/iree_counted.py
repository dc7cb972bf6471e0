"""What IREE's code of a whole model executes on an emulated target: its dispatches called in order, and counted."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.kernels.foreign import Pool, foreign, layout
from benchmarks.kernels.iree import MODULE, dispatches, joined_calls
from benchmarks.kernels.iree_schedule import UnsupportedError
from benchmarks.kernels.layers import Case, Layer
from benchmarks.kernels.once import output_of
from benchmarks.whole_model.iree import FLAGS, STACK, first_line, imported
from lrfdse.ir.factorization import Factorization
from lrfdse.meters.block import relative_error
from lrfdse.targets.target import Target
from lrfdse.toolchain.programs import find_llvm, plugin_api, require_emulator, require_zig
from lrfdse.toolchain.zig import run_zig

ENTRY = "main"
"""What the model's function is called: names that models have of their own may be none of C's."""

RIGHT = 1e-2
"""Error of an output, relative to its largest element, up to which what was counted is taken for the model. Chosen:
some models lose as much by rounding on random inputs, and wrong code is off by the whole output."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What IREE's code of a model is on an emulated target, by the flags with the fewest instructions."""

    instructions: int
    """Executed in a run, those that pack weights at the start aside."""
    text_bytes: int
    """Of its object file: code and tables."""
    flags: str
    """Name of the set of flags."""


def counted(
    model: Path, target: Target, given: Sequence[NDArray[Any]], expected: Sequence[NDArray[Any]], seconds: float
) -> tuple[Counted | None, str]:
    """Return what IREE's dispatches of a model execute, or why that is not known.

    Parameters
    ----------
    model
        The file.
    target
        The machine.
    given, expected
        The model's inputs and outputs, in its order.
    seconds
        Processor seconds of a compilation, and wall seconds of packing weights and of running.
    """
    found: list[Counted] = []
    failures = []
    for name, flags in FLAGS.items():
        with tempfile.TemporaryDirectory(prefix="lrfdse-bench-") as made:
            try:
                found.append(_counted(model, target, given, expected, seconds, Path(made), name, flags))
            # Its importer raises what it likes.
            except Exception as error:
                failures.append(f"IREE, {name}: {first_line(str(error))}")
    return (min(found, key=lambda each: each.instructions) if found else None), "; ".join(failures)


def _counted(
    model: Path,
    target: Target,
    given: Sequence[NDArray[Any]],
    expected: Sequence[NDArray[Any]],
    seconds: float,
    folder: Path,
    name: str,
    flags: Sequence[str],
) -> Counted:
    imported(model, folder / MODULE, ENTRY)
    program, kernels = dispatches([*flags, STACK], target, folder, ENTRY, round(seconds))
    inputs = Pool.of([_floats(each) for each in given])
    results = list(dict.fromkeys(output.buffer for output in program.outputs))
    if len(program.inputs) != len(given) or len(program.outputs) != len(expected):
        raise UnsupportedError("other inputs or outputs than those of the model")
    if any(each.kind != "transient" for each in results):
        raise UnsupportedError("an output that is no buffer of its own")
    starts = layout([-(-each.size // 4) for each in results])
    places = {each: f"(char *)x + {4 * at}" for each, at in zip(program.inputs, inputs.offsets, strict=True)}
    places |= {each: f"(char *)y + {4 * at}" for each, at in zip(results, starts, strict=False)}
    size = inputs.data.size, starts[-1]
    case = Case(Layer(model.stem, *size), "dense", Factorization.dense(size[1], size[0]), 1)
    code, weights, work = joined_calls(case, target, program, kernels, places, seconds)
    built = foreign(case, target, code, inputs.data, weights, work)
    options = ("-plugin", f"{_plugin(target, folder)},out={folder / 'counts'}")
    made = output_of(built, target, seconds, options).view(np.uint8)
    at = dict(zip(results, starts, strict=False))
    for output, due in zip(program.outputs, expected, strict=True):
        first = 4 * at[output.buffer] + output.offset
        array = made[first : first + due.nbytes].view(due.dtype).reshape(due.shape)
        error = relative_error(array, due)
        if not error <= RIGHT:
            raise UnsupportedError(f"an output that is off by {error:.1e}")
    last = int((folder / "counts").read_text(encoding="ascii").split()[-1])
    return Counted(last, _text_bytes(folder / "kernels.o"), name)


def _floats(array: NDArray[Any]) -> NDArray[np.float32]:
    """Return the bytes of an array as floats."""
    data = np.ascontiguousarray(array).tobytes()
    return np.frombuffer(data + bytes(-len(data) % 4), dtype="<f4")


def _plugin(target: Target, folder: Path) -> Path:
    """Return the plugin that counts, compiled for the installed QEMU's interface."""
    zig, source = require_zig().path, Path(__file__).with_name("count.c")
    api = plugin_api(require_emulator(target).version)
    command = [zig, "cc", "-O2", "-std=gnu11", "-c", "-fPIC", f"-DLRF_API={api}"]
    run_zig([*command, str(source), "-o", str(folder / "count.o")], "compiling count.c")
    run_zig([zig, "ld.lld", "-shared", str(folder / "count.o"), "-o", str(folder / "count.so")], "linking count.c")
    return folder / "count.so"


def _text_bytes(path: Path) -> int:
    size = find_llvm("llvm-size")
    assert size is not None
    listed = subprocess.run([size.path, str(path)], capture_output=True, text=True, check=True).stdout
    return int(listed.splitlines()[1].split()[0])
