"""Data of other libraries: told by what they can do, written as the files that explorations read."""

from __future__ import annotations

import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from lrfdse.collect.batches import save_data
from lrfdse.errors import InputError
from lrfdse.model.data import load_data
from lrfdse.model.shapes import Port

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((10, 3, 4)).astype(np.float32), RNG.integers(0, 5, 10)


class Tensor:
    """A tensor as PyTorch's behave: no array while gradients wait, or on another device."""

    def __init__(self, array, ready=False):
        self.array, self.ready = array, ready

    def detach(self):
        return Tensor(self.array)

    def cpu(self):
        return Tensor(self.array, ready=True)

    def __array__(self, dtype=None, copy=None):
        if not self.ready:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        return self.array


def batches(kind=np.asarray, size=4):
    """A loader of three batches, the last one smaller."""
    return [(kind(X[at : at + size]), kind(Y[at : at + size])) for at in range(0, 10, size)]


def arrays(path):
    with np.load(path) as file:
        return dict(file)


@pytest.mark.parametrize(
    "source",
    [
        batches(),
        batches(Tensor),
        [list(batch) for batch in batches(Tensor)],
        iter(batches()),
        (X, Y),
        {"pixels": X, "label": Y},
        {"pixels": X.tolist(), "label": Y.tolist()},
        [{"pixels": x, "labels": y} for x, y in batches()],
        [({"pixels": x}, y) for x, y in batches()],
    ],
    ids=["loader", "torch", "lists", "iterator", "arrays", "columns", "columns of lists", "mappings", "dict inputs"],
)
def test_every_form_gives_the_same_data(source, tmp_path):
    path = save_data(tmp_path / "eval.npz", source)
    data = load_data(path, [Port("x", "float32", (None, 3, 4), ("N", "3", "4"))])
    assert np.array_equal(data.inputs["x"], X) and np.array_equal(data.labels, Y)


def test_samples_one_by_one_get_an_axis(tmp_path):
    found = arrays(save_data(tmp_path / "a.npz", zip(X, Y, strict=True), batched=False, samples=7))
    assert np.array_equal(found["input"], X[:7]) and np.array_equal(found["labels"], Y[:7])


@pytest.mark.parametrize("count", [3, 4, 5, 10, 99])
def test_no_more_samples_than_wanted(count, tmp_path):
    found = arrays(save_data(tmp_path / "calib.npz", batches(), samples=count, labelled=False))
    assert set(found) == {"input"} and np.array_equal(found["input"], X[:count])


def test_a_loader_without_end_is_read_no_further_than_needed(tmp_path):
    def endless():
        while True:
            yield X, Y

    assert len(arrays(save_data(tmp_path / "a.npz", endless(), samples=25))["labels"]) == 25


def test_several_inputs_by_name(tmp_path):
    rng = np.random.default_rng(1)
    mask = rng.integers(0, 2, (10, 4)).astype(bool)
    names = ["ids", "mask"]
    flat = arrays(save_data(tmp_path / "a.npz", [(X, mask, Y)], inputs=names))
    nested = arrays(save_data(tmp_path / "b.npz", [((X, mask), Y)], inputs=names))
    rows = {"ids": X, "mask": mask, "text": ["a"] * 10, "stars": Y}
    columns = arrays(save_data(tmp_path / "c.npz", rows, inputs=names, label="stars"))
    for found in (flat, nested, columns):
        assert set(found) == {"ids", "mask", "labels"}
        assert np.array_equal(found["mask"], mask) and found["mask"].dtype == bool
        assert np.array_equal(found["labels"], Y)


@pytest.mark.parametrize(
    ("source", "more", "line"),
    [
        ([], {}, "no samples"),
        (batches(), {"samples": 0}, "no samples"),
        (7, {}, "type int"),
        ("data.csv", {}, "type str"),
        ((X, Y[:3]), {}, "differ in their number of samples: input 10, labels 3"),
        ([X, X[:, :2]], {}, "differ in shape: 2x4 and 3x4"),
        ({"x": [[1, 2], [3]]}, {}, "'x' is no array of numbers"),
        ({"text": ["a", "b"]}, {}, "'text' is no array of numbers"),
        ((X, X, Y), {}, "2 parts behind its inputs"),
        ((X,), {"inputs": ["a", "b"]}, "has 1 parts, but there are the inputs a, b"),
        ({"x": X}, {"label": "stars"}, "there is no 'stars': the data hold x"),
        ({"x": X}, {"inputs": ["z"]}, "there is no 'z': the data hold x"),
        ([{"x": X}, {"z": X}], {}, "one batch holds x, another z"),
        ({"x": X}, {"batched": False}, "batched=False"),
        ([(1.0, 2)], {}, "single number"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(source, more, line, tmp_path):
    with pytest.raises(InputError, match=line):
        save_data(tmp_path / "eval.npz", source, **more)
    assert list(tmp_path.iterdir()) == []


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"ends with \.npz"):
        save_data(tmp_path / "eval.csv", (X, Y))


@pytest.mark.slow
def test_tensorflows_own_loader(tmp_path):
    tensorflow = pytest.importorskip("tensorflow")
    loader = tensorflow.data.Dataset.from_tensor_slices(({"x": X}, Y)).batch(4)
    found = arrays(save_data(tmp_path / "eval.npz", loader))
    assert np.array_equal(found["x"], X) and np.array_equal(found["labels"], Y)


class Loader:
    """What a loader of PyTorch is to `save_data`: an iterable of lists of tensors."""

    def __init__(self, part, batch_size):
        self.part, self.size = part, batch_size

    def __iter__(self):
        x, y = self.part
        for at in range(0, len(x), self.size):
            yield [Tensor(x[at : at + self.size]), Tensor(y[at : at + self.size])]


def test_the_recipes_of_the_documentation_run(tmp_path, monkeypatch):
    """Each with data in the form that its library gives."""
    text = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    parts = [part for part in text.split("\n## ")[1:] if "```python" in part]
    recipes = [(part.partition("\n")[0], part.partition("```python\n")[2].partition("```")[0]) for part in parts]
    assert [title for title, _ in recipes] == [
        "A PyTorch loader",
        "Keras and TensorFlow",
        "Hugging Face datasets",
        "Arrays of your own",
    ]
    torch = types.ModuleType("torch.utils.data")
    torch.DataLoader = Loader
    monkeypatch.setitem(sys.modules, "torch.utils.data", torch)
    for name in ("torch", "torch.utils"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.chdir(tmp_path)
    columns = {"input_ids": Y[:, None].tolist(), "attention_mask": [[1]] * 10, "text": ["a"] * 10, "label": Y.tolist()}

    class Split:
        def __getitem__(self, part):
            return {name: column[part] for name, column in columns.items()}

    given = {"train": (X, Y), "valid": (X, Y), "test": (X, Y), "x_train": X, "x_valid": X, "y_valid": Y}
    given |= {"image_dataset_from_directory": lambda folder: iter(batches()), "images": X, "classes": Y}
    given |= {"tokenized": {"train": Split(), "validation": Split()}}
    for title, code in recipes:
        shutil.rmtree(tmp_path / "net", ignore_errors=True)
        (tmp_path / "net").mkdir()
        # A recipe of at most five lines, imports and comments included.
        assert len([line for line in code.splitlines() if line.strip()]) <= 5, title
        exec(compile(code, title, "exec"), dict(given))
        found = arrays(tmp_path / "net" / "eval.npz")
        assert np.array_equal(found["labels"], Y), title
        if (tmp_path / "net" / "calib.npz").exists():
            assert "labels" not in arrays(tmp_path / "net" / "calib.npz"), title
