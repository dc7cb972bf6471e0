"""Reading what comes back from a board: banners before it, damage, and what is not believed."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrfdse.base.codec import to_plain
from lrfdse.board.result import BoardRun, board_line, read_run
from lrfdse.board.transport import ProcessResult
from lrfdse.errors import ToolError
from lrfdse.results.write import board_of

KERNEL = {
    "layer": "fc1",
    "use": 0,
    "outputs": 300,
    "inputs": 784,
    "rows": 1,
    "bias": True,
    "relu": False,
    "factorization": "svd:r=9",
    "schedule": "inner:16:5x1:u4|out:16:7x1:u4",
    "warm_ns": [2500.0, 2400.5, 2700.0],
    "cold_ns": [5500, 5400, 5800],
    "calls": 64,
    "max_error": 119e-9,
}
DOCUMENT = {
    "lrfdse_bench": 1,
    "version": "0.1.0",
    "target": "riscv64",
    "design": "0123abcd",
    "repeats": 21,
    "min_time_ms": 2,
    "kernels": [KERNEL],
    "all_ns": [2600.0, 2500.0, 2800.0],
    "all_calls": 64,
    "board": {
        "uname": {"sysname": "Linux", "release": "6.6.36", "machine": "riscv64", "nodename": "bpi\x1b[31m"},
        "cpuinfo": {"isa": "rv64imafdcv", "uarch": "spacemit,x60"},
        "governor": "performance",
        "frequency_khz": 1600000,
        "vector_bits": 256,
    },
}


def text_of(document) -> str:
    return json.dumps(document, separators=(",", ":")) + "\n"


def read(output: str, code: int = 0, errors: str = "") -> BoardRun:
    return read_run(ProcessResult(code, output, errors), "ssh", "0123abcd", "riscv64")


def test_times_are_microseconds_and_the_board_describes_itself():
    run = read(text_of(DOCUMENT))
    (kernel,) = run.kernels
    assert (kernel.warm.us, kernel.warm.low_us, kernel.warm.high_us) == (2.5, 2.4005, 2.7)
    assert (run.whole.us, run.repeats) == (2.6, 21)
    assert str(kernel.spec) == "300x784 svd:r=9 rows=1+bias"
    assert board_line(run.board) == (
        "Linux 6.6.36 riscv64 bpi [31m, spacemit,x60, rv64imafdcv, VLEN 256, governor performance, 1600 MHz"
    )
    told = to_plain(board_of(run))
    assert told["whole"] == {"us": 2.6, "low_us": 2.5, "high_us": 2.8}
    assert told["layers"][0]["latency"]["cold"] == {"us": 5.5, "low_us": 5.4, "high_us": 5.8}
    assert told["description"]["cpuinfo"]["isa"] == "rv64imafdcv"


@pytest.mark.parametrize("value", ["x", 5, [1], None, True])
def test_a_description_of_another_form_is_a_line_all_the_same(value):
    assert board_line({"uname": value, "cpuinfo": value}) == "a board that says nothing of itself"


@pytest.mark.parametrize("before", ["Welcome to Bianbu!\n", '{"not": "it"}\n', "\x00\xff\n", '{"lrfdse_bench":2}\n'])
@pytest.mark.parametrize("after", ["", "\r\n", "logout\n"])
def test_what_a_login_shell_prints_does_not_matter(before, after):
    assert read(before + text_of(DOCUMENT).replace("\n", "\r\n") + after).whole.us == 2.6


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        (
            (255, "", "Warning: added\nssh: connect to host board: Connection refused\n"),
            "status 255.*Connection refused",
        ),
        ((126, "", "sh: /tmp/tmp.x: cannot execute binary file: Exec format error"), "Exec format error"),
        ((0, "hello\n", ""), "status 0 and no result: it said nothing"),
        ((0, text_of(DOCUMENT)[:-20], ""), "no result"),
        ((1, text_of(DOCUMENT), ""), "status 1 after the program's result"),
    ],
)
def test_a_run_without_a_result_gives_the_last_words(ended, said):
    code, output, errors = ended
    with pytest.raises(ToolError, match=said):
        read(output, code, errors)


def test_the_programs_own_error_is_one_line_with_design_and_layer():
    document = {"lrfdse_bench": 1, "error": "wrong output\nlrfdse: all is well\x1b[2J", "kernel": {"layer": "a\nb"}}
    with pytest.raises(ToolError) as caught:
        read(text_of(document), 1)
    assert str(caught.value) == "on the board: design 0123abcd, layer 'a b': wrong output lrfdse: all is well [2J"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("design",), "ffffffff"),
        (("target",), "aarch64"),
        (("kernels", 0, "warm_ns"), [2, 3, 4]),
        (("kernels", 0, "warm_ns"), [2, 1]),
        (("kernels", 0, "warm_ns"), [float("nan")] * 3),
        (("kernels", 0, "cold_ns"), [-1, -2, -1]),
        (("kernels", 0, "max_error"), 2e-4),
        (("kernels", 0, "factorization"), "svd:r=0"),
        (("kernels", 0, "outputs"), 10**9),
        (("kernels", 0, "rows"), True),
        (("kernels", 0, "schedule"), "fast"),
        (("kernels", 0, "layer"), 5),
        (("kernels",), {"a": 1}),
        (("kernels",), [True]),
        (("kernels",), [None]),
        (("all_ns",), None),
        (("repeats",), 0),
        (("kernels", 0, "warm_ns"), [10**400] * 3),
        (("board", "frequency_khz"), 10**400),
        (("board", "frequency_khz"), float("inf")),
        (("board", "uname"), {"sysname": {"deep": 1}}),
        (("board", "uname"), ["list"]),
        (("board",), 7),
    ],
)
def test_a_document_that_says_something_else_is_refused(path, value):
    if path[-1] == "outputs":
        # A factorization of these sizes does not multiply to so many outputs.
        DOCUMENT_TT = copy.deepcopy(DOCUMENT)
        DOCUMENT_TT["kernels"][0]["factorization"] = "tt:m=300x1,n=4x196,r=9"
        document = DOCUMENT_TT
    else:
        document = copy.deepcopy(DOCUMENT)
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(ToolError, match="ssh"):
        read(text_of(document))


def test_the_name_of_another_program_stays_in_the_line():
    with pytest.raises(ToolError) as raised:
        read(text_of({**DOCUMENT, "target": "two\nlines"}))
    assert "two lines" in str(raised.value) and "\n" not in str(raised.value)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damage_is_an_error_and_never_a_crash(data):
    """Any value anywhere is replaced by any other: a run or a ToolError comes of it."""
    document = copy.deepcopy(DOCUMENT)
    place, key = document, data.draw(st.sampled_from([key for key in DOCUMENT if key != "lrfdse_bench"]))
    while isinstance(place[key], (dict, list)) and place[key] and data.draw(st.booleans()):
        place = place[key]
        key = data.draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
    anything = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just([]) | st.just({})
    place[key] = data.draw(anything)
    try:
        run = read(text_of(document))
        assert isinstance(run, BoardRun)
        assert "\n" not in board_line(run.board)
        json.dumps(to_plain(board_of(run)), allow_nan=False)
    except ToolError as error:
        assert "\n" not in str(error)
