from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "lenet300-fashion"


@pytest.mark.parametrize(
    ("name", "count", "labels"), [("calib", 2048, False), ("eval", 2000, True), ("test", 2000, True)]
)
def test_arrays(name: str, count: int, labels: bool) -> None:
    with np.load(FOLDER / f"{name}.npz") as arrays:
        assert set(arrays) == ({"image", "labels"} if labels else {"image"})
        assert arrays["image"].shape == (count, 28, 28)
        assert all(array.dtype == np.uint8 for array in arrays.values())
        if labels:
            assert set(arrays["labels"]) == set(range(10))


def test_no_image_is_in_two_files() -> None:
    images = [
        image.tobytes() for name in ("calib", "eval", "test") for image in np.load(FOLDER / f"{name}.npz")["image"]
    ]
    assert len(set(images)) == 2048 + 2000 + 2000


def test_model_is_what_the_readme_says() -> None:
    model = onnx.load(FOLDER / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    shapes = {i.name: tuple(i.dims) for i in model.graph.initializer if i.name.startswith("fc")}
    assert shapes == {
        "fc1.weight": (300, 784),
        "fc1.bias": (300,),
        "fc2.weight": (100, 300),
        "fc2.bias": (100,),
        "fc3.weight": (10, 100),
        "fc3.bias": (10,),
    }
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 266_610


@pytest.mark.parametrize("name", ["eval", "test"])
def test_accuracy_is_what_the_readme_says(name: str) -> None:
    row = re.search(rf"^\| `{name}\.npz`: [^|]*\| ([\d.]+) % \|$", (FOLDER / "README.md").read_text(), re.MULTILINE)
    assert row
    session = onnxruntime.InferenceSession(FOLDER / "model.onnx", providers=["CPUExecutionProvider"])
    with np.load(FOLDER / f"{name}.npz") as arrays:
        (logits,) = session.run(["logits"], {"image": arrays["image"]})
        right = int(np.sum(logits.argmax(axis=1) == arrays["labels"]))
    # Another CPU may round the logits of an image on the border differently.
    assert abs(right - round(float(row[1]) * 20)) <= 1
