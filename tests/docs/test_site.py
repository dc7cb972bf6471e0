"""The site of the documentation is built, with every warning an error, and its pages are those of docs/."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

import lrfdse
from scripts.site_links import on_page_markdown

TOP = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mkdocs") is None, reason="MkDocs is not installed: pip install '.[docs]'")
def test_the_site_is_built_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    path = os.pathsep.join(filter(None, [str(TOP), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=TOP, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    pages = {path.relative_to(TOP / "docs").with_suffix("") for path in (TOP / "docs").rglob("*.md")}
    made = {path.relative_to(tmp_path / "site").with_suffix("") for path in (tmp_path / "site").rglob("*.html")}
    assert {Path("ci/index") if page == Path("ci/README") else page for page in pages} == made - {Path("404")}
    reference = (tmp_path / "site" / "reference.html").read_text(encoding="utf-8")
    assert "Find the Pareto-optimal compressed versions of a model for a target" in reference
    # Nothing is loaded from other servers.
    assert "fonts.googleapis" not in reference and "unpkg.com" not in reference


def test_the_reference_has_every_public_name_where_it_is_defined():
    named = {f"{getattr(lrfdse, name).__module__}.{name}" for name in lrfdse.__all__ if name != "__version__"}
    assert set((TOP / "docs" / "reference.md").read_text(encoding="utf-8").split()) >= named


@pytest.mark.parametrize(
    ("page", "link", "text"),
    [
        ("cli.md", "[exit](#codes), [m](meter.md#x)", "[exit](#codes), [m](meter.md#x)"),
        ("cli.md", "[numbers](../results/a.md#b)", "numbers (`results/a.md` in the repository)"),
        ("ci/README.md", "[page](../cli.md#x)", "[page](../cli.md#x)"),
        ("ci/README.md", "[page](../../README.md)", "page (`README.md` in the repository)"),
        ("cli.md", "[CONTRIBUTING.md](../CONTRIBUTING.md)", "CONTRIBUTING.md"),
    ],
)
def test_links_that_leave_the_site_become_names_of_files(page, link, text):
    assert on_page_markdown(link, page=SimpleNamespace(file=SimpleNamespace(src_uri=page))) == text
