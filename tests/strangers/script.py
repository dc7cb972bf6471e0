"""What somebody writes who uses lrfdse: checked as strictly as mypy can, and run, by tests/test_api.py."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx

import lrfdse


def smallest(exploration: lrfdse.Exploration) -> lrfdse.DesignFacts:
    """Return the design of the front with the fewest parameters."""
    return min(exploration.front, key=lambda design: design.params)


def main(folder: Path, space: Path, cache: Path, output: Path) -> None:
    """Explore the model of a folder from memory, and print what a user looks at."""
    stages: set[str] = set()

    def listen(event: lrfdse.Event) -> None:
        stages.add(event.stage)

    model = onnx.load(folder / "model.onnx")
    images = np.load(folder / "calib.npz")["x"]
    with np.load(folder / "eval.npz") as file:
        chosen = {"x": file["x"], "labels": file["labels"]}

    looked: lrfdse.Inspection = lrfdse.inspect(model, calib=images, space=space, cache=cache)
    print("layers:", *(layer.name for layer in looked.layers))

    found = lrfdse.explore(
        model,
        "riscv64",
        calib=images,
        eval=chosen,
        test=folder / "test.npz",
        limits=lrfdse.Limits(max_drop=0.5),
        space=space,
        budget=12,
        keep=0,
        output=output,
        cache=cache,
        progress=listen,
    )
    print("stages:", *sorted(stages))
    print(found)

    again = lrfdse.load(output)
    print("same:", again == found)
    best: lrfdse.DesignFacts | None = again.recommended
    if best is not None:
        faster: float = again.original.charged.us / best.charged.us
        print("recommended:", best.id, best.params, faster > 1, best.reported_score)
    print("exported:", again.export(smallest(again).id))
    try:
        lrfdse.load(output / "nowhere")
    except lrfdse.InputError as error:
        print("refused:", error)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
