"""Schedules, packed weights and object files of operators; what is refused."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from functools import cache

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from lrfdse.errors import KernelError
from lrfdse.ir.factorization import Factorization, Step
from lrfdse.ir.kernel import KernelSpec, Schedule, StepSchedule
from lrfdse.ir.operators import Copy, Foreign, Operator, Softmax
from lrfdse.ir.products import Convolution, FullyConnected
from lrfdse.ir.window import Window
from lrfdse.kernels.build import compile_kernel
from lrfdse.kernels.layout import Tiling
from lrfdse.kernels.lines import crowds, crowds_in_place
from lrfdse.kernels.operators.build import compile_operator, packed_weight, schedules_of
from lrfdse.kernels.operators.symbols import undefined
from lrfdse.kernels.schedules import alternatives
from lrfdse.library.tuning import timed_schedules
from lrfdse.meters.whole import open_whole_meter
from lrfdse.targets.catalog import load_target, names
from tests.kernels.operators import cases
from tests.plugins.operators import Case

HOST = load_target("host")


@pytest.mark.slow
def test_every_schedule_gives_the_same(check_cases):
    made = [
        cases.fully_connected(31, 70, 67, 1, cases.ALL),
        cases.fully_connected(2, 33, 17, 50, cases.epilogue("channel")),
        cases.batched(2, 17, 19, 40, True, cases.BIAS),
        cases.convolution(cases.window(9, 3, 1), 8, 40, 1, cases.BIAS),
        cases.transposed(cases.window(12, 4, 1, strides=(2, 2)), 6, 20, cases.BIAS),
        cases.recurrence("gru", 3, 2, 40, False),
        cases.convolution(
            cases.window((6, 11), (3, 5), pads=(1, 2, 0, 1), batch=2, strides=(2, 1)), 21, 21, 21, cases.ALL
        ),
        cases.convolution(cases.window((9, 20), 3), 8, 8, 8, cases.BIAS),
    ]
    every = [
        dataclasses.replace(case, schedule=schedule) for case in made for schedule in schedules_of(case.operator, HOST)
    ]
    assert len(every) > 2 * len(made)
    check_cases(every, HOST)


@cache
def operators() -> list[Operator]:
    """Return all operators of the cases, whose expected results take a while."""
    return [case.operator for family in cases.FAMILIES.values() for case in family()]


@pytest.mark.slow
@pytest.mark.parametrize("target", names("targets"))
def test_every_operator_has_a_schedule(target):
    machine = load_target(target)
    assert {len(schedules_of(operator, machine)) for operator in operators()} <= {1, 2, 3, 4}


@pytest.mark.parametrize("target", [name for name in names("targets") if load_target(name).l1.ways < 16])
@pytest.mark.parametrize("inner", [1024, 2048, 3072])
def test_rows_of_a_tile_do_not_share_a_set_of_the_first_cache_level(target, inner):
    machine = load_target(target)
    way = 1024 * machine.l1.kib // machine.l1.ways
    step = Step(128, 256, inner, 1)
    assert alternatives(step, machine, 4, copies=True)
    for _, schedule in alternatives(step, machine, 4):
        if schedule.inner_block:
            # They are read from a copy, one tile after the other.
            continue
        rows = [4 * inner * row % way // machine.line for row in range(schedule.column_tile)]
        assert max(map(rows.count, rows)) < max(2, machine.l1.ways)


def test_parts_of_a_convolution_are_all_taps_of_channels_that_stay_in_the_first_level():
    machine = load_target("riscv64")
    for channels, image, strides in ((64, 56, 1), (128, 28, 2), (63, 14, 1)):
        window = Window(1, (image, image), (3, 3), (strides, strides), pads=(1, 1, 1, 1))
        first = StepSchedule.parse(schedules_of(Convolution(window, channels, 128), machine)[0])
        block, odd = divmod(first.inner_block, 9)
        assert block > 1 and odd == 0 and channels % block == 0
        assert 4 * first.inner_block * first.out_tile * first.lanes <= 768 * machine.l1.kib


@pytest.mark.parametrize("inner", [16, 9 * 48])
def test_parts_that_are_no_blocks_of_channels_are_refused(inner):
    operator = Convolution(Window(1, (8, 8), (3, 3)), 64, 64)
    schedule = f"out:8:4x4:u4:b{inner}x1x36"
    with pytest.raises(KernelError, match="no blocks of channels"):
        compile_operator(operator, schedule, load_target("riscv64"), "f")
    with pytest.raises(KernelError, match="no blocks of channels"):
        packed_weight(operator, schedule, load_target("riscv64"), np.zeros(64 * 64 * 9, np.float32))


@pytest.mark.slow
def test_a_convolution_is_faster_in_blocks_on_an_in_order_core():
    machine = load_target("riscv64")
    operator = Convolution(Window(1, (14, 14), (3, 3), pads=(1, 1, 1, 1)), 128, 64)
    timed = timed_schedules([operator], machine, open_whole_meter("model", machine), lambda event: None)[operator]
    inside = [us for us, schedule in timed if StepSchedule.parse(schedule).inner_block]
    outside = [us for us, schedule in timed if not StepSchedule.parse(schedule).inner_block]
    assert min(inside) < 0.9 * min(outside)


@pytest.mark.slow
def test_dilated_and_grouped_windows_cost_no_more_than_others_on_an_in_order_core():
    machine = load_target("riscv64")

    def of(image: int, channels: int, groups: int, kernel: int, **more: tuple[int, ...]) -> Convolution:
        return Convolution(Window(1, (image, image), (kernel, kernel), **more), channels, 64, groups)

    plain, dilated, grouped = of(10, 64, 1, 3), of(12, 64, 1, 3, dilations=(2, 2)), of(10, 128, 2, 3)
    first = of(29, 3, 1, 7, strides=(2, 2))
    operators = [plain, dilated, grouped, first]
    timed = timed_schedules(operators, machine, open_whole_meter("model", machine), lambda event: None)
    rates = {o: {schedule: o.macs / us for us, schedule in timed[o]} for o in operators}
    best = {o: rates[o][schedules_of(o, machine)[0]] for o in operators}
    assert min(best[dilated], best[grouped]) > 0.92 * best[plain]
    assert all(best[o] > 0.95 * max(rates[o].values()) for o in operators), "the estimate puts a good schedule first"


def test_rows_that_crowd_are_read_from_a_copy():
    """The copy is the work buffer: a row of a dense layer is a cache line longer there than in x."""
    machine = load_target("riscv64")
    chosen = Schedule.parse("out:8:2x13:u2")
    for inputs, elements in ((1008, None), (1024, 128 * (1024 + machine.line // 4))):
        spec = KernelSpec(256, inputs, Factorization.dense(256, inputs), 128, True, False)
        listed = compile_kernel(spec, chosen, machine, "f").arguments
        assert {a.name: a.size for a in listed}.get("work0") == elements
        operator = FullyConnected(Step(128, 256, inputs, 1))
        made = compile_operator(operator, str(chosen), machine, "f")
        assert made.work == (0 if elements is None else 4 * elements)


def test_rows_apart_by_a_line_do_not_crowd():
    machine = load_target("riscv64")
    tiling = Tiling.of(Step(128, 256, 1024, 1), StepSchedule("out", 16, 1, 13))
    assert crowds(tiling, machine, 1024)
    assert not crowds(tiling, machine, 1024 + machine.line // 4)


def test_rows_that_share_a_line_do_not_crowd():
    machine = load_target("riscv64")
    # Sixteen floats are a line: fourteen neighbouring pixels of one channel lie in one, of four channels in four.
    tiling = Tiling.of(Step(28, 6, 25, 1), StepSchedule("out", 6, 1, 14))
    assert not crowds(tiling, machine, 1) and not crowds(tiling, machine, 4)
    # Whole ways apart, each row is a line of its own, in the same set.
    assert crowds(tiling, machine, 256 * machine.l1.kib // machine.l1.ways)
    block = StepSchedule("out", 8, 4, 5, 4, 64, 1, 40, in_place=True)
    assert not crowds_in_place(Tiling.of(Step(40, 32, 128, 1), block), machine, 4)


def test_neighbouring_pixels_of_few_channels_are_taken_together():
    # A first layer of one channel: tiles of three pixels were the largest while their shared line counted for each.
    first = Convolution(Window(1, (32, 32), (5, 5), (1, 1), (1, 1), (0, 0, 0, 0)), 1, 6, 1)
    chosen = StepSchedule.parse(schedules_of(first, load_target("riscv64"))[0])
    assert chosen.column_tile >= 7


def test_a_weight_of_another_size_is_no_weight_of_the_operator():
    operator = FullyConnected(Step(1, 3, 4, 1))
    with pytest.raises(ValueError, match="11 elements"):
        packed_weight(operator, schedules_of(operator, HOST)[0], HOST, np.zeros(11, np.float32))
    with pytest.raises(ValueError, match="11 elements"):
        packed_weight(Softmax(2, 3), "", HOST, np.zeros(11, np.float32))


def test_a_packed_weight_holds_every_element():
    operator = Convolution(Window(1, (8, 8), (3, 3)), 5, 24)
    weight = np.arange(1, operator.ports[1].size + 1, dtype=np.float32)
    for schedule in schedules_of(operator, HOST):
        assert set(packed_weight(operator, schedule, HOST, weight)) - {0} == set(weight)


def test_what_32_bit_indices_do_not_reach_is_refused():
    operator = Copy((2**31,), 0, (1,), 0, (1,), 2**31, 2**31)
    with pytest.raises(KernelError, match="32-bit"):
        compile_operator(operator, "", HOST, "f")


def test_a_symbol_is_an_identifier():
    with pytest.raises(KernelError, match="identifier"):
        compile_operator(Softmax(2, 3), "", HOST, "a-b")


def test_undefined_symbols_are_those_that_llvm_finds(tmp_path):
    if not (nm := shutil.which("llvm-nm-22")):
        pytest.skip("llvm-nm-22 is not installed")
    source = tmp_path / "a.c"
    source.write_text("extern int f(int), g; int h(int x) { return f(x) + g; }")
    subprocess.run(["gcc", "-c", "-O1", str(source), "-o", str(tmp_path / "a.o")], check=True)
    listed = subprocess.run([nm, "-u", "-j", str(tmp_path / "a.o")], capture_output=True, text=True, check=True)
    found = undefined((tmp_path / "a.o").read_bytes())
    assert sorted(found) == sorted(listed.stdout.split()) != []


FOREIGN = {
    "Softplus": "(float[3,5] x) => (float[3,5] y) { y = Softplus(x) }",
    "Selu": "(float[3,5] x) => (float[3,5] y) { y = Selu(x) }",
    "ArgMax": "(float[3,5] x) => (int64[3] y) { y = ArgMax <axis = 1, keepdims = 0> (x) }",
    "Trilu": "(float[7,6] x) => (float[7,6] y) { y = Trilu <upper = 0> (x) }",
    "Where": "(bool[3,5] c, float[3,5] x, float[5] z) => (float[3,5] y) { y = Where(c, x, z) }",
    "Cast": "(int64[40] x) => (float[40] y) { y = Cast <to = 1> (x) }",
    "Tile": "(float[3,50] x) => (float[6,150] y) <int64[2] n = {2, 3}> { y = Tile(x, n) }",
    "GatherElements": "(float[3,5] x, int64[3,4] i) => (float[3,4] y) { y = GatherElements <axis = 1> (x, i) }",
    "Add": "(float[1000] x) => (float[1000] y) <float[1] n = {0.25}> { y = Add(x, n) }",
    "DepthToSpace": "(float[1,8,6,7] x) => (float[1,2,12,14] y) { y = DepthToSpace <blocksize = 2> (x) }",
    "ReduceLogSumExp": "(float[3,50] x) => (float[3] y) <int64[1] a = {1}> { y = ReduceLogSumExp<keepdims = 0>(x, a) }",
    "QuantizeLinear": "(float[3,50] x) => (int8[3,50] y) <float[1] s = {0.01}, int8[1] z = {3}> "
    "{ y = QuantizeLinear(x, s, z) }",
    "Exp": "(double[3,50] x) => (double[3,50] y) { y = Exp(x) }",
    "Softmax": "(double[3,50] x) => (double[3,50] y) { y = Softmax <axis = 1> (x) }",
    "Conv": "(float[1,2,9,9] x, float[3,2,3,3] w) => (float[1,3,9,9] y) { y = Conv <pads = [1, 1, 1, 1]> (x, w) }",
}


def foreign(name: str) -> Case:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> g {FOREIGN[name]}')
    rng = np.random.default_rng(0)
    arrays = []
    for value in ir.from_proto(model).graph.inputs:
        shape, kind = [int(extent) for extent in value.shape], value.dtype.numpy()
        drawn = rng.standard_normal(shape) if np.issubdtype(kind, np.floating) else rng.integers(0, 2, shape)
        arrays.append(drawn.astype(kind))
    inputs = {value.name: array for value, array in zip(model.graph.input, arrays, strict=True)}
    expected = ReferenceEvaluator(model).run(None, inputs)
    described = [tuple((a.size, str(a.dtype)) for a in some) for some in (arrays, expected)]
    return Case(Foreign(model.SerializeToString(), name, *described), arrays, expected)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["host", "riscv64", "riscv64-u74", "aarch64", "armv7"])
def test_foreign_nodes_give_what_onnx_defines(target, check_cases):
    # LLVM calls a library for these; no program has a convolution as a foreign node.
    refused = {"riscv64-u74": "Conv"}.get(target)
    check_cases([foreign(name) for name in FOREIGN if name != refused], load_target(target))


LONGS = np.array([0, 1, -1, 2**31, -(2**31), 2**32 + 5, -(2**32) - 5, 2**40 + 2**20, -(2**53), 2**53 - 1, -(2**62), 7])


@pytest.mark.slow
@pytest.mark.parametrize("target", ["host", "armv7"])
def test_integers_of_64_bits_become_floats_and_back(target, check_cases):
    cases = []
    for real, name, number in ((np.float32, "float", 1), (np.float64, "double", 11)):
        floats = LONGS.astype(real)
        parts = floats * real(0.75)
        for text, given, expected in (
            (f"(int64[12] x) => ({name}[12] y) {{ y = Cast <to = {number}> (x) }}", LONGS, floats),
            (f"({name}[12] x) => (int64[12] y) {{ y = Cast <to = 7> (x) }}", parts, parts.astype(np.int64)),
        ):
            model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> g {text}')
            ports = ((12, str(given.dtype)),), ((12, str(expected.dtype)),)
            cases.append(Case(Foreign(model.SerializeToString(), "Cast", *ports), [given], [expected]))
    check_cases(cases, load_target(target))


DIVIDED = np.array([*LONGS, 2**63 - 1, -(2**63), 10**12, -17, 17, 6, -6, 2**33])


@pytest.mark.slow
@pytest.mark.parametrize("target", ["host", "riscv64-u74", "armv7"])
def test_integers_of_64_bits_are_divided(target, check_cases):
    cases = []
    for divisor in (1, -1, 3, -7, 10**10, -(2**40) - 1, 2**63 - 1):
        by = np.full(20, divisor)
        if divisor == -1:
            # The least number less one sign is none.
            by[13] = 3
        with np.errstate(all="ignore"):
            rest = np.mod(DIVIDED, by)
            towards_zero = np.fmod(DIVIDED, by)
        quotient = [
            int(a) // int(b) if (a < 0) == (b < 0) else -(abs(int(a)) // abs(int(b)))
            for a, b in zip(DIVIDED, by, strict=True)
        ]
        for name, attribute, expected in (
            ("Div", "", np.array(quotient)),
            ("Mod", "", rest),
            ("Mod", "<fmod = 1>", towards_zero),
        ):
            text = f"(int64[20] a, int64[20] b) => (int64[20] y) {{ y = {name} {attribute} (a, b) }}"
            model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> g {text}')
            ports = ((20, "int64"), (20, "int64")), ((20, "int64"),)
            cases.append(Case(Foreign(model.SerializeToString(), name, *ports), [DIVIDED, by], [expected], 0))
    check_cases(cases, load_target(target))


def test_foreign_indices_are_clipped(check_cases):
    case = foreign("GatherElements")
    x, indices = case.arrays[0], np.array([[0, 4, 5, 10**12], [-1, -5, -6, -(10**12)], [1, 2, 3, 99]])
    expected = np.take_along_axis(x, np.clip(np.where(indices < 0, indices + 5, indices), 0, 4), 1)
    check_cases([dataclasses.replace(case, arrays=[x, indices], expected=[expected])], HOST)


@pytest.mark.parametrize("name", ["ArgMax", "ArgMin"])
def test_the_index_of_one_of_endless_numbers_is_one(name, check_cases):
    sign = 1 if name == "ArgMax" else -1
    least = np.finfo(np.float32).min
    rows = [[-np.inf] * 5, [least] * 5, [-np.inf, -1, -np.inf, 3, 3], [least, -np.inf, least, 0, -2]]
    x = sign * np.array(rows, np.float32)
    text = f"(float[4,5] x) => (int64[4] y) {{ y = {name} <axis = 1, keepdims = 0> (x) }}"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> g {text}')
    operator = Foreign(model.SerializeToString(), name, ((20, "float32"),), ((4, "int64"),))
    check_cases([Case(operator, [x], [np.array([0, 0, 3, 3])])], HOST)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "(float[1,1,2,4] x) => (float[1,1,1,2] y) <float[4] s = {1.0, 1.0, 0.5, 0.5}> "
            '{ y = Resize <mode = "linear", antialias = 1> (x, , s) }',
            "Resize.*antialias",
        ),
        ("(float[8] x) => (float[3] y, int64[3] i) <int64[1] k = {3}> { y, i = TopK(x, k) }", "TopK"),
        ("(float[8] x) => (float[8] y) { y = Sinh(x) }", "Sinh.*sinhf"),
        ("(float[8] x) => (bool[8] y) { y = IsInf <detect_negative = 0> (x) }", "IsInf.*detect_negative"),
    ],
)
def test_a_foreign_node_that_cannot_be_compiled_is_named(text, words):
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> g {text}')
    name = model.graph.node[0].op_type
    outputs = {"TopK": ((3, "float32"), (3, "int64")), "IsInf": ((8, "bool"),), "Resize": ((2, "float32"),)}.get(
        name, ((8, "float32"),)
    )
    with pytest.raises(KernelError, match=words):
        compile_operator(Foreign(model.SerializeToString(), name, ((8, "float32"),), outputs), "", HOST, "f")


def test_what_tvm_says_of_a_node_is_short_and_nothing_is_printed(capfd):
    text = "(int32[8] x) => (int32[1] y) { y = ReduceL2 (x) }"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> g {text}')
    operator = Foreign(model.SerializeToString(), "ReduceL2", ((8, "int32"),), ((1, "int32"),))
    with pytest.raises(KernelError, match=r"TVM's Relax says: relax\.sqrt requires") as refused:
        compile_operator(operator, "", HOST, "f")
    assert "ir.Op(" not in str(refused.value) and capfd.readouterr().out == ""
