"""Designs as files: the compressed model, for every layer an object file, a C header and its weights, and a program.

The program, ``bench``, times the kernels on a board (docs/meter.md).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrfdse.base.events import Event, Listener, silent
from lrfdse.base.files import folder_below, write_atomically
from lrfdse.deploy.bench_program import bench_kernel, build_program
from lrfdse.deploy.folders import manifest, mark
from lrfdse.deploy.forms import form_file, forms_of
from lrfdse.deploy.healed import HEALED
from lrfdse.deploy.listing import kernel_text
from lrfdse.errors import InputError, RoomError, ToolError
from lrfdse.ir.choice import Choice
from lrfdse.ir.factors import Factors
from lrfdse.ir.form import FORM_FILES
from lrfdse.ir.kernel import GIVEN, Artifact, KernelSpec, Schedule, has_kernel, kernel_spec
from lrfdse.ir.layer import Layer
from lrfdse.ir.plan import Plan
from lrfdse.ir.storage import FLOAT16
from lrfdse.kernels.needs import supported_name
from lrfdse.targets.target import Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lrfdse.deploy.bench_data import BenchKernel
    from lrfdse.ir.form import Form
    from lrfdse.model.graph import Model

BENCH = "bench"
"""Name of the program in a design's folder."""

INT8 = "model.int8.onnx"
"""Name of the model with int8 weights in a design's folder."""

_KERNEL_FILES = (".o", ".h", ".weights.bin")
"""Endings of the files of a kernel."""

_ALIGNMENT = 64
"""Bytes: every array of a weights file starts on a multiple, a cache line on all targets that ship."""


Compiled = dict[tuple[KernelSpec, Schedule, str], Artifact]
"""Kernels with their assembly, by what they compute, their schedule and their symbol."""


def write_design(
    folder: Path,
    model: Model,
    plan: Plan,
    factors: Mapping[str, Factors],
    schedules: Mapping[str, Sequence[str]],
    target: Target,
    progress: Listener = silent,
    exported: bool = False,
    int8: bytes | None = None,
    healed: bytes | None = None,
    forms: Sequence[Form] = (),
    compiled: Compiled | None = None,
) -> None:
    """Write ``kernels/``, ``kernels.txt``, ``bench``, ``plan.json``, maybe `INT8`, and ``model.onnx`` of a design.

    In the other formats that are asked for there is a file, too, unless none can be made, which `progress` is told.

    ``model.onnx`` is written last: its presence marks a complete folder.

    Parameters
    ----------
    folder
        Where to write; made where there is none.
    model
        The original model.
    plan
        The factorization of every layer.
    factors
        Layer name to factors, of the layers that the plan compresses.
    schedules
        Layer name to the text of a schedule for each of its uses.
    target
        What kernels are compiled for.
    progress
        Told where a board gets no program, or a format no file.
    exported
        Whether the user asked for this design: no exploration removes it then.
    int8
        Content of `INT8`; None where there is to be none: one that an exploration wrote before is then removed.
    healed
        Content of `HEALED`, of factors that were trained; None removes what was trained before.
    forms
        The formats that the user asked for; none means those of `lrfdse.deploy.forms.forms_of`.
    compiled
        Kernels of designs that were written before, for the same target; those of this one are added.

    Raises
    ------
    InputError
        The folder cannot be written, or ``kernels`` in it is a link.
    ToolError
        A kernel cannot be compiled.
    """
    from lrfdse.formats.onnx import file_content
    from lrfdse.model.passes.factor import rewrite

    names, texts, timed = kernel_names(model.layers), [], []
    written = [f"kernels/{name}{end}" for each in names.values() for name in each for end in _KERNEL_FILES]
    before = manifest(folder)
    others = [form for form in forms_of(model.path, forms) if form != "onnx"]
    own = [BENCH, "plan.json", INT8, "model.onnx", *(FORM_FILES[form] for form in others)]
    own += [HEALED] if healed is not None else []
    mark(folder, [*written, "kernels.txt", *own], exported=exported)
    folder_below(folder, "kernels")
    for name, kernel, packed in _compiled(model, plan, factors, schedules, target, compiled):
        _write_kernel(folder / "kernels", name, kernel.artifact, packed, target)
        texts.append(kernel_text(name, kernel.artifact, target))
        timed.append(kernel)
    read = {kernel.artifact.spec.storage for kernel in timed}
    needs = (target.reading(FLOAT16) if FLOAT16 in read else target).needs
    head = f"Kernels for {target.name}: {target.core}\nNeeds {needs.words}\n\n"
    write_atomically(folder / "kernels.txt", head + "\n".join(texts))
    _write_program(folder / BENCH, timed, len(timed) == sum(map(len, names.values())), target, progress)
    write_atomically(folder / "plan.json", json.dumps(plan.texts(), indent=1) + "\n")
    if int8 is not None:
        write_atomically(folder / INT8, int8)
    elif not exported and before is not None and INT8 in before.files:
        (folder / INT8).unlink(missing_ok=True)
    if healed is not None:
        write_atomically(folder / HEALED, healed)
    elif before is not None and HEALED in before.files:
        (folder / HEALED).unlink(missing_ok=True)
    for form, name in FORM_FILES.items():
        if form != "onnx" and before is not None and name in before.files:
            (folder / name).unlink(missing_ok=True)
    for form in others:
        _write_form(folder, form, model, factors, progress)
    write_atomically(folder / "model.onnx", file_content(rewrite(model, factors)))


def _write_form(folder: Path, form: Form, model: Model, factors: Mapping[str, Factors], progress: Listener) -> None:
    try:
        content = form_file(form, model, factors)
    except InputError as error:
        progress(Event("note", f"design {folder.name} gets no {FORM_FILES[form]}: {error}"))
        return
    write_atomically(folder / FORM_FILES[form], content)


def write_program(
    path: Path,
    identity: str,
    model: Model,
    plan: Plan,
    factors: Mapping[str, Factors],
    schedules: Mapping[str, Sequence[str]],
    target: Target,
) -> None:
    """Write the program of a design that times it on a board, and nothing else of the design.

    Parameters
    ----------
    path
        The file.
    identity
        The design's id.
    model, plan, factors, schedules, target
        As for `write_design`.

    Raises
    ------
    InputError
        The file cannot be written.
    ToolError
        A kernel or the program cannot be compiled, or there are too many weights for one.
    """
    kernels = [kernel for _, kernel, _ in _compiled(model, plan, factors, schedules, target)]
    if len(kernels) < sum(len(layer.uses) for layer in model.layers):
        raise ToolError(
            "embeddings, convolutions of more than one pixel, layers in whole numbers (@qdq) and layers with a repair "
            "(dense+r) have no kernel of their own that a program could time"
        )
    write_atomically(path, build_program(kernels, target, identity), 0o777)


def _compiled(
    model: Model,
    plan: Plan,
    factors: Mapping[str, Factors],
    schedules: Mapping[str, Sequence[str]],
    target: Target,
    compiled: Compiled | None = None,
) -> Iterator[tuple[str, BenchKernel, list[NDArray[Any]]]]:
    """Compile a design's kernels one by one: each with the name of its files and its packed weights."""
    from lrfdse.kernels.build import compile_kernel
    from lrfdse.kernels.data import pack

    names, known = kernel_names(model.layers), {} if compiled is None else compiled
    for layer in model.layers:
        fitted = factors.get(layer.name)
        cores, scales = _cores(layer, model, fitted), _scales(layer, model, fitted)
        for place, spec, bias in _kernels(layer, plan[layer.name], model, fitted):
            name, schedule = names[layer.name][place], Schedule.parse(schedules[layer.name][place])
            key = spec, schedule, symbol_of(name)
            if key not in known:
                known[key] = compile_kernel(*key[:2], target, key[2], assembly=True)
            artifact = known[key]
            packed = pack(artifact, cores, bias, scales)
            yield name, bench_kernel(layer.name, place, artifact, packed, cores, bias), packed


def _write_program(
    path: Path, kernels: Sequence[BenchKernel], is_whole: bool, target: Target, progress: Listener
) -> None:
    """Write the program of a design, unless some of its layers have no kernel that it could time."""
    path.unlink(missing_ok=True)
    if not is_whole:
        return
    try:
        program = build_program(kernels, target, path.parent.name)
    except RoomError:
        raise
    except ToolError as error:
        progress(Event("note", f"design {path.parent.name} gets no program for a board: {error}"))
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
    layer: Layer, choice: Choice, model: Model, factors: Factors | None
) -> list[tuple[int, KernelSpec, NDArray[Any] | None]]:
    """Return the kernel of each use that has one of its own: its number, the kernel, its bias with the correction."""
    shift = None if factors is None else factors.bias_shift
    found = []
    for place, use in enumerate(layer.uses):
        if not has_kernel(use, choice):
            continue
        bias = model.bias(layer.name, place)
        if shift is not None:
            bias = shift if bias is None else bias + shift
        found.append((place, kernel_spec(layer, use, choice, corrected=shift is not None), bias))
    return found


def _cores(layer: Layer, model: Model, factors: Factors | None) -> tuple[NDArray[Any], ...]:
    return (model.weight(layer.name)[None, :, :, None],) if factors is None else factors.cores


def _scales(layer: Layer, model: Model, factors: Factors | None) -> tuple[NDArray[Any], ...]:
    """Return what levels of each core are worth; nothing where cores are in float32."""
    if factors is not None:
        return factors.scales or ()
    return (model.scales[layer.name],) if layer.storage.scaled else ()


def _write_kernel(folder: Path, name: str, artifact: Artifact, packed: Sequence[NDArray[Any]], target: Target) -> None:
    from lrfdse.kernels.header import c_header

    content, offsets = _packed(packed)
    write_atomically(folder / f"{name}.o", artifact.object_code)
    write_atomically(folder / f"{name}.h", _with_offsets(c_header(artifact, target), artifact, offsets))
    write_atomically(folder / f"{name}.weights.bin", content)


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
        content.extend(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return bytes(content), offsets


def _with_offsets(header: str, artifact: Artifact, offsets: Sequence[int]) -> str:
    stored = [argument for argument in artifact.arguments if argument.role in GIVEN[1:]]
    prefix = artifact.symbol.upper()
    lines = [
        f"#define {prefix}_{argument.name.upper()}_OFFSET {offset} /* bytes into the weights file */"
        for argument, offset in zip(stored, offsets, strict=True)
    ]
    end = header.rindex("#endif")
    return header[:end] + "\n".join(lines) + "\n\n" + header[end:]
