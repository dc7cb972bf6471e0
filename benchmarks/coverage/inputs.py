"""What models are explored on: inputs by name, samples first, made of what a package ships or of stated noise.

Every function is given the folder of further packages, the number of a first sample and how many samples there are to
be. Samples of other numbers are others, so that no role of an exploration sees those of another.
"""

from __future__ import annotations

import functools
import random
import sqlite3
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.coverage.synthetic import RATE, brainwaves, pictures, stream, switches
from benchmarks.recogniser import render, vocabulary
from benchmarks.whole_model.models import Packaged
from lrfdse.base.privacy import load_onnxruntime

Arrays = dict[str, Any]
"""Inputs by name."""

Make = Callable[[Path | None, int, int], Arrays]
"""From the folder of further packages, the number of the first sample and how many, to the inputs."""

WORDS, NAMES, FILES = 2000, 4000, 2000
"""How many different ones there are to take samples from, in a fixed random order. Chosen."""

LOUDEST = 32767.0
"""What 1 is to a model that takes sound as whole numbers of 16 bits."""

_MELS = Packaged("openwakeword==0.4.0", "openwakeword", "resources/models/melspectrogram.onnx")
_EMBEDDING = Packaged("openwakeword==0.4.0", "openwakeword", "resources/models/embedding_model.onnx")
_PAIR = Packaged("atspm-detector==1.1.0", "atspm_detector", "weights/funcnet/x100_w32full_pair.onnx")
_ROMANIZER = "arabic-name-romanizer==0.2.0", "arabic_name_romanizer"


def sounds(name: str, length: int, rate: int = RATE, loudest: float = 1.0, last: tuple[int, ...] = ()) -> Make:
    """Take windows of a stream of sound, one after another; `last` are further axes of the input."""

    def make(beside: Path | None, first: int, count: int) -> Arrays:
        return {name: loudest * stream(first, count * length, rate).reshape(count, length, *last)}

    return make


def pitches(beside: Path | None, first: int, count: int) -> Arrays:
    """Take half seconds of sound, and the range of pitches that is looked for."""
    low, high = (np.full(count, value, np.float32) for value in (50.0, 2000.0))
    return {"audio": stream(first, count * 8000).reshape(count, 1, 8000), "fmin": low, "fmax": high}


def spectra(beside: Path | None, first: int, count: int) -> Arrays:
    """Take mel spectra of sound, as openwakeword's own model makes them."""
    return {"input_1": _mels(beside, first, count * 76)[: count * 76].reshape(count, 76, 32, 1)}


def embeddings(name: str, frames: int, *between: int) -> Make:
    """Take what openwakeword's own two models make of a stream of sound: windows of `frames` vectors of 96."""

    def make(beside: Path | None, first: int, count: int) -> Arrays:
        found = _embedded(beside, first, (count - 1) * _STEP + frames)
        windows = np.stack([found[k * _STEP : k * _STEP + frames] for k in range(count)])
        return {name: windows.reshape(count, *between, frames, 96)}

    return make


_STEP = 4
"""Vectors of 80 ms from one window of embeddings to the next: the windows of one role overlap. Chosen."""


@functools.lru_cache(maxsize=16)
def _embedded(beside: Path | None, first: int, count: int) -> NDArray[np.float32]:
    mels = _mels(beside, first, 8 * count + 68)
    windows = np.stack([mels[8 * k : 8 * k + 76] for k in range(count)])
    (found,) = _session(_EMBEDDING, beside).run(None, {"input_1": windows[..., None]})
    return np.asarray(found.reshape(count, 96))


def _mels(beside: Path | None, first: int, frames: int) -> NDArray[np.float32]:
    # The package moves decibels so.
    sound = LOUDEST * stream(first, 160 * frames + 480)
    (found,) = _session(_MELS, beside).run(None, {"input": sound[None]})
    return np.asarray(found.reshape(-1, 32)[:frames] / 10 + 2)


def _session(model: Packaged, beside: Path | None) -> Any:
    ort = load_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(str(model.find(beside)), options, providers=["CPUExecutionProvider"])


def speech_steps(model: Packaged) -> Make:
    """Take steps of 32 ms of a stream of sound, each with the state that the voice detector itself had before it."""

    def make(beside: Path | None, first: int, count: int) -> Arrays:
        session = _session(model, beside)
        sound = stream(first, 512 * count + 64)
        steps, states, state = [], [], np.zeros((2, 1, 128), np.float32)
        for k in range(count):
            steps.append(sound[None, 512 * k : 512 * k + 576])
            states.append(state)
            _, state = session.run(None, {"input": steps[-1], "state": state})
        return {"input": np.stack(steps), "state": np.stack(states)}

    return make


def speech_sequences(beside: Path | None, first: int, count: int) -> Arrays:
    """Take eight steps of 32 ms at once, each from the state of silence."""
    sound = stream(first, 512 * 8 * count + 64)
    windows = np.stack([sound[512 * k : 512 * k + 576] for k in range(8 * count)])
    silence = np.zeros((count, 1, 1, 128), np.float32)
    return {"input": windows.reshape(count, 8, 576), "h": silence, "c": silence}


def images(name: str, height: int, width: int, low: float, high: float, first_channels: bool = False) -> Make:
    """Take synthetic pictures between two numbers."""

    def make(beside: Path | None, first: int, count: int) -> Arrays:
        found = low + (high - low) * pictures(first, count, height, width)
        return {name: np.ascontiguousarray(found.transpose(0, 3, 1, 2)) if first_channels else found}

    return make


def words(beside: Path | None, first: int, count: int) -> Arrays:
    """Render words of Python's documentation, as `benchmarks.rapidocr` does."""
    return {"x": render(vocabulary(WORDS, 0)[first : first + count], first)}


def turned_words(beside: Path | None, first: int, count: int) -> Arrays:
    """Render words, every other one upside down."""
    found = words(beside, first, count)["x"][..., :192]
    found[1::2] = found[1::2, :, ::-1, ::-1]
    return {"x": found}


def word_pages(beside: Path | None, first: int, count: int) -> Arrays:
    """Render six words below each other on an empty page."""
    made = np.ones((count, 3, 320, 320), np.float32)
    chosen = [vocabulary(WORDS, 0)[(6 * first + k) % WORDS] for k in range(6 * count)]
    made[:, :, 16:304] = render(chosen, first).reshape(count, 6, 3, 48, 320).swapaxes(1, 2).reshape(count, 3, 288, 320)
    return {"x": made}


def captchas(beside: Path | None, first: int, count: int) -> Arrays:
    """Render words of five or six letters, 60 high and 160 wide, between 0 and 255."""
    short = [word for word in vocabulary(WORDS, 0) if len(word) in (5, 6)]
    rows = np.arange(60) * 48 // 60
    return {"image": (render(short[first : first + count], first)[..., :160][:, :, rows] + 1) * 127.5}


def file_bytes(beside: Path | None, first: int, count: int) -> Arrays:
    """Take the first and the last 1,024 bytes of files of Python's own installation, of all kinds that it has."""
    parts = []
    for path in _files()[first : first + count]:
        content = path.read_bytes()
        begin, end = content[:4096].lstrip()[:1024], content[-4096:].rstrip()[-1024:]
        row = np.full(2048, 256, np.int32)
        row[: len(begin)] = list(begin)
        row[2048 - len(end) :] = list(end)
        parts.append(row)
    return {"bytes": np.stack(parts)}


@functools.lru_cache(maxsize=1)
def _files() -> list[Path]:
    kinds: dict[str, list[Path]] = {}
    for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.*")):
        if path.is_file() and path.stat().st_size > 64:
            kinds.setdefault(path.suffix, []).append(path)
    draw = random.Random(0)
    chosen = [path for found in kinds.values() for path in draw.sample(found, min(len(found), 200))]
    return draw.sample(chosen, min(len(chosen), FILES))


def names(beside: Path | None, first: int, count: int) -> Arrays:
    """Take Arabic names of the package's own dictionary, with country and role, as its encoder is given them."""
    ids = np.zeros((count, 16), np.int64)
    for row, (arabic, _, country, role) in zip(ids, _names(beside)[first : first + count], strict=True):
        found = [_tokens(beside).get(each, 3) for each in (f"<{country}>", f"<ROLE_{role.upper()}>", *arabic)]
        row[: len(found) + 1] = [*found, 2]
    return {"src": ids, "src_mask": ids == 0}


def name_steps(beside: Path | None, first: int, count: int) -> Arrays:
    """Take the fourth step of writing each of these names in Latin letters, with the decoder's own state before it."""
    encoder, decoder = (
        _session(Packaged(*_ROMANIZER, f"resources/{part}.onnx"), beside) for part in ("encoder", "decoder")
    )
    memory, mask, hidden = encoder.run(None, names(beside, first, count))
    prefix = np.full((count, 4), 1, np.int64)
    for row, (_, latin, _, _) in zip(prefix, _names(beside)[first : first + count], strict=True):
        row[1:] = [_tokens(beside).get(letter, 3) for letter in latin[:3]]
    for step in range(3):
        fed = {"prefix": prefix[:, : step + 1], "memory": memory, "src_mask": mask, "hidden": hidden}
        _, hidden = decoder.run(None, fed)
    return {"prefix": prefix, "memory": memory, "src_mask": mask, "hidden": hidden}


@functools.lru_cache(maxsize=1)
def _names(beside: Path | None) -> list[tuple[str, str, str, str]]:
    path = Packaged(*_ROMANIZER, "resources/names.sqlite3").find(beside)
    asked = "select arabic_key, latin, country, role from units where length(arabic_key) between 3 and 13 "
    asked += "and length(latin) >= 3 and length(country) = 2 order by arabic_key, latin, country, role"
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        return random.Random(0).sample(database.execute(asked).fetchall(), NAMES)


@functools.lru_cache(maxsize=1)
def _tokens(beside: Path | None) -> dict[str, int]:
    import json

    path = Packaged(*_ROMANIZER, "resources/vocab.json").find(beside)
    return {token: number for number, token in enumerate(json.loads(path.read_text(encoding="utf-8"))["tokens"])}


def signals(beside: Path | None, first: int, count: int) -> Arrays:
    """Take two minutes of 15 channels that switch on and off at random."""
    return {"x": switches(first, count, 15, 120)}


def signal_groups(beside: Path | None, first: int, count: int) -> Arrays:
    """Take what the package's own first network makes of such signals: three detectors by four phases."""
    scores, vectors = _session(_PAIR, beside).run(None, {"x": switches(first, 12 * count, 15, 120)})
    logit, vectors = scores.reshape(count, 3, 4), vectors.reshape(count, 3, 4, 128)
    return {"logit": logit, "Z": vectors, "act": np.ones((count, 3), np.float32)}


def spectrograms(beside: Path | None, first: int, count: int) -> Arrays:
    """Take spectrograms of synthetic brain waves, 30 s each."""
    return {"x": brainwaves(first, count, 30)}


def table_rows(columns: int) -> Make:
    """Take rows of standard normal numbers."""

    def make(beside: Path | None, first: int, count: int) -> Arrays:
        return {"X": np.random.default_rng(first).standard_normal((count, columns))}

    return make


def whole_steps(beside: Path | None, first: int, count: int) -> Arrays:
    """Take whole numbers of 8 bits for three steps of 40 features."""
    return {"input": np.random.default_rng(first).integers(-128, 128, (count, 3, 40), np.int8)}
