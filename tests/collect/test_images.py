"""Folders of images as data files: sizes, layouts, classes and the split, held against Pillow and NumPy."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest

from lrfdse.cli import run
from lrfdse.collect.images import save_images
from lrfdse.errors import InputError

Image = pytest.importorskip("PIL.Image")


def model(folder, shape, dtype="float"):
    """A model with one fully-connected layer behind a flattened image."""
    size = int(np.prod([int(part) for part in shape.split(",")[1:]]))
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    g ({dtype}[{shape}] image) => (float[N,2] y) {{
        a = Cast<to = 1>(image)  b = Flatten(a)  y = MatMul(b, w)
    }}"""
    made = onnx.parser.parse_model(text)
    made.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((size, 2), np.float32), "w"))
    onnx.save(made, folder / "model.onnx")
    return folder / "model.onnx"


@pytest.fixture
def photos(tmp_path):
    """Two classes of eight images of 12x8, each of one colour that no other has."""
    for label, name in enumerate(("cat", "dog")):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for place in range(8):
            colour = (10 * place, 100 * label + 20, 255 - place)
            Image.new("RGB", (12, 8), colour).save(folder / f"{place}.png")
    return tmp_path / "photos"


def arrays(path):
    with np.load(path) as file:
        return dict(file)


def test_no_image_is_in_two_files_and_labels_are_those_of_the_folders(photos, tmp_path):
    made = save_images(photos, model(tmp_path, "N,3,4,6", "uint8"), split=(2, 1, 1))
    assert made.classes == ("cat", "dog") and made.counts == {"calib": 8, "eval": 4, "test": 4}
    assert made.paths == tuple(tmp_path / f"{role}.npz" for role in ("calib", "eval", "test"))
    seen = []
    for path in made.paths:
        found = arrays(path)
        assert found["image"].shape[1:] == (3, 4, 6) and found["image"].dtype == np.uint8
        colours = found["image"][:, :, 2, 3]
        seen += [tuple(each) for each in colours]
        if path.stem == "calib":
            assert set(found) == {"image"}
        else:
            assert np.array_equal(found["labels"], (colours[:, 1] > 100).astype(int))
            assert np.bincount(found["labels"]).tolist() == [2, 2]
    assert len(set(seen)) == 16


def test_layouts_hold_the_same_pixels(photos, tmp_path):
    found = {}
    for name, shape in (("first", "N,3,4,6"), ("last", "N,4,6,3"), ("grey", "N,4,6"), ("one", "N,1,4,6")):
        (tmp_path / name).mkdir()
        save_images(photos, model(tmp_path / name, shape, "uint8"), split=(0, 1, 0))
        found[name] = arrays(tmp_path / name / "eval.npz")["image"]
    assert np.array_equal(found["first"].transpose(0, 2, 3, 1), found["last"])
    assert np.array_equal(found["one"][:, 0], found["grey"])
    luma = found["last"] @ np.array([0.299, 0.587, 0.114])
    assert np.abs(luma - found["grey"]).max() <= 1


def test_floating_point_is_normalized(photos, tmp_path):
    for name, dtype in (("bytes", "uint8"), ("floats", "float")):
        (tmp_path / name).mkdir()
        mean, std = (0.5, 0.25, 0.1), (0.5, 0.2, 0.3)
        save_images(photos, model(tmp_path / name, "N,3,4,6", dtype), split=(0, 1, 0), mean=mean, std=std)
    taken = arrays(tmp_path / "bytes" / "eval.npz")["image"] / 255
    expected = (taken - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    found = arrays(tmp_path / "floats" / "eval.npz")["image"]
    assert found.dtype == np.float32 and np.allclose(found, expected, atol=1e-6)


def test_images_are_cut_at_their_centre(tmp_path):
    (tmp_path / "photos").mkdir()
    picture = np.zeros((4, 12), np.uint8)
    picture[:, 4:8] = 200
    Image.fromarray(picture).save(tmp_path / "photos" / "a.png")
    made = save_images(tmp_path / "photos", model(tmp_path, "N,4,4", "uint8"), split=(1, 0, 0))
    assert made.classes == () and made.counts == {"calib": 1}
    assert (arrays(tmp_path / "calib.npz")["image"] == 200).all()


def test_the_command_writes_what_an_exploration_reads(photos, tmp_path, capsys):
    model(tmp_path, "N,3,4,6")
    assert run(["data", str(photos), "--model", str(tmp_path), "--std", "0.5", "--seed", "3"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[:2] == ["class 0: cat", "class 1: dog"] and told[2] == f"{tmp_path / 'calib.npz'}: 8 images"
    assert run(["inspect", str(tmp_path), "--cache", str(tmp_path / "cache")]) == 0
    assert run(["data", str(photos), "--model", str(tmp_path)]) == 2
    assert "calib.npz: is there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("shape", "more", "line"),
    [
        ("N,7", {}, "takes no images"),
        ("N,5,4,6", {}, "takes no images"),
        ("N,3,4,6", {"split": (1, 0)}, "three whole numbers"),
        ("N,3,4,6", {"split": (100, 1, 1)}, "too few images: none is left for eval"),
        ("N,3,4,6", {"std": (0.0,)}, "std above 0"),
        ("N,3,4,6", {"mean": (0.0, 0.0)}, "take one number or 3"),
        ("N,3,4,6", {"folder": "nowhere"}, "no such folder"),
        ("N,3,4,6", {"folder": "."}, "holds no images"),
    ],
)
def test_what_cannot_be_made_is_one_line_and_no_file(shape, more, line, photos, tmp_path):
    (tmp_path / "out").mkdir()
    folder = tmp_path / str(more.pop("folder")) if "folder" in more else photos
    if folder == tmp_path / ".":
        (tmp_path / "empty").mkdir()
        folder = tmp_path / "empty"
    with pytest.raises(InputError, match=line):
        save_images(folder, model(tmp_path, shape), tmp_path / "out", **more)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_that_is_no_image_is_named(photos, tmp_path):
    (photos / "cat" / "3.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"3\.png: cannot be read as an image"):
        save_images(photos, model(tmp_path, "N,3,4,6"))
    assert not list(tmp_path.glob("*.npz"))


def test_greys_of_16_bits_keep_their_shades(photos, tmp_path):
    steps = np.linspace(0, 65535, 24).reshape(4, 6).astype(np.uint16)
    for number in range(4):
        Image.fromarray(steps).save(photos / "cat" / f"grey{number}.png")
    for path in photos.glob("*/[0-9].png"):
        path.rename(path.with_suffix(".jpeg.bak"))
    for number in range(4):
        Image.fromarray(steps).save(photos / "dog" / f"grey{number}.png")
    save_images(photos, model(tmp_path, "N,4,6"))
    found = arrays(tmp_path / "eval.npz")["image"]
    np.testing.assert_allclose(found, np.broadcast_to(steps / 65535, found.shape), atol=0.5 / 255 + 1e-6)
    Image.fromarray(np.ones((4, 6), np.float32)).save(photos / "cat" / "float.tiff")
    with pytest.raises(InputError, match="holds floats"):
        save_images(photos, tmp_path / "model.onnx", tmp_path / "more")


def test_a_model_of_convolutions_alone_takes_images_too(photos, tmp_path):
    def written(inputs, rest, name):
        text = f"""<ir_version: 8, opset_import: ["" : 17]> g ({inputs}) => (float[N,2,4,6] y)
            <float[2,3,1,1] k = {{1, 2, 3, 4, 5, 6}}> {{ c = Conv(image, k)  {rest} }}"""
        onnx.save(onnx.parser.parse_model(text), tmp_path / name)
        return tmp_path / name

    made = save_images(photos, written("float[N,3,4,6] image", "y = Relu(c)", "model.onnx"))
    assert made.counts == {"calib": 8, "eval": 4, "test": 4}
    two = written("float[N,3,4,6] image, float[N,2,4,6] z", "y = Add(c, z)", "two.onnx")
    with pytest.raises(InputError, match="has 2 inputs: images are for models of one"):
        save_images(photos, two, tmp_path / "more")
