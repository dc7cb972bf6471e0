"""Every model of the benchmark with the data in their roles and what a good output is."""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.accuracy import minilm
from benchmarks.accuracy.tail import split
from benchmarks.recogniser import HEIGHT, WIDTH, alphabet_of, decoded, recogniser, render, vocabulary
from lrfdse.ir.layer import Kind
from lrfdse.model.data import Dataset, load_data
from lrfdse.model.graph import Model, load_model
from lrfdse.model.runtime import Runtime
from lrfdse.quality.outputs import hits

Outputs = Mapping[str, NDArray[Any]]
Score = Callable[[Outputs, Outputs], float]
"""Takes a model's outputs and those of the original, returns a score; higher is better."""

TRAINED = ("lenet300", "mlp1024", "conv512")
_KEPT = 100_000_000
"""Bytes up to which what the tail reads is kept on disk."""
NAMES = (*TRAINED, "rapidocr-head", "rapidocr", "minilm")

KINDS: tuple[Kind, ...] = ("fc",)
"""The layers whose kinds of factorization are compared; an embedding has one only."""


@dataclass(frozen=True)
class Part:
    """Data that choose or report, with the score taken on them."""

    name: str
    data: Dataset
    score: Score


@dataclass(frozen=True)
class Case:
    """A model to compress, all that it needs in memory."""

    name: str
    seed: int
    model: Model
    """The part from the first compressed layer on, where the rest need not run again."""
    layers: tuple[str, ...]
    """Layers that are compressed; the others stay dense."""
    calib: Dataset
    choosing: Part
    reporting: tuple[Part, ...]
    unit: str
    loss: Literal["softmax", "squared"] = "softmax"
    """How outputs are compared with the original's when a plan is corrected."""
    more_calib: Dataset | None = None
    reference: dict[str, Outputs] = field(default_factory=dict)
    """Part name to the original model's outputs."""

    def scores(self, content: bytes, parts: tuple[Part, ...]) -> dict[str, float]:
        """Return part name to score of a rewritten model."""
        runtime = Runtime()
        found = {}
        for part in parts:
            if part.name not in self.reference:
                self.reference[part.name] = runtime.run(self.model.content, part.data)
            outputs = self.reference[part.name]
            if content != self.model.content:
                outputs = runtime.run(content, part.data)
            found[part.name] = part.score(outputs, self.reference[part.name])
        return found


def open_case(name: str, seed: int, folder: Path) -> Case:
    """Return a case from the folder of a model, ``<name>-<seed>`` in `folder`; those that need no training are made.

    Raises
    ------
    FileNotFoundError
        The model is one that is trained, and was not yet.
    """
    place = folder / f"{name.removesuffix('-head')}-{seed}"
    if name in TRAINED:
        return _trained(name, seed, place)
    if not (place / "about.json").is_file():
        (_make_minilm if name == "minilm" else _make_rapidocr)(place, seed)
    return _minilm(place, seed) if name == "minilm" else _rapidocr(place, seed, name)


def _trained(name: str, seed: int, place: Path) -> Case:
    if not (place / "about.json").is_file():
        raise FileNotFoundError(f"{place}: make it with scripts/train_models.py --models {name} --seeds {seed}")
    model = load_model(place / "model.onnx", kinds=KINDS)
    parts = {part: load_data(place / f"{part}.npz", model.inputs) for part in ("calib", "calib8192", "eval", "test")}

    def scored(part: str) -> Part:
        labels = parts[part].labels
        assert labels is not None
        return Part(part, parts[part], lambda outputs, _: 100 * float(hits(outputs, labels).mean()))

    layers = tuple(layer.name for layer in model.layers if min(layer.outputs, layer.inputs) >= 64)
    case = Case(
        name,
        seed,
        model,
        layers,
        parts["calib"],
        scored("eval"),
        (scored("test"),),
        "% right",
        more_calib=parts["calib8192"],
    )
    return _shortened(case, place)


def _make_rapidocr(place: Path, seed: int) -> None:
    """Write the recogniser with images of words: 200 that calibrate, 60 that choose, 150 that report."""
    place.mkdir(parents=True, exist_ok=True)
    counts = {"calib": 200, "eval": 60, "test": 150}
    words = vocabulary(sum(counts.values()), seed)
    told = {}
    for part, count in counts.items():
        told[part], words = words[:count], words[count:]
        np.savez_compressed(place / f"{part}.npz", x=render(told[part], seed))
    (place / "model.onnx").write_bytes(recogniser().read_bytes())
    (place / "about.json").write_text(json.dumps({"seed": seed, "words": told}), encoding="utf-8")


def _rapidocr(place: Path, seed: int, name: str) -> Case:
    model = load_model(place / "model.onnx", {"x": (1, 3, HEIGHT, WIDTH)}, KINDS)
    words = json.loads((place / "about.json").read_text(encoding="utf-8"))["words"]
    properties = {p.key: p.value for p in onnx.load(place / "model.onnx", load_external_data=False).metadata_props}
    alphabet = alphabet_of(properties["character"])

    def scored(part: str) -> Part:
        def score(outputs: Outputs, _: Outputs) -> float:
            (scores,) = outputs.values()
            return 100 * float(np.mean([decoded(s, alphabet) == w for s, w in zip(scores, words[part], strict=True)]))

        return Part(part, load_data(place / f"{part}.npz", model.inputs), score)

    layers = tuple(layer.name for layer in model.layers)
    chosen = layers[-1:] if name == "rapidocr-head" else layers
    calib = load_data(place / "calib.npz", model.inputs)
    case = Case(name, seed, model, chosen, calib, scored("eval"), (scored("test"),), "% of words right")
    return _shortened(case, place)


def _make_minilm(place: Path, seed: int) -> None:
    """Write the encoder, once for all seeds, with texts that calibrate, choose and report."""
    shared = place.parent / "minilm" / "model.onnx"
    if not shared.is_file():
        shared.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(minilm.build(), shared)
    place.mkdir(parents=True, exist_ok=True)
    (place / "model.onnx").unlink(missing_ok=True)
    (place / "model.onnx").symlink_to(Path("..") / "minilm" / "model.onnx")
    calib, choosing = minilm.background(seed)
    parts = {
        "calib": calib,
        "eval": choosing,
        "test": minilm.tokens(minilm.documents()[0]),
        "words": minilm.tokens(minilm.words()[0]),
    }
    for part, arrays in parts.items():
        np.savez_compressed(place / f"{part}.npz", allow_pickle=False, **arrays)
    shape = {name: [1, minilm.SHORT] for name in parts["calib"]}
    (place / "about.json").write_text(json.dumps({"seed": seed, "shape": shape}), encoding="utf-8")


def _minilm(place: Path, seed: int) -> Case:
    from scipy.stats import spearmanr

    shape = json.loads((place / "about.json").read_text(encoding="utf-8"))["shape"]
    model = load_model((place / "model.onnx").resolve(), shape, KINDS)

    def data(part: str) -> Dataset:
        return load_data(place / f"{part}.npz", model.inputs)

    def kept(outputs: Outputs, reference: Outputs) -> float:
        upper = np.triu_indices(len(outputs["embedding"]), 1)
        pairs = np.stack(upper, axis=1)
        seen, before = (minilm.cosines(each["embedding"], pairs) for each in (outputs, reference))
        return 100 * float(np.corrcoef(seen, before)[0, 1])

    def documents(outputs: Outputs, _: Outputs) -> float:
        told = minilm.documents()[1]
        return 100 * float(np.corrcoef(minilm.cosines(outputs["embedding"], told.pairs), told.similarity)[0, 1])

    def words(outputs: Outputs, _: Outputs) -> float:
        told = minilm.words()[1]
        return 100 * float(spearmanr(minilm.cosines(outputs["embedding"], told.pairs), told.similarity)[0])

    return Case(
        "minilm",
        seed,
        model,
        tuple(layer.name for layer in model.layers),
        data("calib"),
        Part("eval", data("eval"), kept),
        (Part("test", data("test"), documents), Part("words", data("words"), words)),
        "Pearson x 100",
        "squared",
    )


def _shortened(case: Case, place: Path) -> Case:
    """Return the case with the model cut before the first compressed layer, and with what the rest reads as data."""
    products = [site.output for name in case.layers for site in case.model.sites[name]]
    parted = split(case.model.content, products)
    if parted is None:
        return case

    def carried(data: Dataset) -> Dataset:
        name = hashlib.sha256((data.digest + hashlib.sha256(parted.head).hexdigest()).encode()).hexdigest()[:16]
        kept = place / f"{case.name}-{name}.npz"
        if kept.is_file():
            with np.load(kept, allow_pickle=False) as stored:
                return Dataset({key: stored[key] for key in stored.files}, data.labels)
        found = parted.carried(data, Runtime())
        if sum(array.nbytes for array in found.inputs.values()) <= _KEPT:
            np.savez(kept, allow_pickle=False, **found.inputs)
        return found

    chosen, *others = (Part(part.name, carried(part.data), part.score) for part in (case.choosing, *case.reporting))
    more = None if case.more_calib is None else carried(case.more_calib)
    # The tails of one folder's cases differ.
    path = place / f"{case.name}-tail.onnx"
    onnx.save(parted.tail(chosen.data.inputs), path)
    tail = load_model(path, kinds=KINDS)
    layers = tuple(name for name in case.layers if fnmatch.filter([layer.name for layer in tail.layers], name))
    assert layers == case.layers, (layers, case.layers)
    calib = carried(case.calib)
    return Case(case.name, case.seed, tail, layers, calib, chosen, tuple(others), case.unit, case.loss, more)
