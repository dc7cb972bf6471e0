"""ONNX's own tests of single operators as machine code: a sample of each, in one library on the host, and elsewhere."""

from __future__ import annotations

import ctypes
import dataclasses
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from lrfdse.base.events import silent
from lrfdse.base.store import Store
from lrfdse.errors import InputError, KernelError
from lrfdse.ir.operators import Foreign
from lrfdse.ir.program import Call, Interface, Program
from lrfdse.kernels.operators.build import compile_operator
from lrfdse.library.compiling import compile_program, pack_for
from lrfdse.library.interface import signature
from lrfdse.library.layout import lay_out
from lrfdse.library.objects import make_code
from lrfdse.program.lower import program
from lrfdse.program.memory import plan
from lrfdse.targets.catalog import load_target
from lrfdse.toolchain.programs import require_zig
from lrfdse.toolchain.zig import run_zig
from tests.program.test_onnx_nodes import OTHERS, array_of, with_constants

pytestmark = pytest.mark.slow

TRIES = 2
"""Cases of an operator that are tried, the smallest first: one may be refused for a form that others do not have."""


def samples():
    """Return the cases of each operator, the smallest first."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    found = defaultdict(list)
    for case in cases:
        kinds = {node.op_type for node in case.model.graph.node}
        if len(kinds) == 1 and case.name not in OTHERS and not is_empty(case):
            found[kinds.pop()].append(case)
    return {
        operator: sorted(each, key=lambda case: case.model.ByteSize() + size_of(case))
        for operator, each in found.items()
    }


def is_empty(case):
    """Return whether a tensor of the case has no elements: models of such are refused whatever the operator."""
    arrays = [each for some in case.data_sets[0] for each in some if not isinstance(each, list) and each is not None]
    return any(array_of(each).size == 0 for each in arrays)


def size_of(case):
    inputs = case.data_sets[0][0]
    return sum(array_of(each).nbytes for each in inputs if not isinstance(each, list))


def joined(programs):
    """Return programs one after the other as one; names are numbered."""
    values, calls, inputs, outputs, constants = [], [], [], [], {}
    for number, each in enumerate(programs):
        first = len(values)
        values += [dataclasses.replace(value, name=f"{number}_{value.name}") for value in each.values]
        calls += [Call(call.operator, tuple(first + a for a in call.arguments), call.nodes) for call in each.calls]
        for made, given in ((inputs, each.inputs), (outputs, each.outputs)):
            made += [Interface(f"{number}_{one.name}", first + one.value, one.shape) for one in given]
        constants |= {first + place: content for place, content in each.constants.items()}
    return Program(tuple(values), tuple(calls), tuple(inputs), tuple(outputs), constants)


def run(whole, feeds, target, cache, folder):
    """Return what a library of the program gives on the host."""
    functions = compile_program(whole, "net", target, Path("nodes"), cache, silent)
    layout = lay_out(whole, plan(whole, [function.work for function in functions]), functions, pack_for(target))
    code = make_code(signature("net", whole, layout, weights_file=False), layout, target)
    (folder / "net.o").write_bytes(code.object_code)
    run_zig([require_zig().path, "ld.lld", "-shared", str(folder / "net.o"), "-o", str(folder / "net.so")], "linking")
    given = [np.ascontiguousarray(each) for each in feeds]
    made = [np.zeros(port.shape, whole.values[port.value].element) for port in whole.outputs]
    arena = np.zeros(layout.arena + 64, np.uint8)
    arena = arena[-arena.ctypes.data % 64 :]
    pointers = [(ctypes.c_void_p * len(some))(*(each.ctypes.data for each in some)) for some in (given, made)]
    assert ctypes.CDLL(str(folder / "net.so")).net_run(*pointers, ctypes.c_void_p(arena.ctypes.data)) == 0
    return made


def test_a_hundred_operators_compute_what_onnx_says_and_all_others_are_refused_by_name(tmp_path):
    target, cache = load_target("host"), Store(tmp_path)
    taken, refused = {}, {}
    for operator, cases in samples().items():
        for case in cases[:TRIES]:
            model, given, constants = with_constants(case)
            try:
                made = program(ir.from_proto(model))
                compile_program(made, "net", target, Path("node"), cache, silent)
            except InputError as error:
                refused.setdefault(operator, str(error))
                continue
            inputs, outputs = case.data_sets[0]
            feeds = {name: array_of(a) for name, a in zip(given, inputs, strict=True) if name not in constants}
            expected = dict(zip((port.name for port in made.outputs), map(array_of, outputs), strict=True))
            taken[operator] = made, [feeds[port.name] for port in made.inputs], list(expected.values()), case
            break
    programs = [made for made, _, _, _ in taken.values()]
    found = iter(
        run(joined(programs), [x for _, feeds, _, _ in taken.values() for x in feeds], target, cache, tmp_path)
    )
    wrong = []
    for operator, (_, _, expected, case) in taken.items():
        for want in expected:
            got = next(found)
            same = got.shape == want.shape and got.dtype == want.dtype
            close = {"rtol": max(case.rtol, 1e-4), "atol": max(case.atol, 1e-6), "equal_nan": True}
            if not same or not np.allclose(got.astype(np.float64), want.astype(np.float64), **close):
                wrong.append(f"{operator} ({case.name})")
    assert not wrong
    assert len(taken) >= 100, sorted(taken)
    left = set(refused) - set(taken)
    # Operators of constants alone are gone before anything could refuse them; one is spelled out as a loop by ONNX.
    folded = {operator for operator in left if refused[operator].endswith("the model has no input to run it on")}
    left -= folded
    unnamed = {operator: refused[operator] for operator in left if operator not in refused[operator]}
    unnamed.pop("LinearAttention", None)
    assert not unnamed
    print(f"{len(taken)} operators are right, {len(left)} are refused: {', '.join(sorted(left))}")


@pytest.mark.parametrize("target", ["riscv64-u74", "armv7"])
def test_foreign_nodes_that_the_host_compiles_need_no_library_elsewhere_either(target):
    refused, count = [], 0
    for operator, cases in samples().items():
        for case in cases[:TRIES]:
            model, _, _ = with_constants(case)
            try:
                calls = program(ir.from_proto(model)).calls
                foreign = {call.operator for call in calls if isinstance(call.operator, Foreign)}
                for each in foreign:
                    compile_operator(each, "", load_target("host"), "f")
            except (InputError, KernelError):
                continue
            for each in foreign:
                count += 1
                try:
                    compile_operator(each, "", load_target(target), "f")
                except KernelError as error:
                    refused.append(f"{operator} ({case.name}): {error}")
    assert not refused
    assert count >= 60
