"""The application with all its commands; `explore` and `export` stand here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lrfdse.cli.board_commands import bench, calibrate
from lrfdse.cli.build_command import build
from lrfdse.cli.check_command import check
from lrfdse.cli.config import use_file
from lrfdse.cli.data_command import data
from lrfdse.cli.doctor_command import doctor
from lrfdse.cli.dry_run import tell
from lrfdse.cli.heal_command import heal
from lrfdse.cli.inspect_command import inspect
from lrfdse.cli.names import NamingCommand
from lrfdse.cli.options import (
    DATA,
    LIMITS,
    MACHINES,
    OUTPUT,
    SEARCH,
    CacheOption,
    CalibOption,
    FormatOption,
    JsonOption,
    LayersOption,
    LogOption,
    ModelArgument,
    ShapeOption,
    SpaceOption,
    TargetOption,
    ValueOption,
    formats_of,
    kinds_of,
    settings_of,
)
from lrfdse.cli.progress import LogFormat
from lrfdse.cli.report_command import report
from lrfdse.cli.runtime_bench import complete_runtime
from lrfdse.cli.show_command import show
from lrfdse.cli.targets_command import targets
from lrfdse.cli.worker_command import worker

if TYPE_CHECKING:
    from lrfdse.base.events import Event
    from lrfdse.results.settings import Options

app = typer.Typer(
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Explore the low-rank factorizations of an ONNX model for an embedded target.",
)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if version:
        from lrfdse.base.version import __version__

        typer.echo(f"lrfdse {__version__}")
        raise typer.Exit


@app.command(cls=NamingCommand)
def explore(
    model: ModelArgument,
    target: TargetOption,
    calib: CalibOption = None,
    eval_: Annotated[
        Path | None,
        typer.Option("--eval", help="Evaluation data, which choose designs (.npz).", rich_help_panel=DATA),
    ] = None,
    test: Annotated[
        Path | None, typer.Option(help="Test data, which accuracies are reported on.", rich_help_panel=DATA)
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="top1, top5, mse, cosine, exact{lrfdse.metrics} or MODULE:FUNCTION.",
            rich_help_panel=DATA,
        ),
    ] = None,
    judge: Annotated[
        list[str],
        typer.Option(
            metavar="OUTPUT", help="Outputs that count, the judged one first; repeated: more.", rich_help_panel=DATA
        ),
    ] = [],  # noqa: B006 (typer copies it)
    eval_samples: Annotated[
        int | None,
        typer.Option(min=1, help="Samples of --eval to choose by; default: all.", rich_help_panel=DATA),
    ] = None,
    shape: ShapeOption = [],  # noqa: B006 (typer copies it)
    value: ValueOption = [],  # noqa: B006
    max_drop: Annotated[
        str, typer.Option(help="Largest loss of the metric, in points (hundredths).", rich_help_panel=LIMITS)
    ] = "1%",
    max_other_drop: Annotated[
        str | None,
        typer.Option(help="Largest loss of every other output; default: --max-drop.", rich_help_panel=LIMITS),
    ] = None,
    max_params: Annotated[
        str | None, typer.Option(help="Most parameters of all FC layers: 60k.", rich_help_panel=LIMITS)
    ] = None,
    max_size: Annotated[
        str | None, typer.Option(help="Most bytes of their weights, as float32: 128k.", rich_help_panel=LIMITS)
    ] = None,
    max_latency: Annotated[
        str | None, typer.Option(help="Highest latency of all FC layers: 200us.", rich_help_panel=LIMITS)
    ] = None,
    max_model_latency: Annotated[
        str | None, typer.Option(help="Highest warm latency of the whole model: 2ms.", rich_help_panel=LIMITS)
    ] = None,
    accept_unverified: Annotated[
        bool,
        typer.Option(
            "--accept-unverified",
            help="Recommend a design without --eval, on random inputs.",
            rich_help_panel=LIMITS,
        ),
    ] = False,
    layers: LayersOption = None,
    space: SpaceOption = "default",
    meter: Annotated[
        str,
        typer.Option(help="auto, host (wall clock), model (modelled cycles){lrfdse.meters}.", rich_help_panel=SEARCH),
    ] = "auto",
    correct: Annotated[
        bool,
        typer.Option(help="Fit layers to what the compressed ones before feed them.", rich_help_panel=SEARCH),
    ] = True,
    proxy: Annotated[
        str,
        typer.Option(help="What predicts losses: loss, output, weight, fidelity, score.", rich_help_panel=SEARCH),
    ] = "loss",
    effort: Annotated[
        str,
        typer.Option(
            help="quick (few designs and plans, no refinement), normal, thorough (more of each).",
            rich_help_panel=SEARCH,
        ),
    ] = "normal",
    budget: Annotated[int, typer.Option(min=1, help="Plans evaluated on data.", rich_help_panel=SEARCH)] = 60,
    sampler: Annotated[
        str,
        typer.Option(help="nsga2, tpe, gp, evolution, random, exhaustive{lrfdse.samplers}.", rich_help_panel=SEARCH),
    ] = "nsga2",
    minutes: Annotated[
        float | None,
        typer.Option("--time", min=0, help="Minutes; then no new plan is begun.", rich_help_panel=SEARCH),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.", rich_help_panel=SEARCH)] = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; default: one a core.", rich_help_panel=MACHINES)
    ] = None,
    runner: Annotated[
        str | None,
        typer.Option(
            help="Time kept designs on a board, too: 'ssh user@board' or RUNNER:TEXT (command{lrfdse.runners}).",
            rich_help_panel=MACHINES,
        ),
    ] = None,
    study: Annotated[
        str | None,
        typer.Option(help="Optuna storage or journal; default: SQLite in the output.", rich_help_panel=MACHINES),
    ] = None,
    study_name: Annotated[
        str | None, typer.Option(help="Default: a name of model, target and data.", rich_help_panel=MACHINES)
    ] = None,
    artifacts: Annotated[
        Path | None,
        typer.Option(help="Files for workers; default: artifacts in the output.", rich_help_panel=MACHINES),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Default: results/MODEL-TARGET.", rich_help_panel=OUTPUT),
    ] = None,
    keep: Annotated[
        int,
        typer.Option(min=0, help="Designs written out beside the recommended one.", rich_help_panel=OUTPUT),
    ] = 8,
    format_: FormatOption = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            help="Time what is written in litert or onnxruntime, here; decides nothing.",
            autocompletion=complete_runtime,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    library: Annotated[
        bool,
        typer.Option(help="Compile the recommended design as a whole model, too.", rich_help_panel=OUTPUT),
    ] = True,
    int8: Annotated[
        bool, typer.Option(help="Write designs with int8 weights, too, and score them.", rich_help_panel=OUTPUT)
    ] = True,
    heal: Annotated[
        bool,
        typer.Option("--heal", help="Train the factors of the designs written out.", rich_help_panel=OUTPUT),
    ] = False,
    heal_data: Annotated[
        Path | None,
        typer.Option(help="Training data (.npz), with `labels` where there are some.", rich_help_panel=OUTPUT),
    ] = None,
    heal_minutes: Annotated[
        float, typer.Option(help="Minutes of training, all designs together.", rich_help_panel=OUTPUT)
    ] = 10.0,
    heal_teacher: Annotated[
        str | None,
        typer.Option(help="outputs, labels or both; default: both where there are labels.", rich_help_panel=OUTPUT),
    ] = None,
    storage: Annotated[
        str,
        typer.Option(
            help="float32, fp16, int8, both (float32, int8), qdq (rounds inputs, too), all but fp16, or a list of them",
            rich_help_panel=SEARCH,
        ),
    ] = "float32",
    config: Annotated[
        Path | None,
        typer.Option(
            callback=use_file,
            is_eager=True,
            help="A TOML file of options by their names; the command line goes before it.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what would be done; write nothing.", rich_help_panel=OUTPUT),
    ] = False,
    cache: CacheOption = None,
    log_format: LogOption = LogFormat.TEXT,
    as_json: JsonOption = False,
) -> None:
    """Find the Pareto-optimal compressed versions of MODEL for a target."""
    from lrfdse.base.folders import cache_folder_at
    from lrfdse.cli.progress import listening, stages_of
    from lrfdse.cli.show_command import print_document
    from lrfdse.cli.values import parse_count, parse_drop, parse_latency, parse_size
    from lrfdse.errors import NoDesignError
    from lrfdse.explore.healing_kept import heal_kept
    from lrfdse.explore.run import explore as run
    from lrfdse.explore.runtime import time_kept
    from lrfdse.report.page.wording import recommendation
    from lrfdse.report.write import write_again, write_reports
    from lrfdse.results.settings import Data, Limits
    from lrfdse.results.write import document_of, json_of

    limits = Limits(
        parse_drop(max_drop, "--max-drop"),
        None if max_params is None else parse_count(max_params, "--max-params"),
        None if max_latency is None else parse_latency(max_latency, "--max-latency"),
        None if max_other_drop is None else parse_drop(max_other_drop, "--max-other-drop"),
        None if max_size is None else parse_size(max_size, "--max-size"),
        None if max_model_latency is None else parse_latency(max_model_latency, "--max-model-latency"),
    )
    options: Options = {
        "meter": meter,
        "limits": limits,
        "effort": effort,
        "budget": budget,
        "keep": keep,
        "int8": int8,
        "storage": storage,
        "seed": seed,
        "metric": metric,
        "judge": tuple(judge),
        "eval_samples": eval_samples,
        "proxy": proxy,
        "correct": correct,
        "study": study,
        "study_name": study_name,
        "sampler": sampler,
        "minutes": minutes,
        "accept_unverified": accept_unverified,
        "runner": runner,
        "artifacts": artifacts,
        "runtime": runtime,
        "library": library,
        "heal": heal,
        "heal_data": heal_data,
        "heal_minutes": heal_minutes,
        "heal_teacher": heal_teacher,
    }
    if workers is not None:
        options["workers"] = workers
    if layers is not None:
        options["layers"] = kinds_of(layers)
    if format_ is not None:
        options["format"] = formats_of(format_)
    settings = settings_of(model, target, shape, value, space, cache, Data(calib, eval_, test), output, options)
    if dry_run:
        tell(settings, as_json)
        return
    with cache_folder_at(cache), listening(log_format, stages_of(settings)) as progress:
        document = document_of(run(settings, progress, write_reports))
        if settings.heal:
            document = heal_kept(settings, document, progress, write_again)
        document = time_kept(settings, document, progress, write_again)
    if as_json:
        typer.echo(json_of(document))
    else:
        print_document(document, settings.output)
    if document.recommended is None:
        raise NoDesignError(recommendation(document))


app.command(cls=NamingCommand)(inspect)
app.command()(build)
app.command()(check)
app.command()(worker)
app.command()(report)
app.command()(show)
app.command(cls=NamingCommand)(bench)
app.command()(calibrate)
app.command()(heal)
app.command()(doctor)
app.command()(data)
app.command()(targets)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The output folder of an exploration.")],
    design: Annotated[str, typer.Argument(metavar="ID", help="The id of a design in front.json, or its beginning.")],
    model: Annotated[
        Path | None,
        typer.Option(help="The model, where DIR was moved: a file, or a folder with model.onnx and calib.npz."),
    ] = None,
    calib: CalibOption = None,
    format_: FormatOption = None,
) -> None:
    """Rebuild a design's compressed model and kernels from the folder's front.json."""
    from lrfdse.explore.export import export as run

    def told(event: Event) -> None:
        if event.stage == "note":
            typer.echo(f"Note: {event.text}", err=True)

    forms = None if format_ is None else formats_of(format_)
    typer.echo(run(folder, design, model, calib, told, forms))
