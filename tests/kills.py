"""``python -m tests.kills --kills N``: SIGKILL an exploration, or its worker, at moments spread over the whole of it.

An undisturbed run says what happens, event by event, and what comes out. Then the same exploration begins with an empty
cache and is killed N times: each time after the next of N events that are spread evenly over the undisturbed run, and a
random moment more; what was killed is started again in the same folder. At the end the results are the same bytes, and
nothing is left behind: no process, and no temporary file in the output folder, the cache or TMPDIR. CPU time is said.

With ``--worker``, the one that is killed evaluates plans beside an exploration that is left alone.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import random
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lrfdse.base.files import write_atomically
from tests.fuzz.report import day_and_commit

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "lenet300-fashion"
MAIN = "from lrfdse.cli import main\nif __name__ == '__main__': main()"
RESULTS = ("front.json", "front.csv", "report.html")
TEMPORARY = re.compile(r"lrfdse-.*|tmp.*|\..*\.lrfdse-[0-9a-f]{12}")
"""Names of files and folders that are there for a moment."""


HEAD = """# Kills

Written by `python -m tests.kills --report results/kills.md`, one row a command. Explorations, or workers beside them,
are ended by SIGKILL and started again; [docs/security.md](../docs/security.md#what-is-checked) says when, and what is
compared afterwards. CPU seconds are those of all processes, the undisturbed run's among them.
"""
COLUMNS = ("command", "killed", "kills", "interrupted", "differs", "left behind", "CPU, s", "date", "commit")


@dataclass(frozen=True)
class Place:
    """Where one exploration works: a folder of its own for each kind of file."""

    root: Path

    @property
    def output(self) -> Path:
        return self.root / "out"

    def command(self, *words: object) -> list[str]:
        return [sys.executable, "-c", MAIN, *map(str, words), "--cache", str(self.root / "cache")]

    def start(self, *words: object) -> subprocess.Popen[bytes]:
        for name in ("cache", "tmp"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "TMPDIR": str(self.root / "tmp"), "PYTHONPATH": str(ROOT)}
        environment.pop("LRFDSE_CACHE", None)
        with open(self.root / "stderr", "ab") as errors:
            return subprocess.Popen(
                self.command(*words), stdout=subprocess.DEVNULL, stderr=errors, env=environment, cwd=self.root
            )

    @property
    def log(self) -> Path:
        return self.output / "log.jsonl"

    def logged(self) -> int:
        """Return the bytes that the runs so far have logged."""
        return self.log.stat().st_size if self.log.exists() else 0

    def events(self, after: int = 0) -> list[tuple[str, str, str]]:
        """Return what the runs have done after so many bytes of their log: stages and counts, without times."""
        found = []
        for line in self.log.read_bytes()[after:].splitlines() if self.log.exists() else []:
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                found.append((event["stage"], str(event.get("text", "")), str(event.get("done", ""))))
        return found

    def results(self) -> dict[str, bytes]:
        """Return the content of every file of the results: documents, and the designs that were kept."""
        paths = [self.output / name for name in RESULTS]
        paths += [path for path in self.output.glob("designs/**/*") if path.is_file()]
        return {str(path.relative_to(self.output)): path.read_bytes() for path in sorted(paths)}

    def left_behind(self) -> list[str]:
        """Return temporary files, and processes that work in this place."""
        found = [str(path) for path in (self.root / "tmp").iterdir()]
        # What zig keeps in the cache is its own.
        written = [*self.output.rglob("*"), *(self.root / "cache").glob("[!z]*/**/*"), *(self.root / "cache").glob("*")]
        found += [str(path) for path in written if TEMPORARY.fullmatch(path.name)]
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if f"TMPDIR={self.root / 'tmp'}\0".encode() in (process / "environ").read_bytes():
                    found.append(f"process {process.name}: {(process / 'cmdline').read_bytes()[:200]!r}")
        return found


@dataclass(frozen=True)
class Outcome:
    """What a campaign found; nothing in the last two where all is well."""

    kills: int
    stages: tuple[str, ...]
    """The last event of the exploration before each kill; of a worker, whether it was evaluating."""
    differing: tuple[str, ...]
    """Results that are not those of the undisturbed run."""
    left: tuple[str, ...]
    """What was left behind."""


def explored(place: Place, model: Path, more: Sequence[object]) -> list[object]:
    return ["explore", model, "--target", "riscv64", "--output", place.output, *more]


def undisturbed(root: Path, model: Path, more: Sequence[object]) -> Place:
    """Explore without being killed."""
    place = Place(root)
    if code := place.start(*explored(place, model, more)).wait():
        raise RuntimeError(f"the undisturbed run ended with {code}: {(root / 'stderr').read_text()[-2000:]}")
    return place


def beside(root: Path, number: int) -> Place:
    """Return a place beside the undisturbed run's: paths in results are relative."""
    return Place(root.with_name(f"{root.name}-{number}"))


def warm_up(place: Place, whole: Place) -> None:
    """Begin with the undisturbed run's cache, but for what plans are evaluated with."""
    shutil.copytree(whole.root / "cache", place.root / "cache", ignore=shutil.ignore_patterns("corrections"))


def kill_explorations(whole: Place, root: Path, model: Path, more: Sequence[object], kills: int, seed: int) -> Outcome:
    """Kill explorations `kills` times on their way.

    The first begins with an empty cache. Where one comes to its end before enough were killed, the next one begins with
    the undisturbed run's cache, but for what plans are evaluated with, and what is left of the kills is spread over it.
    """
    draw, expected = random.Random(seed), whole.events()
    last, left, differing = list[str](), set[str](), set[str]()
    explorations = 0
    while len(last) < kills and explorations <= kills:
        explorations += 1
        place = beside(root, explorations)
        command = explored(place, model, more)
        if explorations > 1:
            warm_up(place, whole)
        missing = kills - len(last)
        for number in range(missing):
            # A run that goes on skips what is done: where the event does not come again, any later one will do.
            later = set(expected[(2 * number + 1) * len(expected) // (2 * missing) :])
            begun = seen = place.logged()
            process = place.start(*command)
            while process.poll() is None:
                if place.logged() > seen:
                    seen = place.logged()
                    if later.intersection(place.events(begun)):
                        break
                time.sleep(0.01)
            time.sleep(draw.uniform(0, 0.2))
            process.kill()
            if process.wait() != -signal.SIGKILL:
                break
            last.append((place.events() or [("nothing", "", "")])[-1][0])
        outcome = ended(place, whole, command, last)
        differing.update(outcome.differing)
        left.update(outcome.left)
    return Outcome(len(last), tuple(last), tuple(sorted(differing)), tuple(sorted(left)))


def kill_workers(whole: Place, root: Path, model: Path, more: Sequence[object], kills: int, seed: int) -> Outcome:
    """Kill `kills` workers, each a random moment after it has taken a plan, beside explorations that are left alone.

    Three work or start at any time: a new one takes seconds to start. An exploration that ends before enough were
    killed is compared, and the next one begins with a new study. All have the undisturbed run's cache, but for what
    plans are evaluated with.
    """
    draw, last, left, differing = random.Random(seed), list[str](), set[str](), set[str]()
    explorations = 0
    while len(last) < kills and explorations <= kills:
        explorations += 1
        place = beside(root, explorations)
        warm_up(place, whole)
        # A study, and not the exploration's own: other processes may join, and parts are shared with them.
        database = place.root / "study.db"
        shared = ["--study", f"sqlite:///{database}", "--artifacts", place.root / "artifacts"]
        command = [*explored(place, model, more), *shared]
        joining = ["worker", *shared, "--idle", 60]
        workers, leader = [place.start(*joining) for _ in range(3)], place.start(*command)
        killed: collections.Counter[str] = collections.Counter()
        while leader.poll() is None and len(last) < kills:
            taken = plans_of(database)
            # Over which three processes died, a plan counts as one that cannot be evaluated.
            ready = [each for each in workers if each.pid in taken and killed[taken[each.pid].plan] < 2]
            if ready and leader.poll() is None:
                time.sleep(draw.uniform(0, 0.05))
                worker = draw.choice(ready)
                worker.kill()
                worker.wait()
                at = plans_of(database).get(worker.pid, taken[worker.pid])
                killed[at.plan] += 1
                last.append("evaluating" if at.is_running else "between plans")
                workers[workers.index(worker)] = place.start(*joining)
            time.sleep(0.002)
        code = leader.wait()
        for worker in workers:
            worker.wait()
        if code:
            raise RuntimeError(f"the exploration ended with {code}: {(place.root / 'stderr').read_text()[-2000:]}")
        outcome = ended(place, whole, command, last)
        differing.update(outcome.differing)
        left.update(outcome.left)
    return Outcome(len(last), tuple(last), tuple(sorted(differing)), tuple(sorted(left)))


@dataclass(frozen=True)
class Taken:
    """What a process has taken last of a study."""

    plan: str
    is_running: bool


def plans_of(database: Path) -> dict[int, Taken]:
    """Return the plan that each process has taken last, by its number; nothing where there is no study yet."""
    query = """
        select a.value_json, t.state,
            (select group_concat(param_name || '=' || param_value) from trial_params where trial_id = t.trial_id)
        from trials t join trial_user_attributes a on a.trial_id = t.trial_id
        where a.key = 'worker' order by t.trial_id
    """
    rows = []
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as opened,
    ):
        rows = opened.execute(query).fetchall()
    return {int(json.loads(signed).split(":")[1]): Taken(plan, state == "RUNNING") for signed, state, plan in rows}


def ended(place: Place, whole: Place, command: Sequence[object], last: Sequence[str]) -> Outcome:
    """Run to the end and compare."""
    if code := place.start(*command).wait():
        raise RuntimeError(f"the last run ended with {code}: {(place.root / 'stderr').read_text()[-2000:]}")
    deadline = time.monotonic() + 600
    while (left := place.left_behind()) and time.monotonic() < deadline:
        time.sleep(0.1)
    before, after = whole.results(), place.results()
    differing = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    return Outcome(len(last), tuple(last), tuple(differing), tuple(left))


def written(path: Path, killed: str, command: str, outcome: Outcome, seconds: float) -> None:
    """Put the row of a campaign into a report, in which those of other commands stay."""
    stages = [f"{stage} {outcome.stages.count(stage)}" for stage in dict.fromkeys(outcome.stages)]
    ends = [", ".join(found) or "nothing" for found in (outcome.differing, outcome.left)]
    cells = [f"`{command}`", killed, outcome.kills, ", ".join(stages), *ends, f"{seconds:,.0f}", *day_and_commit()]
    earlier = path.read_text().splitlines() if path.exists() else []
    kept = [line for line in earlier if line.startswith("| `") and not line.startswith(f"| `{command}` |")]
    head = [f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}"]
    rows = sorted([*kept, f"| {' | '.join(map(str, cells))} |"])
    write_atomically(path, "\n".join([HEAD, *head, *rows]) + "\n")


@contextlib.contextmanager
def kept(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder.resolve()
    else:
        with tempfile.TemporaryDirectory() as made:
            yield Path(made)


def main() -> int:
    """Run a campaign; return 1 where anything differs or is left behind."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.kills",
        description=__doc__.partition("\n")[0],
        epilog="Other options are those of explore.",
        allow_abbrev=False,
    )
    parser.add_argument("--model", type=Path, default=EXAMPLE, help="default: README's example")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--worker", action="store_true", help="kill a worker, not the exploration")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path, help="Markdown in which the row of this command is replaced")
    parser.add_argument("--folder", type=Path, help="where to work, and what to leave; default: a temporary folder")
    options, more = parser.parse_known_args()
    with kept(options.folder) as folder:
        model = options.model.resolve()
        whole = undisturbed(folder / "whole", model, more)
        campaign = kill_workers if options.worker else kill_explorations
        outcome = campaign(whole, folder / "killed", model, more, options.kills, options.seed)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = used.ru_utime + used.ru_stime
    print(f"{outcome.kills} kills in {seconds:.0f} CPU s, and what each interrupted:")
    for stage in dict.fromkeys(outcome.stages):
        print(f"  {stage:12} {outcome.stages.count(stage):3}")
    for what, found in (("differ", outcome.differing), ("left behind", outcome.left)):
        print(f"{what}: {', '.join(found) or 'nothing'}")
    if options.report:
        asked = " ".join([f"--kills {options.kills}", *(["--worker"] if options.worker else []), *map(str, more)])
        asked += "" if options.model == EXAMPLE else f" --model {options.model.name}"
        written(options.report, "workers" if options.worker else "explorations", asked, outcome, seconds)
    return int(bool(outcome.differing or outcome.left or outcome.kills < options.kills))


if __name__ == "__main__":
    sys.exit(main())
