"""``lrfdse doctor``: what is installed, what is missing, and what each target can do here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lrfdse.cli.options import complete_target

if TYPE_CHECKING:
    from lrfdse.doctor import Ability, Diagnosis, Part


def doctor(
    target: Annotated[
        list[str],
        typer.Option(
            "--target",
            "-t",
            autocompletion=complete_target,
            help="Look at this target only, a name or a TOML file; may be repeated.",
        ),
    ] = [],  # noqa: B006 (typer copies it)
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")] = False,
) -> None:
    """Say what is installed, what is missing and how to install it; exit code 1 where a target does not work."""
    import json

    from lrfdse.base.codec import to_plain
    from lrfdse.cli.terminal import console, print_line
    from lrfdse.doctor import diagnose

    found = diagnose(target)
    if as_json:
        typer.echo(json.dumps({"healthy": found.healthy, **to_plain(found)}, indent=1))
    else:
        out = console()
        for line in _lines(found):
            print_line(out, line)
    raise typer.Exit(0 if found.healthy else 1)


def _lines(found: Diagnosis) -> list[str]:
    from lrfdse.base.version import __version__

    lines = [f"lrfdse {__version__}, Python {found.python}, {found.machine}", "", "Packages"]
    lines += map(_part, found.packages)
    if not found.packages:
        lines.append("  not known: lrfdse is not installed, it runs from a folder")
    lines += ["", "Programs", *map(_part, found.programs), "", "Extras"]
    lines += [
        f"  {each.name:<18} " + (f"not installed: {each.command}" if each.command else "ok") for each in found.extras
    ]
    lines += ["", "Targets             build    run      meter"]
    for each in found.targets:
        lines += _ability(each)
    return [
        *lines,
        "",
        "All of it works." if found.healthy else "Not all of it works: the lines above say what to run.",
    ]


def _part(part: Part) -> str:
    if part.problem:
        return f"  {part.name:<18} {f'{part.version}, ' if part.version else ''}{part.problem}: {part.command}"
    return f"  {part.name:<18} {part.version}"


def _ability(each: Ability) -> list[str]:
    words = " ".join(f"{'no' if problem else 'yes':<8}" for problem in (each.build, each.run, each.meter))
    problems = dict.fromkeys(problem for problem in (each.build, each.run, each.meter) if problem)
    return [f"  {each.target:<17} {words}".rstrip(), *(f"      {problem}" for problem in problems)]
