"""What ``import lrfdse`` gives: files or objects in, explorations and inspections out."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from lrfdse.base.arguments import number_between, positive_number, shapes_of, values_of, whole_number
from lrfdse.base.events import Event, silent
from lrfdse.base.temporary import temporary_folder
from lrfdse.errors import InputError
from lrfdse.found import Exploration, Inspection
from lrfdse.ir.layer import DEFAULT_KINDS
from lrfdse.results.settings import Data, Limits, checked_formats, checked_kinds
from lrfdse.targets import DEFAULT_TARGET

if TYPE_CHECKING:
    from lrfdse.model.given import GivenData, GivenModel
    from lrfdse.results.settings import Options

_GIVEN = "given"
"""Folder in an output folder for the files of what was given as objects."""


def explore(
    model: GivenModel,
    target: str | os.PathLike[str],
    *,
    calib: GivenData | None = None,
    eval: GivenData | None = None,
    test: GivenData | None = None,
    limits: Limits | None = None,
    judge: str | Sequence[str] = (),
    metric: str | None = None,
    output: str | os.PathLike[str] | None = None,
    shape: Mapping[str, Sequence[int]] | None = None,
    value: Mapping[str, object] | None = None,
    layers: str | Sequence[str] = DEFAULT_KINDS,
    space: str | os.PathLike[str] = "default",
    meter: str = "auto",
    effort: str = "normal",
    budget: int = 60,
    minutes: float | None = None,
    keep: int = 8,
    int8: bool = True,
    storage: str = "float32",
    eval_samples: int | None = None,
    correct: bool = True,
    proxy: str = "loss",
    sampler: str = "nsga2",
    accept_unverified: bool = False,
    runner: str | None = None,
    study: str | os.PathLike[str] | None = None,
    study_name: str | None = None,
    artifacts: str | os.PathLike[str] | None = None,
    format: str | Sequence[str] = (),
    runtime: str | None = None,
    library: bool = True,
    heal: bool = False,
    heal_data: GivenData | None = None,
    heal_minutes: float = 10.0,
    heal_teacher: str | None = None,
    workers: int | None = None,
    seed: int = 0,
    cache: str | os.PathLike[str] | None = None,
    progress: Callable[[Event], None] | None = None,
) -> Exploration:
    """Find the Pareto-optimal compressed versions of a model for a target, and write them to the output folder.

    Called again with the same arguments, it goes on where it was interrupted. Worker processes import the script that
    calls it, so a script calls it under ``if __name__ == "__main__":``.

    Parameters
    ----------
    model
        An ONNX, TensorFlow Lite or Keras file, a SavedModel folder, a folder that holds ``model.onnx``, an
        ``onnx.ModelProto`` or an ``onnx_ir.Model``. Folders may have ``calib.npz``, ``eval.npz`` and ``test.npz``.
    target
        A name of `target_names`, or the path of a TOML file.
    calib
        Inputs to fit on: an ``.npz`` file, an array of the only input, or arrays by the names of inputs, all with the
        samples along the first axis. None fits the weights alone.
    eval
        Inputs that choose designs, in the same forms, with labels under the name "labels". None recommends nothing.
    test
        Inputs and labels that scores are reported on; they choose nothing. None takes half of a labelled `eval`.
    limits
        What the recommended design must satisfy. None asks for a loss of at most one point of the metric.
    metric, judge
        What designs are chosen by, a metric's name or ``module:function``; None takes what fits the output. Names of
        outputs that count, the judged one first, those that weigh more repeated; none means all that can.
    output
        The folder of results, ``results/<model>-<target>`` by default. A model that is an object needs it. What is
        given as objects is written to ``given/`` in it.
    shape
        Sizes of inputs that the model leaves dynamic, by the input's name.
    value
        Numbers, or true or false, that inputs of fixed sizes are fixed to, by the input's name: constants from then on.
    layers
        The kinds of layers to compress: "fc", fully-connected layers; "conv", convolutions; "recurrent", "attention"
        and "embedding", the matrices that such operators hold; "state", the recurrent matrices of LSTM and GRU;
        "tied", tables by which a product multiplies as well; "joint", products that read one value, as one layer. All
        but convolutions, recurrent matrices, tied tables and joint products by default.
    space
        The search space: a name that ships, or the path of a TOML file.
    meter
        What obtains latencies: "host", "model" or a plug-in's; "auto" lets the target decide.
    effort
        How much work the answer is worth: "quick" compiles few designs of a layer, evaluates at most 20 plans and
        refines none, "thorough" does more of each than "normal".
    budget, minutes, keep
        Plans evaluated on data at most, minutes after which no new one is begun (None means no end), and designs whose
        files are written beside the recommended one's.
    int8
        Whether the original and the designs that are written are made with int8 weights, too, and scored.
    storage
        In what weights may be stored: "float32", "fp16", "int8", or "both" (float32 and int8), where the search chooses
        layer by layer; "qdq" also rounds what layers read, so that products are of whole numbers, and "all" offers
        float32, int8 and that. Several with commas between offer each of them.
    eval_samples
        How many samples of `eval` choose, drawn at random; None means all.
    correct
        Whether layers are fitted to what the compressed layers before them feed them.
    proxy, sampler
        What predicts the losses of plans ("loss", "output", "weight", "fidelity" or "score"), and what proposes them
        ("nsga2", "tpe", "gp", "evolution", "random", "exhaustive" or a plug-in's).
    accept_unverified
        Whether a design is recommended though there are no `eval` data to say what it loses.
    runner
        What runs a program on a board, such as "ssh user@board", to time the kept designs there, too.
    study, study_name, artifacts
        Optuna storage URL or journal path, the study's name in it, and the folder of files for workers on other
        machines; None means an SQLite file, a name that tells model, target and data, a folder in the output folder.
    format
        Formats of designs beside ONNX, "tflite" and "keras"; by default "tflite" of TensorFlow Lite models alone.
    runtime
        "litert" or "onnxruntime": the files that are written are timed in it at the end, on this machine.
    library
        Whether the original, the recommended design and SVD of equal size are compiled as whole models, too: their
        latency, and the C library of the recommended design.
    heal, heal_data, heal_minutes, heal_teacher
        Whether the factors of the designs that are written are trained at the end, on what data (in the forms of
        `eval`), for how many minutes in all, and by what: "outputs", "labels" or "both". See `lrfdse.heal`.
    workers, seed
        Processes, one a core by default; the seed of everything random.
    cache
        Folder of intermediate results that later runs use; None means that of ``$LRFDSE_CACHE`` or of the user.
    progress
        Called with every event, such as ``Event("plans", done=3, total=60)``; None means that nobody listens.

    Returns
    -------
    The exploration. That no design satisfies the limits is no error: nothing is recommended then.

    Raises
    ------
    InputError
        The model, the data or an option cannot be used as given.
    ToolError
        A tool that the target needs is missing or failed, or a board.
    """
    from lrfdse.base.files import sole_writer
    from lrfdse.base.folders import cache_folder_at
    from lrfdse.base.threads import one_thread_each
    from lrfdse.explore.healing_kept import heal_kept
    from lrfdse.explore.inputs import settings_for
    from lrfdse.explore.run import explore as run
    from lrfdse.explore.runtime import time_kept
    from lrfdse.model.given import data_file, model_file
    from lrfdse.report.write import write_again, write_reports
    from lrfdse.results.write import document_of

    if limits is not None and not isinstance(limits, Limits):
        raise TypeError(f"limits is a lrfdse.Limits, such as Limits(max_drop=0.01), but got {type(limits).__name__}")
    options: Options = {
        "meter": meter,
        "limits": (limits or Limits()).checked(),
        "effort": effort,
        "budget": whole_number("budget", budget, 1),
        "keep": whole_number("keep", keep, 0),
        "int8": bool(int8),
        "storage": storage,
        "seed": whole_number("seed", seed, 0),
        "metric": metric,
        "judge": tuple([judge] if isinstance(judge, str) else judge),
        "eval_samples": None if eval_samples is None else whole_number("eval_samples", eval_samples, 1),
        "proxy": proxy,
        "correct": bool(correct),
        "study": None if study is None else os.fspath(study),
        "study_name": study_name,
        "sampler": sampler,
        "minutes": None if minutes is None else number_between("minutes", minutes, 0),
        "accept_unverified": bool(accept_unverified),
        "runner": runner,
        "artifacts": None if artifacts is None else Path(artifacts),
        "layers": checked_kinds([layers] if isinstance(layers, str) else layers, "layers"),
        "library": bool(library),
        "heal": bool(heal),
        "heal_minutes": positive_number("heal_minutes", heal_minutes),
        "heal_teacher": heal_teacher,
        "runtime": runtime,
    }
    if format:
        options["format"] = checked_formats([format] if isinstance(format, str) else format, "format")
    if workers is not None:
        options["workers"] = whole_number("workers", workers, 1)
    if cache is not None:
        options["cache"] = Path(cache)
    folder = None if output is None else Path(output)
    if isinstance(model, str | os.PathLike):
        path = Path(model)
    elif folder is None:
        raise InputError("a model that is given as an object needs `output`, the folder of its results")
    else:
        path = folder / _GIVEN / f"{folder.resolve().name}.onnx"
    fixed = shapes_of(shape), values_of(value)
    settings = settings_for(path, os.fspath(target), os.fspath(space), None, folder, *fixed, **options)
    roles = {"calib": calib, "eval": eval, "test": test, "train": heal_data}
    given = {role: data for role, data in roles.items() if data is not None}
    objects = [each for each in (model, *given.values()) if not isinstance(each, str | os.PathLike)]
    with sole_writer(settings.output) if objects else nullcontext():
        model_file(model, path)
        files = {role: data_file(data, role, settings.output / _GIVEN) for role, data in given.items()}
    train = files.pop("train", settings.heal_data)
    settings = dataclasses.replace(settings, data=dataclasses.replace(settings.data, **files), heal_data=train)
    with cache_folder_at(options.get("cache")), one_thread_each():
        document = document_of(run(settings, progress or silent, write_reports))
        if settings.heal:
            document = heal_kept(settings, document, progress or silent, write_again)
        document = time_kept(settings, document, progress or silent, write_again)
    return Exploration(document, settings.output)


def inspect(
    model: GivenModel,
    target: str | os.PathLike[str] = DEFAULT_TARGET,
    *,
    calib: GivenData | None = None,
    shape: Mapping[str, Sequence[int]] | None = None,
    value: Mapping[str, object] | None = None,
    layers: str | Sequence[str] = DEFAULT_KINDS,
    space: str | os.PathLike[str] = "default",
    cache: str | os.PathLike[str] | None = None,
    progress: Callable[[Event], None] | None = None,
) -> Inspection:
    """Look at a model's layers: how compressible they are, and how many designs every filter leaves.

    Nothing is compiled. The parameters are those of `explore`.

    Raises
    ------
    InputError
        The model, the data or an option cannot be used as given.
    """
    from lrfdse.base.folders import cache_folder_at
    from lrfdse.base.threads import one_thread_each
    from lrfdse.explore.inputs import settings_for
    from lrfdse.explore.inspection import inspect as run
    from lrfdse.model.given import data_file, model_file
    from lrfdse.results.write import inspection_of

    kinds = checked_kinds([layers] if isinstance(layers, str) else layers, "layers")
    options: Options = {"layers": kinds} if cache is None else {"layers": kinds, "cache": Path(cache)}
    with temporary_folder() as folder:
        path = model_file(model, folder / "model.onnx")
        files = Data() if calib is None else Data(data_file(calib, "calib", folder))
        fixed = shapes_of(shape), values_of(value)
        settings = settings_for(path, os.fspath(target), os.fspath(space), files, Path(), *fixed, **options)
        with cache_folder_at(options.get("cache")), one_thread_each():
            document = inspection_of(run(settings, progress or silent))
    if not isinstance(model, str | os.PathLike):
        named = dataclasses.replace(document.model, name=model.graph.name or "", path="")
        document = dataclasses.replace(document, model=named)
    return Inspection(document)


def heal(
    folder: str | os.PathLike[str],
    data: str | os.PathLike[str],
    design: str | None = None,
    *,
    epochs: int = 20,
    minutes: float = 10.0,
    teacher: str | None = None,
    seed: int = 0,
    metric: str | None = None,
    cache: str | os.PathLike[str] | None = None,
    progress: Callable[[Event], None] | None = None,
) -> Exploration:
    """Train the factors of a design of a finished exploration, and keep them where they score no worse.

    The evaluation data of the exploration judge. All else of the model is frozen, and the design keeps its shapes,
    kernels and latencies. Needs TensorFlow: ``pip install 'lrfdse[heal]'``.

    Parameters
    ----------
    folder
        The output folder of the exploration.
    data
        Training data, an ``.npz`` file: inputs, and labels under the name "labels" where there are some.
    design
        The id of a design, or the beginning of one; None means the recommended design.
    epochs, minutes
        Times that every sample is seen, and minutes that training may take: where the epochs would take longer, there
        are fewer steps.
    teacher
        What training goes by: the original's "outputs", "labels", or "both", half of each; None takes both where there
        are labels, else the outputs.
    seed
        Seed of which samples are held out, and of the order of the others.
    metric
        The "MODULE:FUNCTION" that may run where the exploration was scored by it.
    cache
        Folder of intermediate results; None means that of ``$LRFDSE_CACHE`` or of the user.
    progress
        Called with every event; None means that nobody listens.

    Returns
    -------
    The exploration; `DesignFacts.healed` of the design says what was done, and is None where nothing was gained.

    Raises
    ------
    InputError
        There is no such design, it cannot be healed, or the training data cannot be used.
    ToolError
        TensorFlow is missing.
    """
    from lrfdse.base.folders import cache_folder_at
    from lrfdse.base.threads import one_thread_each
    from lrfdse.explore.healing import heal as run
    from lrfdse.explore.training_data import HealRequest, teacher_of
    from lrfdse.report.write import write_again

    request = HealRequest(
        Path(data),
        whole_number("epochs", epochs, 1),
        positive_number("minutes", minutes),
        teacher_of(teacher, "teacher"),
        whole_number("seed", seed, 0),
        metric,
    )
    place = Path(folder)
    with cache_folder_at(None if cache is None else Path(cache)), one_thread_each():
        healing = run(place, design, request, progress or silent)
        if healing.kept:
            write_again(healing.document, place)
    return Exploration(healing.document, place)


def target_names() -> list[str]:
    """Return the names of the targets that ship, sorted.

    >>> "riscv64" in target_names()
    True
    """
    from lrfdse.targets.catalog import names

    return names("targets")
