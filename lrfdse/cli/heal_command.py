"""``lrfdse heal``: the factors of one design, trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lrfdse.explore.healing import Healing


def heal(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The output folder of an exploration.")],
    data: Annotated[Path, typer.Option(help="Training data (.npz): inputs, and `labels` where there are some.")],
    design: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="The id of a design, or its beginning; default: the recommended one."),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Times that every sample is seen.")] = 20,
    minutes: Annotated[float, typer.Option(help="Minutes that training may take.")] = 10.0,
    teacher: Annotated[
        str | None,
        typer.Option(help="outputs of the original, labels, or both; default: both where there are labels."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    metric: Annotated[
        str | None, typer.Option(help="Let the exploration's own metric run here: MODULE:FUNCTION.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Where results are kept for later runs.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")] = False,
) -> None:
    """Train the factors of a design of DIR on data, and keep what scores no worse on the evaluation data."""
    import json

    from lrfdse.base.codec import to_plain
    from lrfdse.base.folders import cache_folder_at
    from lrfdse.cli.progress import listening
    from lrfdse.explore.healing import heal as run
    from lrfdse.explore.training_data import HealRequest, teacher_of
    from lrfdse.report.write import write_again

    with cache_folder_at(cache), listening() as progress:
        request = HealRequest(data, epochs, minutes, teacher_of(teacher, "--teacher"), seed, metric)
        healing = run(folder, design, request, progress)
        if healing.kept:
            write_again(healing.document, folder)
    facts = healing.document.design(healing.design)
    assert facts is not None
    if as_json:
        typer.echo(json.dumps(to_plain(facts), indent=1))
        return
    for line in lines_of(healing, folder):
        typer.echo(line)


def lines_of(healing: Healing, folder: Path) -> list[str]:
    """Return what is printed of a design that was trained."""
    document, trained = healing.document, healing.trained
    steps = f"{trained.steps:,} steps"
    if trained.steps < trained.planned:
        steps = f"{trained.steps:,} of {trained.planned:,} steps, for which there were minutes,"
    if not healing.kept:
        return [
            f"Design {healing.design} stays as it was: after {steps} its {document.metric} on "
            f"evaluation data is {100 * healing.after.value:.2f} %, before {100 * healing.before.value:.2f} %; "
            f"held-out loss {trained.after:.4g}, before {trained.before:.4g}."
        ]
    found = [
        f"Design {healing.design} healed in {steps} on {trained.samples:,} samples; held-out loss "
        f"{trained.before:.4g} -> {trained.after:.4g} ({trained.held_out:,} samples).",
        f"{document.metric} on evaluation data: {100 * healing.before.value:.2f} % -> "
        f"{100 * healing.after.value:.2f} %, original {100 * document.original.eval_value:.2f} %",
    ]
    if healing.test_before is not None and healing.test_after is not None:
        found.append(
            f"{document.metric} on test data: {100 * healing.test_before:.2f} % -> {100 * healing.test_after:.2f} %, "
            f"original {100 * document.original.reported_score:.2f} %"
        )
    return [*found, str(folder / "designs" / healing.design / "model.onnx")]
