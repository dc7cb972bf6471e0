"""The command that joins a study from another machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def worker(
    study: Annotated[str, typer.Option(help="The storage that `lrfdse explore --study` writes to.")],
    study_name: Annotated[str | None, typer.Option(help="The study's name; default: the only one there.")] = None,
    artifacts: Annotated[Path | None, typer.Option(help="The exploration's --artifacts, as seen from here.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Where fits and fetched files lie.", show_default=False)] = None,
    idle: Annotated[float, typer.Option(min=0, help="Minutes with nothing to do after which to leave.")] = 10.0,
    wait: Annotated[
        float | None, typer.Option(min=0, help="Minutes to wait for the study; default: as long as it takes.")
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Leave after so many plans.")] = None,
    metric: Annotated[str | None, typer.Option(help="Let the study's own metric run here: MODULE:FUNCTION.")] = None,
) -> None:
    """Evaluate plans of a study that another machine explores, until it is finished."""
    from lrfdse.base.folders import cache_folder_at
    from lrfdse.base.text import counted
    from lrfdse.cli.progress import listening
    from lrfdse.explore.plans.worker import work

    with cache_folder_at(cache), listening() as progress:
        done = work(study, study_name, artifacts, cache, idle, trials, metric, progress, wait)
    failed = f", {done.failed} that cannot be evaluated" if done.failed else ""
    typer.echo(f"{counted(done.evaluated, 'plan')} evaluated{failed}: {done.why}")
