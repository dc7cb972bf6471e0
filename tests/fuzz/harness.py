"""Loading files in a process of their own: what is no clean end, takes too long or too much memory is a finding.

One forked process loads many files, one after another, until one ends or hangs it.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Any

from tests.fuzz.mutate import mutant
from tests.fuzz.seeds import KINDS, seeds

PATIENCE = 20.0
"""Seconds of computing after which a file hangs; by the clock ten times as many: machines are busy."""
PATIENCES = {"cache": 120.0}
"""The same for kinds of which one takes a whole exploration."""
VICTIM = b"what no file of a stranger may change"
"""Content of a file in the folder from which everything is loaded."""
MEMORY = 3 << 29
"""Bytes that a process may have more at its highest than at its beginning: random data take 256 MiB, in float64 twice
that beside them, and onnxruntime its own."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How the loading of one file ended."""

    kind: str
    """"ok", "refused", or a finding: "traceback", "several lines", "outside" (of its own files),
    "memory", "hang", "crash"."""
    text: str
    seconds: float = 0.0
    """CPU seconds that it took, with those of programs that it started."""
    memory: int = 0
    """Bytes, the highest resident size of the process so far."""

    @property
    def is_finding(self) -> bool:
        return self.kind not in ("ok", "refused")


class Loader:
    """The process that loads; a context that ends it.

    It works in a folder of its own, beside one that no file may have it touch.

    Parameters
    ----------
    more
        Kinds of files beside `KINDS`, in the same form.
    """

    def __init__(self, more: Mapping[str, tuple[str, Callable[[Path], None]]] = MappingProxyType({})) -> None:
        self._kinds = {**KINDS, **more}
        self._folder = tempfile.TemporaryDirectory(prefix="lrfdse-fuzz-")
        self._process: Any = None
        self._pipe: Any = None
        self._known: set[str] = set()

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        self._folder.cleanup()

    def load(self, kind: str, content: bytes) -> Ending:
        """Return how the loading of a file of this content ends."""
        if kind in KINDS and kind not in self._known:
            # What it begins with is made here, once, and not in every process that another file has ended.
            seeds(kind)
            self._known.add(kind)
            self._end()
        if self._process is None:
            context = multiprocessing.get_context("fork")
            self._pipe, other = context.Pipe()
            self._process = context.Process(target=_serve, args=(other, self._pipe, self._folder.name, self._kinds))
            self._process.start()
            other.close()
        patience = PATIENCES.get(kind, PATIENCE)
        self._pipe.send((kind, content))
        try:
            if self._answers(patience):
                ending: Ending = self._pipe.recv()
                if ending.is_finding:
                    self._end()
                return ending
            self._end()
            return Ending("hang", f"more than {patience:g} s", patience)
        except (EOFError, ConnectionError):
            self._process.join()
            code = self._process.exitcode
            self._end()
            return Ending("crash", f"exit code {code}")

    def _answers(self, patience: float) -> bool:
        """Wait for the process; return whether it answered within `patience`."""
        began, spent = time.monotonic(), _computed(self._process.pid)
        while not self._pipe.poll(1.0):
            if time.monotonic() - began > 10 * patience or _computed(self._process.pid) - spent > patience:
                return False
        return True

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
            self._process = None


def _computed(process: int) -> float:
    """Return the CPU seconds of a process; 0 where it has ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def mutants(kind: str, seed: int) -> Iterator[bytes]:
    """Yield damaged files of a kind, forever, the same for the same seed."""
    whole = seeds(kind)
    number = 0
    while True:
        rng = Random(f"{kind} {seed} {number}")
        yield mutant(kind, rng.choice(whole), rng)
        number += 1


def signature(ending: Ending) -> str:
    """Return what is alike in findings of one cause: the type and the last line of code."""
    lines = [line.strip() for line in ending.text.splitlines() if line.strip()]
    frames = [line for line in lines if line.startswith("File ")]
    last = frames[-1].partition(" in ")[0] + " " + frames[-1].rpartition(" ")[2] if frames else ""
    last = last.replace(f"{Path(__file__).parents[2]}/", "")
    return f"{ending.kind} {last} {lines[-1].partition(':')[0] if frames else ending.text}"


def _serve(pipe: Connection, parents: Connection, folder: str, kinds: Mapping[str, Any]) -> None:
    # As long as this process holds that end, it would not see that its parent is gone.
    parents.close()
    from lrfdse.base.privacy import silence_libraries
    from lrfdse.errors import LrfdseError

    silence_libraries()
    place, elsewhere = Path(folder, "place"), Path(folder, "elsewhere")
    for made in (place, elsewhere):
        made.mkdir(exist_ok=True)
    (elsewhere / "victim").write_bytes(VICTIM)
    os.chdir(elsewhere)
    began = _highest()
    while True:
        try:
            kind, content = pipe.recv()
        except EOFError:
            return
        suffix, load = kinds[kind]
        path = place / f"file{suffix}"
        path.write_bytes(content)
        before = sum(os.times()[:4])
        try:
            load(path)
            end, text = "ok", ""
        except LrfdseError as error:
            text = str(error)
            end = "refused" if text.isprintable() and len(text) < 2000 else "several lines"
        except BaseException:
            end, text = "traceback", traceback.format_exc()
        if end != "traceback" and not _untouched(Path(folder)):
            end, text = "outside", f"files beside its own: {sorted(Path(folder).rglob('*'))[:20]}"
        if (grown := _highest() - began) > MEMORY:
            end, text = "memory", f"{grown / 2**20:.0f} MiB"
        pipe.send(Ending(end, text, sum(os.times()[:4]) - before, _highest()))


def _untouched(folder: Path) -> bool:
    """Return whether nothing was written outside of the place for files."""
    elsewhere = folder / "elsewhere"
    names = {path.name for path in folder.iterdir()}, {path.name for path in elsewhere.iterdir()}
    return names == ({"place", "elsewhere"}, {"victim"}) and (elsewhere / "victim").read_bytes() == VICTIM


def _highest() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
