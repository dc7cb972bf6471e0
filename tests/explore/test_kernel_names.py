"""What the files of a design's kernels are called: no two headers declare the same C function."""

from __future__ import annotations

import pytest

from lrfdse.deploy.designs import kernel_names, symbol_of
from lrfdse.ir.layer import Layer, Use


def layer(name, uses=1):
    return Layer(name, 8, 8, (Use(name, 1, False, False),) * uses, 0, "digest")


@pytest.mark.parametrize(
    "names",
    [
        ["fc1", "fc2"],
        ["a/b", "a.b", "a_b"],
        ["fc", "fc_supported"],
        ["fc_supported", "fc"],
        ["fc.supported", "fc", "fc_"],
        ["fc_supported_supported", "fc_supported", "fc"],
    ],
)
def test_no_two_headers_declare_the_same(names):
    listed = kernel_names([layer(name, uses=2) for name in names])
    symbols = [symbol_of(name) for each in names for name in listed[each]]
    declared = [*symbols, *(f"{symbol}_supported" for symbol in symbols)]
    assert len(declared) == len(set(declared)) == 4 * len(names)


def test_names_that_do_not_meet_stay_as_they_are():
    assert kernel_names([layer("fc1"), layer("block/fc2", uses=2)]) == {
        "fc1": ["fc1"],
        "block/fc2": ["block/fc2", "block/fc2.2"],
    }
