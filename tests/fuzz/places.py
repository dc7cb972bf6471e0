"""What lrfdse itself writes: an exploration with its cache, a study in which plans wait, a board's record."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper

from lrfdse.base.store import Store

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
m (float[N,16] x) => (float[N,8] y) { h = MatMul(x, w1) r = Relu(h) y = Gemm(r, w2, b) }"""
WAITING = 2
"""Plans of the study that wait to be evaluated."""


@dataclass(frozen=True)
class Base:
    """An exploration of a small model, with a study that is not finished."""

    folder: Path
    readers: dict[tuple[str, str], list[Callable[[Any], Any]]] = field(default_factory=dict)
    """Kind and key of a stored result to what the exploration made of it."""

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def artifacts(self) -> Path:
        return self.folder / "artifacts"

    @property
    def study(self) -> Path:
        return self.folder / "study.db"

    def explore(self, output: Path, cache: Path) -> list[object]:
        """Return the command that explores as this exploration did."""
        files = [
            self.folder / "model.onnx",
            *("--calib", self.folder / "calib.npz", "--eval", self.folder / "eval.npz"),
        ]
        sizes = ["--space", "svd", "--budget", 4, "--keep", 0, "--workers", 1]
        return ["explore", *files, "--target", "riscv64", *sizes, "--output", output, "--cache", cache]

    def entries(self) -> list[Path]:
        """Return the stored results of the cache, relative to it."""
        made = [path for path in sorted(self.cache.rglob("*")) if path.suffix in (".json", ".npz")]
        found = [path.relative_to(self.cache) for path in made]
        return [path for path in found if path.parts[0] not in ("built", "zig", "shared")]

    def read(self, cache: Path, entry: Path) -> list[Any]:
        """Return what the exploration would make of an entry of a cache; None where it counts as absent."""
        take = Store(cache).get_arrays if entry.suffix == ".npz" else Store(cache).get
        return [take(entry.parts[0], entry.stem, reader) for reader in self.readers[entry.parts[0], entry.stem]]


@contextlib.contextmanager
def noting(readers: dict[tuple[str, str], list[Callable[[Any], Any]]]) -> Iterator[None]:
    """Note what asks a store for what, and what it makes of it."""

    def noted(name: str) -> Any:
        original = getattr(Store, name)

        def ask(store: Store, kind: str, key: str, read: Callable[[Any], Any]) -> Any:
            readers.setdefault((kind, key), []).append(read)
            return original(store, kind, key, read)

        return mock.patch.object(Store, name, ask)

    with noted("get"), noted("get_arrays"):
        yield


@functools.cache
def base() -> Base:
    """Explore, once a process that was not forked of one that did."""
    from tests.fuzz.commands import command

    folder = Path(tempfile.mkdtemp(prefix="lrfdse-fuzz-base-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made = Base(folder)
    model, rng = onnx.parser.parse_model(TEXT), np.random.default_rng(0)
    for name, shape in {"w1": (16, 16), "w2": (16, 8), "b": (8,)}.items():
        model.graph.initializer.append(numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name))
    onnx.save(model, folder / "model.onnx")
    for role in ("calib", "eval"):
        np.savez(folder / f"{role}.npz", x=rng.normal(size=(32, 16)).astype(np.float32))
    shared = ["--study", f"sqlite:///{made.study}", "--artifacts", made.artifacts]
    with noting(made.readers):
        command(*made.explore(folder / "out", made.cache), *shared, well=(0, 3))
    with contextlib.closing(sqlite3.connect(made.study)) as database, database:
        database.execute("update study_user_attributes set value_json = '\"running\"' where key = 'state'")
        last = "select trial_id from trials order by trial_id desc limit ?"
        for table in ("trial_values", "trial_intermediate_values"):
            database.execute(f"delete from {table} where trial_id in ({last})", [WAITING])
        database.execute(f"update trials set state = 'WAITING' where trial_id in ({last})", [WAITING])
    return made


def board_json() -> bytes:
    """Return a ``board.json`` of four kernels, as `lrfdse bench` writes it."""
    from lrfdse.board.result import BoardRun, KernelRun
    from lrfdse.calibrate.prediction import Terms, predicted
    from lrfdse.calibrate.record import record_document
    from lrfdse.ir.factorization import Factorization
    from lrfdse.ir.kernel import KernelSpec
    from lrfdse.ir.latency import Latency
    from lrfdse.meters.trace import Traffic
    from lrfdse.targets.catalog import load_target

    target, kernels, terms = load_target("riscv64"), [], {}
    for number, lines in enumerate((0, 0, 3_000, 100_000)):
        spec = KernelSpec(64 + number, 64, Factorization.dense(64 + number, 64), 1, True, False)
        warm = Traffic(4 * lines, lines, lines - lines // 50, 0, 0, 0)
        cold = Traffic(4 * lines, lines, lines - lines // 50, lines, lines - lines // 50, 0)
        known = terms[spec, "out:8:1x1:u1"] = Terms(1_000.0 + 2 * lines + 500 * number, warm, cold)
        times = [Latency(*(1.3 * predicted(known, target, regime).us,) * 3) for regime in ("warm", "cold")]
        kernels.append(KernelRun(f"fc{number}", 0, spec, "out:8:1x1:u1", times[0], times[1], 1e-7))
    told = {"uname": {"machine": "riscv64"}, "cpuinfo": {"isa": "rv64gcv"}, "frequency_khz": 1600000}
    run = BoardRun("0123abcd", target.name, "0.1.0", 21, tuple(kernels), Latency(9.0, 8.0, 10.0), told)
    return json.dumps(record_document([run], target, terms, {"llvm": "22"})).encode()
