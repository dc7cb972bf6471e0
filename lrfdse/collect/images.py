"""Data files from a folder of images, a subfolder a class."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrfdse.base.arguments import values_of
from lrfdse.base.text import one_line
from lrfdse.collect.batches import LABELS
from lrfdse.errors import InputError, ToolError
from lrfdse.model.given import data_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from lrfdse.model.shapes import Port

ROLES = ("calib", "eval", "test")
"""The data files, in the order of the parts of a split."""
_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


@dataclass(frozen=True, slots=True)
class SavedImages:
    """What was made of a folder of images."""

    classes: tuple[str, ...]
    """The subfolders, sorted: the place is the class number. Empty where the images lie in the folder itself."""
    counts: Mapping[str, int]
    """Samples of each role that was written."""
    paths: tuple[Path, ...]
    """The files."""


def save_images(
    folder: str | os.PathLike[str],
    model: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    split: Sequence[int] = (2, 1, 1),
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
    shape: Mapping[str, Sequence[int]] | None = None,
    value: Mapping[str, object] | None = None,
    seed: int = 0,
) -> SavedImages:
    """Write ``calib.npz``, ``eval.npz`` and ``test.npz`` from a folder of images, as the model's input takes them.

    Each image is cut at its centre to the input's aspect, and resized. Inputs of bytes get values from 0 to 255;
    inputs of floating point get ``(value / 255 - mean) / std``.

    Parameters
    ----------
    folder
        A subfolder a class; sorted by name they are the classes 0, 1, ... Images in the folder itself have no class.
    model
        The ONNX file, or a folder with ``model.onnx``: its only input says size, layout, colours and type.
    output
        Where the files go; None means the folder of the model. Files that are there are not replaced.
    split
        Proportions of calibration, evaluation and test data; of a 0 no file is written. No image is in two of them.
    mean, std
        One number, or one a colour, in units of the whole range.
    shape
        Sizes that the model leaves dynamic, by the input's name.
    value
        Numbers that other inputs of the model are fixed to, by the input's name.
    seed
        Seed of the draw, which is by class.

    Raises
    ------
    InputError
        The model does not take images, a file is no image, there are too few, or a file is there already.
    ToolError
        Pillow is not installed.
    """
    import numpy as np

    from lrfdse.formats import model_at

    _require_pillow()
    source = model_at(Path(model))
    target = (source if source.is_dir() else source.parent) if output is None else Path(output)
    if len(split) != len(ROLES) or min(split) < 0 or not sum(split):
        raise InputError(f"a split is three whole numbers such as 2:1:1, but got {':'.join(map(str, split))}")
    wanted = [role for role, part in zip(ROLES, split, strict=True) if part]
    if there := [target / f"{role}.npz" for role in wanted if os.path.lexists(target / f"{role}.npz")]:
        raise InputError(f"{there[0]}: is there already; name another folder")
    named = {name: tuple(sizes) for name, sizes in (shape or {}).items()}
    inputs = _inputs(source, named, values_of(value))
    if len(inputs) != 1:
        raise InputError(f"{source}: has {len(inputs)} inputs: images are for models of one")
    (port,) = inputs
    form = _form(port, mean, std)
    classes, files = _files(Path(folder))
    rng = np.random.default_rng(seed)
    parts: dict[str, list[tuple[Path, int]]] = {role: [] for role in wanted}
    for label, paths in enumerate(files):
        drawn = [paths[place] for place in rng.permutation(len(paths))]
        ends = np.cumsum(np.array(split)) * len(drawn) // sum(split)
        for role, start, end in zip(ROLES, [0, *ends[:-1]], ends, strict=True):
            if role in parts:
                parts[role] += [(path, label) for path in drawn[start:end]]
    if empty := [role for role, members in parts.items() if not members]:
        raise InputError(f"{folder}: too few images: none is left for {empty[0]}.npz")
    made: dict[str, dict[str, NDArray[Any]]] = {}
    for role, members in parts.items():
        made[role] = {port.name: np.stack([form.read(path) for path, _ in members])}
        if classes and role != "calib":
            made[role][LABELS] = np.array([label for _, label in members], np.int64)
    target.mkdir(parents=True, exist_ok=True)
    written = tuple(data_file(arrays, role, target) for role, arrays in made.items())
    return SavedImages(classes, {role: len(members) for role, members in parts.items()}, written)


def _inputs(path: Path, shape: Mapping[str, tuple[int, ...]], value: Mapping[str, str]) -> tuple[Port, ...]:
    """Return the inputs of a model, whatever it has of layers."""
    import onnx_ir as ir

    from lrfdse.base.border import reading
    from lrfdse.model.shapes import ports
    from lrfdse.model.valued import read_model

    with reading(path, "a model"):
        return tuple(ports(ir.from_proto(read_model(path, value, shape)[0]).graph, shape, path))


@dataclass(frozen=True, slots=True)
class _Form:
    """How a model takes images."""

    height: int
    width: int
    colours: int
    first: bool
    """Whether colours are the first axis of a sample."""
    flat: bool
    """Whether there is no axis of colours."""
    dtype: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def read(self, path: Path) -> NDArray[Any]:
        """Return an image as a sample of the model's input."""
        import numpy as np
        from PIL import Image, ImageOps

        try:
            with Image.open(path) as image:
                kind = _in_bytes(image, path).convert("L" if self.colours == 1 else "RGB")
                fitted = ImageOps.fit(kind, (self.width, self.height), method=Image.Resampling.BICUBIC)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise InputError(f"{path}: cannot be read as an image: {one_line(error)}") from error
        pixels = np.asarray(fitted).reshape(self.height, self.width, self.colours)
        if self.dtype != "uint8":
            pixels = self._scaled(pixels)
        if self.flat:
            return pixels[:, :, 0]
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)) if self.first else pixels

    def _scaled(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        import numpy as np

        largest_byte = np.iinfo(np.uint8).max
        scaled: NDArray[Any] = (pixels / largest_byte - np.array(self.mean)) / np.array(self.std)
        return scaled.astype(self.dtype)


def _in_bytes(image: Image, path: Path) -> Image:
    """Return an image whose values go from 0 to 255; Pillow would cut greys of 16 bits off there."""
    import numpy as np
    from PIL.Image import fromarray

    if image.mode == "F":
        raise InputError(f"{path}: holds floats, of which nothing says what is black and what is white: save it as PNG")
    if not image.mode.startswith("I"):
        return image
    greys = np.asarray(image)
    largest, widest = np.iinfo(np.uint8).max, np.iinfo(np.uint16).max
    if greys.min() < 0 or greys.max() > widest:
        raise InputError(f"{path}: holds values from {greys.min()} to {greys.max()}, but greys have at most 16 bits")
    return fromarray(np.round(greys / (widest / largest)).astype(np.uint8))


def _form(port: Port, mean: Sequence[float], std: Sequence[float]) -> _Form:
    sizes = tuple(port.fixed or ())[1:]
    if port.dtype not in ("uint8", "float16", "float32", "float64") or any(size is None for size in sizes):
        raise InputError(f"input {port} takes no images, or leaves a size open: give it as shape")
    known = tuple(int(size or 0) for size in sizes)
    if len(known) == 2:
        height, width, colours, first = *known, 1, False
    elif len(known) == 3 and known[0] in (1, 3):
        colours, height, width, first = *known, True
    elif len(known) == 3 and known[2] in (1, 3):
        height, width, colours, first = *known, False
    else:
        raise InputError(f"input {port} takes no images: samples of HxW, CxHxW or HxWxC are known, C of 1 or 3")
    if not {len(mean), len(std)} <= {1, colours} or min(std) <= 0:
        raise InputError(f"mean and std take one number or {colours}, std above 0")
    return _Form(height, width, colours, first, len(known) == 2, port.dtype, tuple(mean), tuple(std))


def _files(folder: Path) -> tuple[tuple[str, ...], list[list[Path]]]:
    """Return the classes, and the images of each; without subfolders no classes, and all images in one list."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    if own := _images(folder):
        return (), [own]
    found = {each.name: _images(each) for each in sorted(folder.iterdir()) if each.is_dir()}
    if empty := [name for name, paths in found.items() if not paths]:
        raise InputError(f"{folder / empty[0]}: holds no images ({', '.join(_SUFFIXES)})")
    if not found:
        raise InputError(f"{folder}: holds no images ({', '.join(_SUFFIXES)}), and no folders of classes")
    return tuple(found), list(found.values())


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES and path.is_file())


def _require_pillow() -> None:
    from importlib.util import find_spec

    if find_spec("PIL") is None:
        raise ToolError("Pillow, which reads images, is not installed: run `pip install 'lrfdse[images]'`")
