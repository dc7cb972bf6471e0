"""docs/program.md names what the rules are for and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

from lrfdse.program.lower import ANY, FLOAT
from lrfdse.program.refuse import UNKNOWN
from lrfdse.program.rules.normalization import DECOMPOSED

PAGE = (Path(__file__).parents[2] / "docs" / "program.md").read_text(encoding="utf-8")


def names_after(text):
    paragraph = PAGE.split(text, 1)[1].split("\n\n")[1]
    return set(re.findall(r"`(\w+)`", paragraph))


def test_every_rule_stands_on_the_page():
    assert names_after("only move elements:") == {*ANY, *FLOAT} - {DECOMPOSED}


def test_every_unknown_operator_stands_on_the_page():
    assert names_after("neither a rule nor Relax knows:") == UNKNOWN
