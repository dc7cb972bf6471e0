"""Files of designs: those that several share are compiled once, and are the same."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper

from lrfdse.deploy.designs import write_design
from lrfdse.factorize.fit import Fitter
from lrfdse.ir.choice import Choice
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.kernel import spec_of
from lrfdse.ir.plan import Plan
from lrfdse.kernels.schedules import changes
from lrfdse.model.graph import load_model
from lrfdse.targets.catalog import load_target


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    rng = np.random.default_rng(0)
    text = """g (float[n, 20] x) => (float[n, 6] y) { h = MatMul (x, one)  i = Relu (h)  y = MatMul (i, two) }"""
    made = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    for name, shape in (("one", (20, 12)), ("two", (12, 6))):
        made.graph.initializer.append(numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name))
    path = tmp_path_factory.mktemp("designs") / "model.onnx"
    path.write_bytes(made.SerializeToString())
    return load_model(path)


@pytest.mark.slow
def test_a_kernel_of_several_designs_is_compiled_once(model, tmp_path):
    target, compiled = load_target("aarch64"), {}
    for name, texts in (("a", ("svd:r=3", "dense")), ("b", ("svd:r=4", "dense")), ("c", ("svd:r=3", "svd:r=2"))):
        choices, factors, schedules = {}, {}, {}
        for layer, text in zip(model.layers, texts, strict=True):
            shape = Factorization.parse(text, layer.outputs, layer.inputs)
            choices[layer.name] = Choice(shape)
            spec = spec_of(layer, layer.uses[0], Choice(shape), corrected=False)
            schedules[layer.name] = [str(changes(spec, target, 1)[0])]
            if text != "dense":
                factors[layer.name] = Fitter(model.weight(layer.name)).fit(shape)
        plan = Plan(tuple(choices.items()))
        write_design(tmp_path / name, model, plan, factors, schedules, target, compiled=compiled)
        write_design(tmp_path / "alone" / name, model, plan, factors, schedules, target)
        files = sorted(each.relative_to(tmp_path / name) for each in (tmp_path / name).rglob("*") if each.is_file())
        assert len([each for each in files if each.suffix == ".o"]) == 2
        for file in files:
            if file.name != "plan.json":
                assert (tmp_path / name / file).read_bytes() == (tmp_path / "alone" / name / file).read_bytes(), file
    assert len(compiled) == 4
