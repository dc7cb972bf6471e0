from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnxruntime
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "train_example.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_example", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)
        spec.loader.exec_module(module)
    return module


def test_absent_data_name_the_package(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="apt-get install dataset-fashion-mnist"):
        script.read_data(tmp_path, "train")


def test_written_model_computes_what_numpy_does(script: ModuleType) -> None:
    rng = np.random.default_rng(0)
    widths = (784, *script.NETWORK.hidden, 10)
    assert widths == (784, 300, 100, 10)
    sizes = zip(widths[1:], widths, strict=False)
    dense = sys.modules["fashion"].Dense
    layers = [dense(*(rng.normal(size=s).astype(np.float32) / 8 for s in ((m, n), (m,)))) for m, n in sizes]
    images = rng.integers(0, 256, (5, 28, 28), np.uint8)
    session = onnxruntime.InferenceSession(script.build(layers, "lenet300", "test").SerializeToString())
    (logits,) = session.run(["logits"], {"image": images})

    expected = images.reshape(5, -1) / 255
    for index, layer in enumerate(layers):
        expected = expected @ layer.weight.astype(np.float64).T + layer.bias
        if index < 2:
            expected = np.maximum(expected, 0)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
