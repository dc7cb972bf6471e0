"""The text recogniser of the package rapidocr-onnxruntime, with images of words to read."""

from __future__ import annotations

import importlib.util
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 48, 320
SHAPE = f"x=1x3x{HEIGHT}x{WIDTH}"
FONTS = Path("/usr/share/fonts/truetype/dejavu")


def recogniser() -> Path:
    """Return the path of the recogniser's model inside the installed package."""
    spec = importlib.util.find_spec("rapidocr_onnxruntime")
    if spec is None or not spec.submodule_search_locations or importlib.util.find_spec("PIL") is None:
        sys.exit("the recogniser is missing: pip install 'lrfdse[bench]'")
    return Path(spec.submodule_search_locations[0]) / "models" / "ch_PP-OCRv4_rec_infer.onnx"


def vocabulary(count: int, seed: int) -> list[str]:
    """Return different English words in random order."""
    from pydoc_data.topics import topics

    words = sorted(set(re.findall(r"\b[A-Za-z][a-z]{3,11}\b", " ".join(topics.values()))))
    if count > len(words):
        sys.exit(f"at most {len(words)} images can be rendered, but got {count}")
    return random.Random(seed).sample(words, count)


def render(words: list[str], seed: int) -> NDArray[np.float32]:
    """Return images of words as the recogniser takes them: BGR, 48 high, padded to 320, between -1 and 1."""
    from PIL import Image, ImageDraw

    rng = np.random.default_rng(seed)
    images = np.zeros((len(words), 3, HEIGHT, WIDTH), np.float32)
    fonts = list(_fonts())
    for image, word in zip(images, words, strict=True):
        font = fonts[rng.integers(len(fonts))]
        left, top, right, bottom = font.getbbox(word)
        margin = int(rng.integers(3, 9))
        paper, ink = rng.integers(200, 256, 3), rng.integers(0, 80, 3)
        size = (int(right - left) + 2 * margin, int(bottom - top) + 2 * margin)
        picture = Image.new("RGB", size, tuple(map(int, paper)))
        ImageDraw.Draw(picture).text((margin - left, margin - top), word, font=font, fill=tuple(map(int, ink)))
        width = min(WIDTH, round(HEIGHT * size[0] / size[1]))
        scaled = np.asarray(picture.resize((width, HEIGHT), Image.Resampling.BILINEAR), np.float32)
        image[:, :, :width] = (scaled[:, :, ::-1].transpose(2, 0, 1) / 255 - 0.5) / 0.5
    return images


def alphabet_of(characters: str) -> list[str]:
    """Return the text of every class, from what the model's metadata hold."""
    return ["", *characters.splitlines(), " "]


def decoded(scores: NDArray[np.float32], alphabet: list[str]) -> str:
    """Return the text that scores of shape (steps, classes) stand for.

    CTC: a class counts where it changes, and class 0 is the blank.
    """
    classes = scores.argmax(axis=-1)
    return "".join(alphabet[c] for c, before in zip(classes, [0, *classes[:-1]], strict=True) if c != before)


def _fonts() -> Iterator[Any]:
    from PIL import ImageFont

    files = sorted(FONTS.glob("DejaVu*.ttf"))
    for size in (28, 36, 44):
        if files:
            yield from (ImageFont.truetype(str(file), size) for file in files)
        else:
            yield ImageFont.load_default(size)
