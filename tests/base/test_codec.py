"""The codec: dataclasses as JSON and back, checked on the way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lrfdse.base.codec import KEY, expected, from_plain, to_plain
from lrfdse.errors import InputError


@dataclass(frozen=True)
class Part:
    at: tuple[int, float]
    kind: Literal["a", 1]


@dataclass(frozen=True)
class Whole:
    name: str
    parts: tuple[Part, ...]
    table: Mapping[str, float | None]
    inside: bool = field(metadata={KEY: "in"})
    path: Path = Path("x")
    free: Any = None
    listed: tuple[str, ...] = expected(())


wholes = st.builds(
    Whole,
    st.text(max_size=5),
    st.lists(
        st.builds(
            Part,
            st.tuples(st.integers(-(10**300), 10**300), st.floats(allow_nan=False, allow_infinity=False)),
            st.sampled_from(["a", 1]),
        )
    ).map(tuple),
    st.dictionaries(st.text(max_size=5), st.none() | st.floats(allow_nan=False, allow_infinity=False)),
    st.booleans(),
    st.just(Path("a/b")),
    st.none() | st.lists(st.integers(), max_size=3),
    st.lists(st.text(max_size=5), max_size=3).map(tuple),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(wholes)
def test_what_goes_out_as_json_comes_back(noun):
    plain = json.loads(json.dumps(to_plain(noun), allow_nan=False))
    assert "in" in plain
    assert from_plain(Whole, plain) == noun


GOOD = {"name": "n", "parts": [{"at": [1, 2.0], "kind": "a"}], "table": {"k": 1.0}, "in": True, "listed": []}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": 3}, "Whole.name must be a text, but is 3"),
        ({"parts": {}}, "Whole.parts must be a list, but is {}"),
        ({"parts": [{"at": [1], "kind": "a"}]}, "Whole.parts[0].at must be 2 values, but is [1]"),
        ({"parts": [{"at": [True, 1], "kind": "a"}]}, "Whole.parts[0].at[0] must be a whole number, but is True"),
        ({"parts": [{"at": [1, 1e999], "kind": "a"}]}, "Whole.parts[0].at[1] must be a finite number, but is inf"),
        ({"parts": [{"at": [1, 1], "kind": True}]}, "Whole.parts[0].kind must be one of 'a', 1, but is True"),
        ({"table": {"k": "v"}}, "Whole.table.k must be a finite number, but is 'v'"),
        ({"in": None}, "Whole.in must be true or false, but is None"),
        ({"inside": True}, "Whole.inside is unknown: the keys are name, parts, table, in, path, free, listed"),
    ],
)
def test_what_does_not_fit_is_said_with_its_key(change, said):
    with pytest.raises(InputError) as told:
        from_plain(Whole, {**GOOD, **change})
    assert str(told.value) == said


def test_fields_that_a_whole_object_has_may_be_left_out_of_a_part_of_it():
    cut = {key: value for key, value in GOOD.items() if key != "listed"}
    assert from_plain(Whole, cut, partial=True).listed == ()
    with pytest.raises(InputError, match=r"file: listed is missing"):
        from_plain(Whole, cut, "file:")


def test_unknown_keys_are_passed_over_on_demand_only():
    assert from_plain(Whole, {**GOOD, "new": 1}, unknown=True) == from_plain(Whole, GOOD)
