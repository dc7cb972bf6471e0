"""``lrfdse check``: the exit code and the files that a CI job reads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lrfdse.check.verdict import CheckReport
    from lrfdse.results.asked import Limits


def check(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="An exploration's output folder, or a front.json.")],
    design: Annotated[str | None, typer.Option(help="The id of a design; default: the recommended one.")] = None,
    max_latency: Annotated[str | None, typer.Option(help="Highest latency of all FC layers: 200us.")] = None,
    max_model_latency: Annotated[str | None, typer.Option(help="Highest warm latency of the whole model: 2ms.")] = None,
    max_params: Annotated[str | None, typer.Option(help="Most parameters of all FC layers: 60k.")] = None,
    max_size: Annotated[str | None, typer.Option(help="Most bytes of their weights, as float32: 128k.")] = None,
    max_drop: Annotated[str | None, typer.Option(help="Largest loss of accuracy in points: 1%.")] = None,
    max_other_drop: Annotated[
        str | None, typer.Option(help="Largest loss of every other output that counts, in points: 2%.")
    ] = None,
    baseline: Annotated[Path | None, typer.Option(help="An earlier run's front.json or folder.")] = None,
    max_regression: Annotated[str | None, typer.Option(help="Growth over the baseline; default 5%.")] = None,
    update_baseline: Annotated[bool, typer.Option("--update-baseline", help="Make this run the baseline.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Fail where nobody measured what a limit is on.")] = False,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML to this file.")] = None,
    benchmark_json: Annotated[Path | None, typer.Option(help="Write github-action-benchmark's JSON.")] = None,
    github: Annotated[
        bool | None,
        typer.Option(help="Summary, annotations and outputs for GitHub Actions.", show_default="where it runs"),
    ] = None,
    lava: Annotated[bool, typer.Option("--lava", help="Print LAVA's test case signals.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and nothing else.")] = False,
) -> None:
    """Check a finished exploration against limits and an earlier run; exit code 1 where one is broken."""
    from lrfdse.check.gate import Request
    from lrfdse.check.gate import check as run
    from lrfdse.cli.values import parse_growth, parse_latency
    from lrfdse.errors import InputError

    if baseline is None and (update_baseline or max_regression is not None):
        raise InputError(f"{'--update-baseline' if update_baseline else '--max-regression'} needs --baseline")
    if as_json and (lava or github):
        raise InputError(f"--json prints nothing but JSON: leave out {'--lava' if lava else '--github'}")
    whole = None if max_model_latency is None else parse_latency(max_model_latency, "--max-model-latency")
    request = Request(
        source,
        design,
        _limits(max_latency, max_params, max_size, max_drop, max_other_drop),
        whole,
        baseline,
        0.05 if max_regression is None else parse_growth(max_regression, "--max-regression"),
        update_baseline,
        strict,
    )
    report = run(request)
    _write(report, junit, benchmark_json)
    if as_json:
        from lrfdse.check.plain import report_json

        typer.echo(report_json(report), nl=False)
        raise typer.Exit(report.exit_code)
    _print(report)
    if github or (github is None and os.environ.get("GITHUB_ACTIONS") == "true"):
        _tell_github(report)
    if lava:
        from lrfdse.check.lava import lava_lines

        for line in lava_lines(report):
            typer.echo(line)
    raise typer.Exit(report.exit_code)


def _limits(
    max_latency: str | None,
    max_params: str | None,
    max_size: str | None,
    max_drop: str | None,
    max_other_drop: str | None,
) -> Limits:
    from lrfdse.cli.values import parse_count, parse_drop, parse_latency, parse_size
    from lrfdse.results.asked import Limits

    return Limits(
        max_drop=None if max_drop is None else parse_drop(max_drop, "--max-drop"),
        max_params=None if max_params is None else parse_count(max_params, "--max-params"),
        max_latency_us=None if max_latency is None else parse_latency(max_latency, "--max-latency"),
        max_size=None if max_size is None else parse_size(max_size, "--max-size"),
        max_other_drop=None if max_other_drop is None else parse_drop(max_other_drop, "--max-other-drop"),
    )


def _write(report: CheckReport, junit: Path | None, benchmark_json: Path | None) -> None:
    from lrfdse.base.files import write_atomically
    from lrfdse.check.benchmark import benchmark_json as benchmarks
    from lrfdse.check.junit import junit_xml

    if junit is not None:
        write_atomically(junit, junit_xml(report))
    if benchmark_json is not None:
        write_atomically(benchmark_json, benchmarks(report))


def _print(report: CheckReport) -> None:
    from lrfdse.check.table import check_lines, conclusion
    from lrfdse.cli.terminal import console, print_line, print_lines, print_wrapped

    out = console()
    print_lines(out, check_lines(report, out.width))
    print_line(out, "")
    for note in report.notes:
        print_wrapped(out, f"Note: {note}", 2)
    print_line(out, conclusion(report))


def _tell_github(report: CheckReport) -> None:
    """Append to the files that the runner names, where it names them, and print the annotations."""
    from lrfdse.check.github import fitted, outputs, step_summary, workflow_commands

    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        there = Path(summary).stat().st_size if Path(summary).exists() else 0
        _append(Path(summary), fitted(step_summary(report), there))
    if named := os.environ.get("GITHUB_OUTPUT"):
        _append(Path(named), outputs(report))
    for line in workflow_commands(report):
        typer.echo(line)


def _append(path: Path, text: str) -> None:
    with open(path, "a", encoding="utf-8", errors="replace") as file:
        file.write(text)
