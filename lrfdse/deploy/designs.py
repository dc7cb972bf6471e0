"""Designs as files: the compressed model, for every layer an object file, a C header and its weights, and a program.

The program, ``bench``, times the kernels on a board (docs/meter.md).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfdse.base.events import Event, Listener, silent
from lrfdse.base.files import folder_below, write_atomically
from lrfdse.deploy.bench_program import bench_kernel, build_program
from lrfdse.deploy.folders import design_folder, mark, remove_other_designs
from lrfdse.deploy.listing import kernel_text
from lrfdse.errors import ToolError
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.factors import Factors
from lrfdse.ir.kernel import Artifact, KernelSpec, Schedule
from lrfdse.ir.layer import Layer
from lrfdse.ir.plan import Design, Plan
from lrfdse.kernels.needs import needs_of, supported_name
from lrfdse.targets.target import Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lrfdse.deploy.bench_data import BenchKernel
    from lrfdse.model.graph import Model
    from lrfdse.repair.builder import Builder
    from lrfdse.results.exploration import LayerResult
    from lrfdse.results.settings import Settings

BENCH = "bench"
"""Name of the program in a design's folder."""

_KERNEL_FILES = (".o", ".h", ".weights.bin")
"""Endings of the files of a kernel."""

_ALIGNMENT = 64
"""Bytes: every array of a weights file starts on a multiple, a cache line on all targets that ship."""


def keep_designs(
    settings: Settings,
    builder: Builder,
    layers: Sequence[LayerResult],
    front: Sequence[Design],
    recommended: Design | None,
    tell: Listener,
    compared: Sequence[Design] = (),
) -> list[str]:
    """Write the recommended design and at most `settings.keep` others of the front; return their ids, sorted.

    The others are spread evenly over the front, its ends among them. `compared` are written in any case.
    """
    others = [design for design in front if recommended is None or design.id != recommended.id]
    count = min(settings.keep, len(others))
    places = np.unique(np.linspace(0, len(others) - 1, count).round().astype(int)) if count else np.zeros(0, int)
    chosen = [*([] if recommended is None else [recommended]), *(others[place] for place in places), *compared]
    kept = list({design.id: design for design in chosen}.values())
    for done, design in enumerate(kept):
        tell(Event("write", design.id, done, len(kept)))
        schedules = {result.layer.name: result.option(design.plan[result.layer.name]).schedules for result in layers}
        folder = design_folder(settings.output, design.id)
        write_design(folder, design.plan, schedules, builder, settings.target, design.refined, tell)
    tell(Event("write", "", len(kept), len(kept)))
    ids = sorted(design.id for design in kept)
    # Written for other settings: they may not fit the front that is written now.
    remove_other_designs(settings.output, ids)
    return ids


def write_design(
    folder: Path,
    plan: Plan,
    schedules: Mapping[str, Sequence[str]],
    builder: Builder,
    target: Target,
    refined: bool = False,
    tell: Listener = silent,
    exported: bool = False,
) -> None:
    """Write ``kernels/``, ``kernels.txt``, ``bench`` and ``model.onnx`` of a plan; where the model is, all is.

    With `refined` the factors are those that the whole effort was taken for. `tell` hears where there is no program.
    Where the user `exported` the design, no exploration removes it.

    Raises
    ------
    InputError
        The folder cannot be written, or ``kernels`` in it is a link.
    """
    from lrfdse.formats.onnx import file_content

    factors = builder.factors(plan, refined)
    names, texts, timed = kernel_names(builder.model.layers), [], []
    written = [f"kernels/{name}{end}" for each in names.values() for name in each for end in _KERNEL_FILES]
    mark(folder, [*written, "kernels.txt", BENCH, "plan.json", "model.onnx"], exported=exported)
    folder_below(folder, "kernels")
    for layer in builder.model.layers:
        shape = plan[layer.name]
        for place, (spec, bias) in enumerate(_kernels(layer, shape, builder.model, factors.get(layer.name))):
            name = names[layer.name][place]
            schedule = Schedule.parse(schedules[layer.name][place])
            cores = _cores(layer, builder.model, factors.get(layer.name))
            artifact, arrays = _write_kernel(folder / "kernels", name, spec, schedule, cores, bias, target)
            texts.append(kernel_text(name, artifact, target))
            timed.append(bench_kernel(layer.name, place, artifact, arrays, cores, bias))
    head = f"Kernels for {target.name}: {target.core}\nNeeds {needs_of(target).words}\n\n"
    write_atomically(folder / "kernels.txt", head + "\n".join(texts))
    _write_program(folder / BENCH, timed, target, tell)
    write_atomically(folder / "plan.json", json.dumps(plan.texts(), indent=1) + "\n")
    write_atomically(folder / "model.onnx", file_content(builder.model_of(plan, refined)))


def _write_program(path: Path, kernels: Sequence[BenchKernel], target: Target, tell: Listener) -> None:
    path.unlink(missing_ok=True)
    try:
        program = build_program(kernels, target, path.parent.name)
    except ToolError as error:
        tell(Event("note", f"design {path.parent.name} gets no program for a board: {error}"))
        return
    write_atomically(path, program, 0o777)


def kernel_names(layers: Sequence[Layer]) -> dict[str, list[str]]:
    """Return what the files of each layer's kernels are called, one name a use; no two have the same C symbol."""
    used: set[str] = set()
    return {
        layer.name: [
            _unused(layer.name if place == 0 else f"{layer.name}.{place + 1}", used) for place in range(len(layer.uses))
        ]
        for layer in layers
    }


def _kernels(
    layer: Layer, shape: Factorization, model: Model, factors: Factors | None
) -> list[tuple[KernelSpec, NDArray[Any] | None]]:
    """Return each use's kernel and its bias, the bias correction added."""
    shift = None if factors is None else factors.bias_shift
    found = []
    for place, use in enumerate(layer.uses):
        bias = model.bias(layer.name, place)
        if shift is not None:
            bias = shift if bias is None else bias + shift
        spec = KernelSpec(layer.outputs, layer.inputs, shape, use.rows, bias is not None, use.relu)
        found.append((spec, bias))
    return found


def _cores(layer: Layer, model: Model, factors: Factors | None) -> tuple[NDArray[Any], ...]:
    return (model.weight(layer.name)[None, :, :, None],) if factors is None else factors.cores


def _write_kernel(
    folder: Path,
    name: str,
    spec: KernelSpec,
    schedule: Schedule,
    cores: Sequence[NDArray[Any]],
    bias: NDArray[Any] | None,
    target: Target,
) -> tuple[Artifact, list[NDArray[np.float32]]]:
    from lrfdse.kernels.build import compile_kernel
    from lrfdse.kernels.data import pack
    from lrfdse.kernels.header import c_header

    artifact = compile_kernel(spec, schedule, target, symbol_of(name), assembly=True)
    arrays = pack(artifact, cores, bias)
    content, offsets = _packed(arrays)
    write_atomically(folder / f"{name}.o", artifact.object_code)
    write_atomically(folder / f"{name}.h", _with_offsets(c_header(artifact, target), artifact, offsets))
    write_atomically(folder / f"{name}.weights.bin", content)
    return artifact, arrays


def _unused(name: str, used: set[str]) -> str:
    """Return `name`, or a longer one where another kernel's header declares its symbol, or what its own would."""
    while not used.isdisjoint(declared := {symbol_of(name), supported_name(symbol_of(name))}):
        name += "_"
    used |= declared
    return name


def symbol_of(name: str) -> str:
    """Return the C function's name for a layer.

    >>> symbol_of("encoder.0/fc-1")
    'lrf_encoder_0_fc_1'
    """
    return "lrf_" + re.sub(r"\W", "_", name, flags=re.ASCII)


def _packed(arrays: Sequence[NDArray[Any]]) -> tuple[bytes, list[int]]:
    content, offsets = bytearray(), []
    for array in arrays:
        content.extend(bytes(-len(content) % _ALIGNMENT))
        offsets.append(len(content))
        content.extend(array.astype("<f4").tobytes())
    return bytes(content), offsets


def _with_offsets(header: str, artifact: Artifact, offsets: Sequence[int]) -> str:
    stored = [argument for argument in artifact.arguments if argument.role in ("weight", "bias")]
    prefix = artifact.symbol.upper()
    lines = [
        f"#define {prefix}_{argument.name.upper()}_OFFSET {offset} /* bytes into the weights file */"
        for argument, offset in zip(stored, offsets, strict=True)
    ]
    end = header.rindex("#endif")
    return header[:end] + "\n".join(lines) + "\n\n" + header[end:]
