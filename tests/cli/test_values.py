"""Option values: what is read, and the line that refuses the rest."""

from __future__ import annotations

import pytest

from lrfdse.cli.values import parse_count, parse_drop, parse_latency, parse_shapes, parse_size, parse_values
from lrfdse.errors import InputError


@pytest.mark.parametrize(("text", "value"), [("7", 7), ("60k", 60_000), ("1.5M", 1_500_000)])
def test_counts(text, value):
    assert parse_count(text, "--max-params") == value


@pytest.mark.parametrize(("text", "value"), [("7", 7), ("128k", 131_072), ("1.5 MiB", 1_572_864), ("1KiB", 1024)])
def test_sizes(text, value):
    assert parse_size(text, "--max-size") == value


@pytest.mark.parametrize(("text", "value"), [("200", 200.0), ("200us", 200.0), ("0.5 ms", 500.0), ("1s", 1e6)])
def test_latencies(text, value):
    assert parse_latency(text, "--max-latency") == value


@pytest.mark.parametrize(("text", "value"), [("1%", 0.01), ("0", 0.0), ("2.5", 0.025)])
def test_drops(text, value):
    assert parse_drop(text, "--max-drop") == value


def test_shapes():
    assert parse_shapes(["x=1x3x48x320", "a=b=2"]) == {"x": (1, 3, 48, 320), "a=b": (2,)}


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_count, "many"),
        (parse_count, "-5"),
        (parse_count, "0"),
        (parse_count, "0.4"),
        (parse_size, "0"),
        (parse_size, "0.5"),
        (parse_size, "12 GB"),
        (parse_latency, "0us"),
        (parse_latency, "5 minutes"),
        (parse_drop, "101%"),
        (parse_drop, "-1%"),
        (parse_drop, "nan"),
    ],
)
def test_what_cannot_be_read_is_one_line_with_the_option(parse, text):
    with pytest.raises(InputError, match=f"--option takes .*{text}"):
        parse(text, "--option")


@pytest.mark.parametrize("text", ["1x2", "x=", "x=0x2", "x=1xax", "=1"])
def test_wrong_shapes(text):
    with pytest.raises(InputError, match="--shape takes NAME=SIZES"):
        parse_shapes([text])


@pytest.mark.parametrize("text", ["sr", "sr=", "=1", "sr=fast", "sr=nan", "sr=inf", "sr=1x2", "sr=0x10", "sr=1 2"])
def test_wrong_values(text):
    with pytest.raises(InputError, match="--value takes NAME=NUMBER"):
        parse_values([text])


@pytest.mark.parametrize(
    ("parse", "texts", "option"),
    [
        (parse_shapes, ["x=1x3", "z=2", "x=2x3"], "--shape"),
        (parse_values, ["sr=16000", "sr=8000"], "--value"),
    ],
)
def test_an_input_is_fixed_once(parse, texts, option):
    name = texts[0].partition("=")[0]
    with pytest.raises(InputError, match=f"{option} is given twice for input '{name}'"):
        parse(texts)
