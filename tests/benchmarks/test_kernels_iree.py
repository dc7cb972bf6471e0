"""Reading IREE's host program, on a text in the form that IREE 3.13 writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.kernels.iree_schedule import COPY, UnsupportedError, read

TEXT = Path(__file__).with_name("iree_hal.mlir").read_text(encoding="utf-8")


def test_weights_are_packed_before_the_first_inference():
    program = read(TEXT, "main")
    (packing,) = program.first
    constant, packed = packing.bindings
    assert (packing.function, packing.workgroups) == ("_encoding_0", (4, 1, 1))
    assert (constant.buffer.kind, constant.offset, constant.length) == ("constant", 0, 192)
    assert (packed.buffer.kind, packed.buffer.size) == ("transient", 1280)
    numbers = np.frombuffer(constant.buffer.data[:32], dtype="<f4")
    assert numbers.tolist() == [-0.5, 0.25, 10.0, -0.5, 1.0, 2.0, 3.0, 4.0]


def test_an_inference_is_its_dispatches_over_input_weights_and_output():
    program = read(TEXT, "main")
    first, second = program.each
    assert (first.function, first.workgroups) == ("main$async_dispatch_0_matmul", (2, 1, 1))
    assert first.constants == (7,) and second.constants == ()
    x, weights, between = first.bindings
    assert (x.buffer,) == program.inputs
    assert weights.buffer is program.first[0].bindings[1].buffer
    assert (between.offset, between.length, between.buffer.size) == (64, 48, 128)
    assert second.bindings[0].buffer is between.buffer
    (output,) = program.outputs
    assert second.bindings[1].buffer is output.buffer
    assert (output.offset, output.length) == (0, 24)


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ("    util.return %cmd", "    hal.command_buffer.fill_buffer<%cmd>\n    util.return %cmd", "fill_buffer"),
        ("%c24 = arith.constant 24 : index\n    %c48", "%c24 = some.size\n    %c48", "%c24"),
        ("@main$async(", "@other(", "main"),
        ("tensor<2x2xf32>", "tensor<2x2xbf16>", "constant"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(before, after, named):
    assert before in TEXT
    with pytest.raises(UnsupportedError, match=named.replace("$", r"\$")):
        read(TEXT.replace(before, after), "main")


LOOP = Path(__file__).with_name("iree_loop.mlir").read_text(encoding="utf-8")


def test_loops_copies_and_several_inputs_and_outputs_are_followed():
    program = read(LOOP, "main")
    assert len(program.inputs) == 2
    assert [one.function for one in program.each] == [COPY, COPY]
    for number, one in enumerate(program.each):
        source, to = one.bindings
        assert (source.buffer, source.offset, source.length) == (program.inputs[0], 16 * number, 16)
        assert (to.buffer.size, to.offset) == (32, 0)
    first, second = program.outputs
    assert first.buffer is program.each[0].bindings[1].buffer
    assert (second.buffer, second.offset) == (program.inputs[1], 16)
