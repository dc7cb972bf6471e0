"""A front.json of schema version 1, cut down to what a gate reads; tests change single values of it."""

from __future__ import annotations

import copy
import json

import pytest

DOCUMENT = {
    "schema_version": 1,
    "model": {"path": "../../nets/lenet/model.onnx", "sha256": "ab" * 32},
    "target": "riscv64",
    "meter": "model",
    "latency": {"kind": "modelled"},
    "metric": "accuracy",
    "versions": {"lrfdse": "0.1.0", "llvm": "22.1.8"},
    "settings": {"target_digest": "d1", "max_drop": 0.01, "max_params": None, "max_latency_us": None},
    "layers": [{"name": "fc1", "in": 784, "out": 300}, {"name": "fc2", "in": 300, "out": 100}],
    "recommended": "5d8446bf",
    "baseline": {
        "id": "069bb273",
        "params": 266_610,
        "flops": 532_400,
        "latency_us": 281.0,
        "latency_low_us": 257.0,
        "latency_high_us": 305.0,
        "accuracy": 0.9055,
        "eval_accuracy": 0.902,
        "fidelity": 1.0,
        "cache_regime": "cold",
        "loss_standard_error": 0.0,
        "model": None,
    },
    "designs": [
        {
            "id": "5d8446bf",
            "params": 50_000,
            "flops": 155_952,
            "latency_us": 20.0,
            "latency_low_us": 16.0,
            "latency_high_us": 24.0,
            "accuracy": 0.8945,
            "eval_accuracy": 0.8945,
            "fidelity": 0.96,
            "cache_regime": "warm",
            "loss_standard_error": 0.002,
            "model": "designs/5d8446bf/model.onnx",
        },
        {
            "id": "0ther000",
            "params": 60_000,
            "flops": 200_000,
            "latency_us": 30.0,
            "latency_low_us": 25.0,
            "latency_high_us": 35.0,
            "accuracy": 0.9,
            "eval_accuracy": 0.9,
            "fidelity": 0.98,
            "cache_regime": "warm",
            "loss_standard_error": 0.001,
            "model": None,
        },
    ],
}


@pytest.fixture
def front(tmp_path):
    """Write a folder with a front.json; `change` may edit the document, keywords edit the recommended design."""

    def write(name="run", change=None, log=None, **design):
        document = copy.deepcopy(DOCUMENT)
        document["designs"][0].update(design)
        if change is not None:
            change(document)
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "front.json").write_text(json.dumps(document))
        if log is not None:
            (folder / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in log))
        return folder

    return write
