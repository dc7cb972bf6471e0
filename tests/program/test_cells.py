"""Scans over the steps of recurrent cells, as factors of a recurrent matrix are written: recurrences in a program."""

from __future__ import annotations

import json

import onnx
import onnx_ir as ir
import pytest

from lrfdse.cli import run
from lrfdse.errors import InputError
from lrfdse.formats.onnx import as_proto, file_content
from lrfdse.model.graph import load_model
from lrfdse.model.passes.factor import rewrite
from lrfdse.program.lower import program
from tests.model.test_carried import truncated
from tests.program import models
from tests.program.test_models import compared, kinds

CASES = [(cell, direction) for cell in ("LSTM", "GRU") for direction in ("forward", "reverse", "bidirectional")]

REVERSED = {"forward": {False}, "reverse": {True}, "bidirectional": {False, True}}


def with_factors(folder, cell, direction, rank=2):
    """Return a recurrent model whose recurrent matrices are factors, and the model that it is made of."""
    attributes = {"linear_before_reset": 1} if cell == "GRU" else {}
    path = folder / "model.onnx"
    onnx.save(onnx.shape_inference.infer_shapes(as_proto(models.recurrent(cell, direction, **attributes))), path)
    model = load_model(path, kinds=("state",))
    factors = {layer.name: truncated(model.weight(layer.name), rank, None) for layer in model.layers}
    return rewrite(model, factors), model


@pytest.mark.parametrize(("cell", "direction"), CASES)
def test_factors_of_a_recurrent_matrix_are_two_products_a_step(tmp_path, cell, direction):
    made, original = with_factors(tmp_path, cell, direction)
    both = 2 if direction == "bidirectional" else 1
    assert [node.op_type for node in made.graph].count("Scan") == both
    lowered = compared(made)
    found = kinds(lowered)
    assert found["Recurrence"] == both
    # One product in front of all directions, whose gates are cut apart, and the layer behind.
    assert found["FullyConnected"] == 2
    operators = [call.operator for call in lowered.calls if type(call.operator).__name__ == "Recurrence"]
    gates = 4 if cell == "LSTM" else 3
    assert {each.rank for each in operators} == {2}
    assert {each.reverse for each in operators} == REVERSED[direction]
    assert operators[0].macs == 7 * 2 * 2 * (6 + gates * 6)
    assert lowered.macs < program(original.original).macs


@pytest.mark.slow
@pytest.mark.parametrize("target", ["host", "riscv64", "armv7"])
@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_the_library_computes_what_onnxruntime_does(tmp_path, capsys, cell, target):
    """`lrfdse build` holds the library's outputs against onnxruntime's of the file, which runs the Scan."""
    made, _ = with_factors(tmp_path, cell, "bidirectional")
    path = tmp_path / "factors.onnx"
    path.write_bytes(file_content(made))
    assert run(["build", str(path), "--target", target, "--output", str(tmp_path / "out"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [each["kind"] for each in facts["operators"]].count("Recurrence") == 2


def test_a_whole_matrix_in_a_scan_is_that_of_the_operator(tmp_path):
    _, model = with_factors(tmp_path, "LSTM", "forward")
    spelled = rewrite(model, {}, closed=False)
    assert "Scan" in {node.op_type for node in spelled.graph}
    (found,) = [c.operator for c in compared(spelled).calls if type(c.operator).__name__ == "Recurrence"]
    assert found.rank == 0


def test_a_scan_of_another_body_is_refused(tmp_path):
    made, _ = with_factors(tmp_path, "GRU", "forward")
    scan = next(node for node in made.graph if node.op_type == "Scan")
    body = scan.attributes["body"].as_graph()
    tanh = next(node for node in body if node.op_type == "Tanh")
    other = ir.node("Relu", [tanh.inputs[0]])
    other.outputs[0].name = "relu"
    body.insert_before(tanh, other)
    tanh.outputs[0].replace_all_uses_with(other.outputs[0])
    body.remove(tanh, safe=True)
    with pytest.raises(InputError, match="Scan"):
        program(made)
