"""The texts of a library: names, header, driver, vectors, Makefile; and what lies where."""

from __future__ import annotations

import dataclasses
import hashlib
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfdse.errors import InputError
from lrfdse.ir.compiled import CompiledOperator
from lrfdse.ir.program import Interface
from lrfdse.library.driver import driver
from lrfdse.library.interface import ERRORS, header, signature
from lrfdse.library.layout import LINE, Place, lay_out
from lrfdse.library.make import MOST_INSIDE, require_room
from lrfdse.library.names import checked_name, comment
from lrfdse.library.texts import makefile, readme
from lrfdse.library.vectors import FILE, MOST_IN_HEADER, Vectors, vectors_files
from lrfdse.targets.catalog import load_target
from tests.library.conftest import SOURCES, TARGETS, lookup_program, reversed_weight


def uncompiled(made, name="net"):
    symbols = {operator: f"{name}_{number:03d}" for number, operator in enumerate(SOURCES)}
    return [
        CompiledOperator(call.operator, "c", "host", symbols[call.operator], b"", SOURCES[call.operator][1])
        for call in made.program.calls
    ]


@pytest.fixture
def laid_out():
    made = lookup_program()
    return made, lay_out(made.program, made.plan, uncompiled(made), reversed_weight)


@pytest.mark.parametrize("name", ["net", "A", "mobilenet_v2", "x" * 40])
def test_names_that_are_identifiers(name):
    assert checked_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "1net", "_net", "a-b", "a b", "näh", "int", "class", "main", "x" * 41, "net\n", "net;", "../net"]
)
def test_other_names_are_refused(name):
    with pytest.raises(InputError, match="--name") as refused:
        checked_name(name)
    assert "\n" not in str(refused.value)


@given(st.text())
def test_a_name_of_a_tensor_stays_in_its_comment(text):
    shown = comment(text)
    assert not re.search(r"\*/|/\*|\?\?|\n|\r|\\", shown)


def test_every_parameter_points_to_where_its_array_lies(laid_out):
    made, layout = laid_out
    constants = {
        argument: np.frombuffer(layout.weights, np.float32, value.size, at.at)
        for step in layout.steps
        for argument, at in zip(step.call.arguments, step.places, strict=False)
        if (value := made.program.values[argument]).kind == "constant"
    }
    assert np.array_equal(constants[1], made.program.constants[1])
    assert np.array_equal(constants[3], made.program.constants[3][::-1])
    assert np.array_equal(constants[4], made.program.constants[4])
    assert [step.places for step in layout.steps][2:] == [
        (Place("arena", 64), Place("arena", 0)),
        (Place("arena", 0), Place("output", 0)),
        (Place("output", 0), Place("output", 1)),
    ]
    assert layout.steps[0].places[1:] == (Place("input", 0), Place("arena", 0))
    assert layout.steps[1].places[-1] == Place("arena", 192)
    assert (layout.arena, layout.alignment) == (256, 64)


def test_weights_are_aligned_once_each_and_known_by_their_digest(laid_out):
    made, layout = laid_out
    places = {place.at for step in layout.steps for place in step.places if place.where == "weights"}
    assert all(at % LINE == 0 and at >= LINE for at in places)
    assert layout.weights[:8] == b"LRFNETW1"
    assert layout.weights[8:40] == hashlib.sha256(layout.weights[LINE:]).digest()
    twice = dataclasses.replace(
        made.program,
        constants={**made.program.constants, 1: made.program.constants[1] * 0, 3: made.program.constants[3] * 0},
    )
    smaller = lay_out(
        dataclasses.replace(twice, constants={**twice.constants, 3: twice.constants[1][:30]}),
        made.plan,
        uncompiled(made),
        lambda compiled, array: array,
    )
    # A table of zeros and a shorter matrix of zeros are two arrays; two equal ones are one.
    assert len(smaller.weights) == len(layout.weights)


def test_programs_and_functions_that_do_not_belong_together_are_refused(laid_out):
    made, _ = laid_out
    with pytest.raises(ValueError, match="is another"):
        lay_out(made.program, made.plan, uncompiled(made)[::-1], reversed_weight)
    swapped = dataclasses.replace(made.program, outputs=(Interface("y", 6, (3, 6)), made.program.outputs[1]))
    with pytest.raises(ValueError, match="no output of its own"):
        lay_out(swapped, made.plan, uncompiled(made), reversed_weight)


@pytest.mark.parametrize("name", TARGETS)
def test_the_header_says_everything(laid_out, name):
    made, layout = laid_out
    facts = signature("net", made.program, layout, weights_file=False)
    text = header(facts, load_target(name), "a */ model.onnx")
    numbers = dict(re.findall(r"#define NET_(\w+) (\d+)", text))
    assert numbers == {
        "ARENA_BYTES": "256",
        "ARENA_ALIGN": "64",
        "INPUTS": "1",
        "INPUT_0_BYTES": "24",
        "OUTPUTS": "2",
        "OUTPUT_0_BYTES": "72",
        "OUTPUT_1_BYTES": "72",
    }
    assert "inputs[0] is ids * / of words: int64, 3; elements of type int64_t" in text
    assert "int net_run(const void *const inputs[NET_INPUTS], void *const outputs[NET_OUTPUTS], void *arena);" in text
    assert "int net_supported(void);" in text
    assert [f"NET_{error} = {number}" in text for number, (error, _) in enumerate(ERRORS)] == [True] * len(ERRORS)
    assert load_target(name).needs.words in " ".join(text.replace(" * ", "").split())


def test_equal_operators_share_a_function_and_marks_stand_before_every_call(laid_out):
    made, layout = laid_out
    source = driver(signature("net", made.program, layout, weights_file=False), layout, load_target("riscv64"))
    assert source.count("HIDDEN void net_") == 4
    run = source[source.index("int net_run") :]
    assert re.findall(r"MARK\(\);\n    (net_\d+)\(", run) == ["net_000", "net_001", "net_002", "net_002", "net_003"]


@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8", "bool", "float16"])
def test_vectors_hold_the_bits(laid_out, dtype):
    made, layout = laid_out
    facts = signature("net", made.program, layout, weights_file=False)
    array = np.array([0, 1, 3.5, 200]).astype(dtype)
    text, file = vectors_files(facts, Vectors((array,), (array,)))
    assert file is None
    (numbers,) = re.findall(r"net_input_0\[\] = \{([^}]*)\}", text)
    read = np.array([int(number, 16) for number in numbers.split(",")], f"u{array.itemsize}")
    assert np.array_equal(read.view(array.dtype), array)


def test_large_vectors_are_a_file(laid_out):
    made, layout = laid_out
    facts = signature("net", made.program, layout, weights_file=False)
    large, small = np.arange(MOST_IN_HEADER // 8), np.arange(5, dtype=np.float32)
    text, file = vectors_files(facts, Vectors((large,), (small,)))
    at = {name: int(number) for name, number in re.findall(r"#define NET_(\w+) (\d+)", text)}
    assert file is not None
    assert len(file) == at["TEST_BYTES"]
    assert np.array_equal(np.frombuffer(file, np.int64, large.size, at["INPUT_0_AT"]), large)
    assert np.array_equal(np.frombuffer(file, np.float32, small.size, at["OUTPUT_0_AT"]), small)
    assert at["OUTPUT_0_AT"] % LINE == 0
    assert FILE in readme(facts, load_target("riscv64"), "model", [FILE])


def test_the_readme_and_the_makefile_name_the_emulator(laid_out):
    made, layout = laid_out
    facts = signature("net", made.program, layout, weights_file=True)
    target = load_target("riscv64")
    command = " ".join(target.emulator)
    assert command in makefile(facts, target)
    text = readme(facts, target, "m|`.onnx", [])
    assert command in text
    assert "net_weights.bin" in text
    assert "m/'.onnx" in text


def test_more_weights_than_a_library_holds_are_refused():
    made = lookup_program()
    require_room(made.program)
    large = np.broadcast_to(np.float32(0), MOST_INSIDE // 4)
    with pytest.raises(InputError, match=r"1,024 MiB of weights, but .* use --weights file"):
        require_room(dataclasses.replace(made.program, constants={**made.program.constants, 1: large}))
