"""IREE beside our libraries: a model compiled for its runtime by several sets of flags, of which the fastest counts."""

from __future__ import annotations

import resource
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.kernels.iree import MODULE
from benchmarks.machine import installed

_CHANNELS_LAST = (
    "--iree-preprocessing-pass-pipeline=builtin.module(util.func(iree-preprocessing-convert-conv-to-channels-last))"
)
FLAGS = {
    "O3": ("--iree-opt-level=O3", "--iree-opt-data-tiling"),
    "O3, channels last": ("--iree-opt-level=O3", "--iree-opt-data-tiling", _CHANNELS_LAST),
}
"""Those that were fastest on any model in a first comparison of four sets, which had the defaults among them."""

STACK_BYTES = 1 << 19
"""Stack that a dispatch function may take: IREE's own limit of 32 KiB refuses some convolutions."""

STACK = f"--iree-llvmcpu-stack-allocation-limit={STACK_BYTES}"
"""The option for it."""

_HOST = (
    "--iree-hal-target-device=local",
    "--iree-hal-local-target-device-backends=llvm-cpu",
    "--iree-llvmcpu-target-cpu=host",
    STACK,
)


@dataclass(frozen=True, slots=True)
class Modules:
    """What IREE made of a model."""

    files: dict[str, str]
    """The module of each set of flags that compiled."""
    seconds: float
    """Processor seconds that the compiler took for all of them."""
    failure: str
    """What it said where a set failed; empty where none did."""


def unavailable() -> str:
    """Return why IREE cannot be used; empty where it can."""
    missing = [name for name in ("iree-base-compiler", "iree-base-runtime") if installed(name) is None]
    return f"needs {' and '.join(missing)}" if missing else ""


def compiled(model: Path, folder: Path, seconds: float) -> Modules:
    """Compile a model for the machine at hand into a folder, with so many seconds for each set of flags."""
    files: dict[str, str] = {}
    failures: list[str] = []
    begin = _spent()
    try:
        imported(model, folder / MODULE)
    # The importer raises what it likes.
    except Exception as error:
        return Modules({}, _spent() - begin, f"IREE's importer: {first_line(str(error))}")
    for number, (name, flags) in enumerate(FLAGS.items()):
        made = folder / f"{number}.vmfb"
        command = [_tool(), str(folder / MODULE), *_HOST, *flags, "-o", str(made)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            failures.append(f"IREE, {name}: no result within {seconds:g} s")
            continue
        if done.returncode:
            failures.append(f"IREE, {name}: {first_line(done.stderr)}")
        else:
            files[name] = str(made)
    return Modules(files, _spent() - begin, "; ".join(failures))


def imported(model: Path, to: Path, name: str = "") -> None:
    """Write an ONNX model as MLIR bytecode; its function is called so, or as the model's graph is."""
    import onnx
    from iree.compiler import ir
    from iree.compiler.extras import onnx_importer

    proto = onnx.load(model)
    # Its importer knows the operators of later versions only.
    if all(each.domain not in ("", "ai.onnx") or each.version < 17 for each in proto.opset_import):
        proto = onnx.version_converter.convert_version(proto, 17)
    proto.graph.name = name or proto.graph.name
    inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    with ir.Context() as context:
        described = onnx_importer.ModelInfo(inferred)
        module = described.create_module(context=context).operation
        onnx_importer.NodeImporter.define_function(described.main_graph, module).import_all()
        with to.open("wb") as file:
            module.write_bytecode(file)


def _tool() -> str:
    import iree.compiler

    return str(Path(iree.compiler.__file__).parent / "_mlir_libs" / "iree-compile")


def _spent() -> float:
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in spent)


def first_line(text: str) -> str:
    """Return the first line of a message that names an error."""
    lines = [line for line in text.splitlines() if "error" in line] or text.strip().splitlines() or [""]
    return lines[0].strip()[:200]
