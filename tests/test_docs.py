"""The pages that ship: links lead somewhere, and options that the README names exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main

from lrfdse.cli.app import app

REPOSITORY = Path(__file__).parents[1]
_LINK = re.compile(r"\[[^\]]*\]\(([^()\s]*(?:\([^()\s]*\)[^()\s]*)*)\)")


def _pages() -> list[Path]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    try:
        listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        listed = [
            str(path.relative_to(REPOSITORY)) for path in (*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md"))
        ]
    return [REPOSITORY / name for name in listed if (REPOSITORY / name).is_file()]


PAGES = _pages()


def prose(page: Path) -> str:
    """A page without its code blocks."""
    text = re.sub(r"^( *)```.*?^\1```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"(?:^ {4,}(?![-*\d]).*\n)+", "", text, flags=re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The fragments that GitHub gives the headings of a page."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.*)$", prose(page), flags=re.MULTILINE):
        name = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()).replace(" ", "-")
        same = sum(other == name or re.fullmatch(re.escape(name) + r"-\d+", other) is not None for other in found)
        found.add(f"{name}-{same}" if same else name)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in _LINK.findall(prose(page)):
        if re.match(r"[a-z][a-z+.-]*:", link):
            continue
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        known = target.is_relative_to(REPOSITORY) and target.exists()
        if not known or (fragment and (target.suffix != ".md" or fragment not in anchors(target))):
            broken.append(link)
    assert broken == []


def test_there_are_pages_and_links() -> None:
    assert {"README.md", "architecture.md", "cli.md", "method.md"} <= {page.name for page in PAGES}
    assert len(_LINK.findall(prose(REPOSITORY / "README.md"))) > 10


COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def options(command: Any) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize(
    "name", ["README.md", "docs/cli.md", "docs/studies.md", "docs/accuracy.md", "docs/data.md", "docs/ci/README.md"]
)
def test_commands_take_the_options_that_pages_give_them(name: str) -> None:
    """A command line may go on in the next line, after a backslash or with more spaces in front."""
    text = (REPOSITORY / name).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"(?:^    |`|/)lrfdse ([a-z]+)((?:[^`\n]|\n {5,})*)", text, flags=re.MULTILINE)
    assert lines
    for command, rest in lines:
        assert command in COMMANDS, command
        given = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", rest.partition("#")[0]))
        assert given <= options(COMMANDS[command]), (command, given - options(COMMANDS[command]))


def test_options_in_the_readme_exist() -> None:
    elsewhere = {"--artifact-dir"}  # of optuna-dashboard
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", (REPOSITORY / "README.md").read_text(encoding="utf-8")))
    assert len(named) > 5
    assert named - elsewhere <= set().union(*map(options, COMMANDS.values()))


def test_the_table_of_options_is_whole() -> None:
    """Every option of every command stands in the table of docs/cli.md, under the commands that take it."""
    table: dict[str, set[str]] = {}
    for row in re.findall(r"^\| (`-.*)$", (REPOSITORY / "docs/cli.md").read_text(encoding="utf-8"), flags=re.MULTILINE):
        names, commands = row.split(" | ")[:2]
        for name in re.findall(r"-[-a-z0-9]+", names):
            table.setdefault(name, set()).update(commands.split(", "))
    taken: dict[str, set[str]] = {}
    for command, each in COMMANDS.items():
        for name in options(each) - {"--help"}:
            if name.startswith("-"):
                taken.setdefault(name, set()).add(command)
    assert table == taken


def test_the_readme_is_short_and_its_answer_is_that_of_its_results() -> None:
    """The block after the mark is what the command printed; the table of results says the same of the design."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert len(text) < 10_000
    (block,) = re.findall(r"<!-- the answer of .*?-->\n```text\n(.*?)\n```\n", text, flags=re.DOTALL)
    assert len(block.splitlines()) <= 20 and max(map(len, block.splitlines())) <= 88
    (identity,) = re.findall(r"^Recommended: ([0-9a-f]{8}) ", block)
    (row,) = re.findall(rf"^\| \*\*recommended.*`{identity}`.*$", text, flags=re.MULTILINE)
    (original,) = re.findall(r"^\| original, float32 .*$", text, flags=re.MULTILINE)
    kib, kib_before, fewer = re.findall(r"Weights +([\d,]+) KiB instead of ([\d,]+) KiB \(([\d.]+x)\)", block)[0]
    warm, warm_before, warm_factor = re.findall(r"warm: (\S+) us instead of (\S+) us \((\S+)\)", block)[0]
    cold, cold_before, cold_factor = re.findall(r"cold: (\S+) us instead of (\S+) us \((\S+)\)", block)[0]
    score, score_before, change = re.findall(r"Accuracy +([\d.]+)% instead of ([\d.]+)%: (\S+ ± \S+) points", block)[0]
    for cell in (f"{kib} KiB, {fewer}", f"{warm} us, modelled, {warm_factor}", f"{cold} us, modelled, {cold_factor}"):
        assert cell in row
    assert f"{score} %, {change}" in row
    for cell in (f"{kib_before} KiB", f"{warm_before} us", f"{cold_before} us", f"{score_before} %"):
        assert cell in original
