"""The models of RapidOCR, where they are installed: a detector, a classifier, a recogniser."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from lrfdse.ir.operators import Foreign
from lrfdse.model.runtime import Runtime
from lrfdse.program.lower import program
from lrfdse.program.memory import plan
from tests.program.interpreter import run

pytestmark = pytest.mark.slow

CASES = {
    "ch_PP-OCRv4_det_infer": (1, 3, 64, 96),
    "ch_PP-OCRv4_rec_infer": (1, 3, 48, 320),
    "ch_ppocr_mobile_v2.0_cls_infer": (1, 3, 48, 192),
}


@pytest.mark.parametrize("name", CASES)
def test_outputs_are_those_of_onnxruntime(name):
    spec = importlib.util.find_spec("rapidocr_onnxruntime")
    if spec is None:
        pytest.skip("needs the bench extra: pip install 'lrfdse[bench]'")
    model = ir.load(Path(spec.submodule_search_locations[0]) / "models" / f"{name}.onnx")
    shape = CASES[name]
    # Strokes on paper: on noise the detector's output is of the order of float32's rounding.
    x = np.ones(shape, np.float32)
    x[:, :, 20:28, 10:80:5] = -1
    x[:, :, 16:30, 12:80:7] = -1.5
    runtime = Runtime()
    want = runtime.call(runtime.session(model), {"x": x})
    made = program(model, {"x": shape})
    got = run(made, {"x": x})
    for key, array in want.items():
        assert np.abs(got[key] - array).max() <= 1e-5 * np.abs(array).max()
    assert not any(isinstance(call.operator, Foreign) for call in made.calls)
    memory = plan(made)
    assert memory.size == memory.bound
