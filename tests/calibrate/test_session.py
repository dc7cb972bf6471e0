"""Designs on a board: a real SSH server on loopback whose programs run under QEMU, and what fails on the way."""

from __future__ import annotations

import getpass
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from lrfdse.board.result import BoardRun
from lrfdse.calibrate import session
from lrfdse.calibrate.programs import BenchOptions
from lrfdse.cli import run
from lrfdse.deploy import designs
from lrfdse.results.read import read_document
from lrfdse.targets.catalog import load_target

pytestmark = pytest.mark.slow

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
EMULATORS = {name: load_target(name).emulator for name in ("riscv64", "aarch64")}


@dataclass(frozen=True)
class Server:
    """An SSH server that runs what it is asked to as a board of an instruction set would."""

    client: str
    """The command that reaches it."""
    log: Path
    """A line for every command that it ran."""
    temporary: Path
    """Its folder for temporary files."""
    target: str


def serve(folder: Path, name: str, words: list[str]):
    """Start a server whose last program of a command line goes to what stands in for a board."""
    if SSHD is None or shutil.which("ssh") is None:
        pytest.skip("no SSH server: apt-get install openssh-server")
    for key in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
    temporary = folder / "board's tmp"
    temporary.mkdir()
    script = folder / "command"
    script.write_text(
        "#!/bin/sh\n"
        f"export TMPDIR={shlex.quote(str(temporary))}\n"
        f'printf "%s\\n" "$SSH_ORIGINAL_COMMAND" >> {folder}/log\n'
        "echo Welcome to the board\n"
        f"""exec sh -c "$(printf %s "$SSH_ORIGINAL_COMMAND" | sed 's|; "$t"|; {" ".join(words)} "$t"|')"\n"""
    )
    script.chmod(0o755)
    shutil.copy(folder / "user.pub", folder / "authorized")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "authorized",
        "PidFile": "none",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "UsePAM": "no",
        "StrictModes": "no",
        "ForceCommand": script,
    }
    (folder / "sshd.conf").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    (folder / "known").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    server = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "sshd.conf"], stderr=(folder / "sshd.log").open("w"))
    options = [f"-p{port}", "-F/dev/null", "-i", folder / "user", f"-oUserKnownHostsFile={folder / 'known'}"]
    client = shlex.join(map(str, ["ssh", *options, f"{getpass.getuser()}@127.0.0.1"]))
    try:
        for _ in range(6000):
            if server.poll() is not None:
                pytest.skip(f"sshd does not start: {(folder / 'sshd.log').read_text()[-300:]}")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield Server(client, folder / "log", temporary, name)
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture(scope="module")
def server(tmp_path_factory, board_words):
    yield from serve(tmp_path_factory.mktemp("sshd"), "riscv64", board_words())


@pytest.fixture(scope="module")
def explored(small_folder, small_space, shared_cache, tmp_path_factory):
    """The output of an exploration that knows of no session."""
    folder = tmp_path_factory.mktemp("explored") / "out put"
    assert run(explore_command(small_folder, small_space, shared_cache, folder)) == 0
    return folder


@pytest.fixture
def output(explored, tmp_path):
    """A copy of it, at the same depth."""
    return shutil.copytree(explored, tmp_path / "out put")


@pytest.fixture
def bench(shared_cache):
    return lambda folder, *more: run(["bench", str(folder), "--cache", str(shared_cache), *map(str, more)])


def explore_command(model, space, cache, output, *more, target="riscv64"):
    options = {"--target": target, "-o": output, "--space": space, "--cache": cache, "--budget": 12, "--keep": 2}
    return [str(word) for word in ("explore", model, *(x for pair in options.items() for x in pair), *more)]


def qemu(name: str = "riscv64") -> str:
    return f"{shlex.join(EMULATORS[name])} {{program}} {{arguments}}"


QUICK = ("--repeats", 3, "--min-time", 0)


def check_record(folder: Path, ids: set[str]) -> None:
    """board.json says of every layer of every design what was measured and what is modelled."""
    record = json.loads((folder / "board.json").read_text())
    document = json.loads((folder / "front.json").read_text())
    designs = {entry["id"]: entry for entry in (document["original"], *document["designs"])}
    assert {entry["id"] for entry in record["designs"]} == ids
    layers = {layer["name"]: {o["factorization"]: o for o in layer["options"]} for layer in document["layers"]}
    assert len(record["kernels"]) == len(ids) * len(layers)
    for kernel in record["kernels"]:
        assert kernel["factorization"] == designs[kernel["design"]]["plan"][kernel["layer"]]["factorization"]
        option = layers[kernel["layer"]][kernel["factorization"]]
        assert kernel["schedule"] in option["schedules"]
        for regime in ("warm", "cold"):
            # What the exploration's own meter said of the kernel, number for number.
            assert kernel["modelled"][regime]["us"] == pytest.approx(list(option["latency"][regime].values()), rel=1e-6)
            median, low, high = kernel[f"{regime}_us"]
            assert 0 < low <= median <= high


def test_exploring_with_a_board_measures_the_kept_designs_there(
    server, small_folder, small_space, shared_cache, tmp_path, capsys
):
    folder = tmp_path / "out"
    assert run(explore_command(small_folder, small_space, shared_cache, folder, "--runner", server.client)) == 0
    shown = capsys.readouterr()
    assert "on the board" in shown.out
    document = read_document(folder)
    designs = {design.id: design for design in document.every_design()}
    kept = {path.parent.name for path in folder.glob("designs/*/bench")}
    measured = {identity for identity, design in designs.items() if design.board is not None}
    assert measured == kept
    # What a board's numbers are held against is always there.
    assert {document.original.id, document.recommended} <= measured
    for identity in measured:
        design, board = designs[identity], designs[identity].board
        plan = {name: choice.factorization for name, choice in design.plan.items()}
        assert {layer.layer: layer.factorization for layer in board.layers} == plan
        assert board.description["uname"]["machine"] == "riscv64"
        assert board.description["vector_bits"] == 256
        assert board.whole.low_us <= board.whole.us <= board.whole.high_us
        # The modelled number stays what it was: nothing of a board is in it.
        assert design.charged.us < 10
    assert document.meter.kind == "modelled"
    check_record(folder, kept)
    assert any(note.startswith("on the board: ") for note in document.notes)
    page = (folder / "report.html").read_text()
    assert "on the board (µs)" in page
    # Once to see whether the board is there, once for each design; every program was removed again.
    commands = server.log.read_text().splitlines()
    assert len(commands) == 1 + len(kept)
    assert list(server.temporary.iterdir()) == []
    host = server.client.split()[-1].partition("@")[2]
    assert host not in (folder / "front.json").read_text()
    assert "--runner" not in document.command


@pytest.mark.parametrize(("evicted", "said"), [(8 << 20, True), (128 << 20, False)])
def test_a_board_whose_caches_were_not_emptied_is_said(evicted, said):
    described = {"largest_cache_bytes": 64 << 20, "evicted_bytes": evicted}
    (note,) = session.board_notes([BoardRun("0123abcd", "riscv64", "0.1.0", 21, (), None, described)])
    assert note.startswith("on the board: wall clock")
    assert ("some of it may have stayed warm" in note) == said


def test_a_finished_exploration_is_measured_later_and_again(server, board, output, bench, capsys):
    before = json.loads((output / "front.json").read_text())
    assert "on the board (µs)" not in (output / "report.html").read_text()
    assert bench(output, "--runner", server.client, *QUICK, "--json") == 0
    assert json.loads(capsys.readouterr().out)["target"] == "riscv64"
    assert "--repeats 3 --min-time 0" in server.log.read_text().splitlines()[-1]
    kept = {path.parent.name for path in output.glob("designs/*/bench")}
    check_record(output, kept)
    after = json.loads((output / "front.json").read_text())
    assert {entry["id"] for entry in after["designs"] if entry["board"]} <= kept
    assert "on the board (µs)" in (output / "report.html").read_text()
    assert bench(output, "--runner", board(), *QUICK) == 0
    text = capsys.readouterr().out
    assert "Designs on the board" in text
    assert text.rstrip().endswith("board.json")
    again = json.loads((output / "front.json").read_text())
    for document in (after, again):
        assert sum(note.startswith("on the board: ") for note in document.pop("notes")) == 1
        for entry in (document["original"], *document["designs"], *document["dominated"]):
            entry.pop("board")
    before.pop("notes")
    for entry in (before["original"], *before["designs"], *before["dominated"]):
        assert entry.pop("board") is None
    assert before == after == again


def test_what_a_board_measured_calibrates_its_target(output, board, bench, tmp_path, capsys):
    """The chain, with times of a board whose clock is a quarter slower than the target's, memory included."""
    assert bench(output, "--runner", board(), *QUICK) == 0
    record = json.loads((output / "board.json").read_text())
    for kernel in record["kernels"]:
        for regime in ("warm", "cold"):
            kernel[f"{regime}_us"] = [1.25 * us for us in kernel["modelled"][regime]["us"]]
    (output / "board.json").write_text(json.dumps(record))
    target = tmp_path / "my.toml"
    assert run(["calibrate", "-t", "riscv64", "--measured", str(output / "board.json"), "-o", str(target)]) == 0
    assert "Assumptions" in capsys.readouterr().out
    made = load_target(str(target))
    assert made.core.endswith("calibrated on a board")
    assert made.clock_mhz == pytest.approx(load_target("riscv64").clock_mhz / 1.25, rel=0.01)


def written(folder: Path) -> dict[str, bytes]:
    """Return every file of an output folder that speaks of latencies."""
    names = ("front.json", "front.csv", "report.html", "board.json")
    return {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}


def test_an_emulator_is_refused_and_nothing_is_written(output, bench, small_folder, small_space, shared_cache, capsys):
    before = written(output)
    assert bench(output, "--runner", qemu(), *QUICK) == 2
    assert "leads to an emulator, not to a board: the program runs inside qemu-riscv64" in only_line(capsys)
    assert written(output) == before
    again = output.parent / "again"
    assert run(explore_command(small_folder, small_space, shared_cache, again, "--runner", qemu())) == 2
    assert "`lrfdse bench DIR --allow-emulator`" in only_line(capsys)
    assert written(again) == {}


def test_what_ran_under_an_emulator_is_no_latency(output, bench, capsys):
    before = written(output)
    assert bench(output, "--runner", qemu(), "--allow-emulator", *QUICK) == 0
    text = capsys.readouterr().out
    assert "emulated, not a latency" in text
    assert "Emulated, not a latency: the program runs inside qemu-riscv64. Nothing was written." in text
    assert bench(output, "--runner", qemu(), "--allow-emulator", "--json", *QUICK) == 0
    told = json.loads(capsys.readouterr().out)
    document = read_document(output)
    assert document.original.id in {entry["id"] for entry in told["designs"]}
    assert all(0 < entry["max_error"] < 1e-4 and entry["emulated_us"][0] > 0 for entry in told["designs"])
    assert "kernels" not in told and "whole_us" not in text
    assert written(output) == before


def test_an_emulator_that_looks_like_a_board_is_too_slow_for_one(output, board, bench, capsys):
    """The description is a board's, the times are QEMU's."""
    before = written(output)
    assert bench(output, "--runner", board(0.01), *QUICK) == 4
    assert "times what is modelled: an emulator, or no machine that the target describes" in only_line(capsys)
    assert written(output) == before
    assert bench(output, "--runner", board(0.01), "--allow-emulator", *QUICK) == 0
    assert "Emulated, not a latency: the median kernel took" in capsys.readouterr().out
    assert written(output) == before


def test_a_board_is_a_board_where_emulators_are_allowed(output, board, bench, capsys):
    assert bench(output, "--runner", board(), "--allow-emulator", *QUICK) == 0
    assert "Designs on the board" in capsys.readouterr().out
    assert (output / "board.json").exists()


def test_the_original_and_svd_of_equal_size_are_always_timed(output, board, bench, capsys):
    """They were not kept: their programs are made for the run and leave nothing behind."""
    raw = json.loads((output / "front.json").read_text())
    baselines = [raw["original"]["id"], next(entry["id"] for entry in raw["designs"] if entry["model"] is None)]
    raw["svd_at_equal_size"] = baselines[1]
    (output / "front.json").write_text(json.dumps(raw))
    shutil.rmtree(output / "designs" / baselines[0], ignore_errors=True)
    left = sorted(output.glob("designs/*"))
    assert left, "something else is to be compared with them"
    assert bench(output, "--runner", board(), *QUICK) == 0
    shown = capsys.readouterr()
    assert all(identity in shown.out for identity in baselines)
    assert "the original was not kept: its program is made for this run" in shown.err
    assert "SVD of equal size was not kept" in shown.err
    document = read_document(output)
    assert all(document.design(identity).board is not None for identity in baselines)
    assert sorted(output.glob("designs/*")) == left
    rows = [line.split() for line in shown.out.splitlines() if any(path.name in line for path in left)]
    # The modelled speed-up beside the measured one, warm and with the caches emptied.
    assert rows and all(sum(cell.endswith("x") for cell in row) == 4 for row in rows)

    document = json.loads((output / "front.json").read_text())
    document["model"]["path"] = "moved.onnx"
    (output / "front.json").write_text(json.dumps(document))
    assert bench(output, "--runner", board(), *QUICK) == 0
    assert "the original is not timed: " in capsys.readouterr().err


def test_tables_fit_80_columns(output, board, bench, capsys):
    assert bench(output, "--runner", board(), *QUICK) == 0
    table = capsys.readouterr().out.partition("\n\n")[0]
    assert max(len(line.rstrip()) for line in table.splitlines()) <= 80


def test_an_aarch64_board(tmp_path_factory, board_words, small_folder, small_space, shared_cache, tmp_path):
    for server in serve(tmp_path_factory.mktemp("sshd"), "aarch64", board_words("aarch64")):
        command = explore_command(small_folder, small_space, shared_cache, tmp_path, target="aarch64")
        assert run([*command, "--runner", server.client]) == 0
    document = read_document(tmp_path)
    description = document.original.board.description
    assert description["uname"]["machine"] == "aarch64"
    assert description["vector_bits"] is None


def only_line(capsys) -> str:
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("lrfdse: ")]
    assert len(said) == 1
    return said[0]


def test_boards_that_are_not_there_end_an_exploration_before_it_begins(
    server, small_folder, small_space, shared_cache, tmp_path, capsys
):
    nobody = server.client.replace(f"{getpass.getuser()}@", "nobody-of-that-name@")
    wrong_key = server.client.replace("known", "unknown")
    for template, said in (
        ("ssh -p 1 -F/dev/null nobody@127.0.0.1", "Connection refused"),
        (nobody, "Permission denied"),
        (wrong_key, "Host key verification failed"),
        (f"{shlex.join(EMULATORS['aarch64'])} {{program}}", "no result"),
        ("qemu-riscv64 -cpu rv64,v=false {program}", "illegal instruction"),
        ("no-such-client {program}", "cannot be started"),
    ):
        assert run(explore_command(small_folder, small_space, shared_cache, tmp_path / "x", "--runner", template)) == 4
        assert said in only_line(capsys)
    assert run(explore_command(small_folder, small_space, shared_cache, tmp_path / "x", "--runner", "a 'b")) == 2
    assert not list((tmp_path / "x").glob("front.json"))


def test_a_board_that_is_lost_after_the_search_costs_its_own_numbers_only(
    board_words, small_folder, small_space, shared_cache, tmp_path, capsys
):
    """It answers once: when it is looked for."""
    flag, script = tmp_path / "seen", tmp_path / "board"
    emulator = shlex.join(board_words())
    script.write_text(f'#!/bin/sh\n[ -e {flag} ] && echo gone >&2 && exit 255\n: > {flag}\nexec {emulator} "$1"\n')
    script.chmod(0o755)
    folder = tmp_path / "out"
    template = f"{script} {{program}}"
    assert run(explore_command(small_folder, small_space, shared_cache, folder, "--runner", template)) == 4
    said = only_line(capsys)
    assert "status 255 and no result: gone" in said
    assert f"go on with `lrfdse bench {folder} --runner ...`" in said
    document = read_document(folder)
    assert all(design.board is None for design in document.every_design())
    assert not (folder / "board.json").exists()
    assert (folder / "report.html").exists()
    # Whoever checks the folder learns that it is not what was asked for.
    assert run(["check", str(folder), "--max-drop", "100"]) == 4


def test_wrong_numbers_on_the_board_are_refused_and_nothing_changes(output, board, bench, capsys):
    before = (output / "front.json").read_bytes()
    program = max(output.glob("designs/*/bench"), key=lambda path: path.stat().st_size)
    weights = max(program.parent.glob("kernels/*.weights.bin"), key=lambda path: path.stat().st_size).read_bytes()[:256]
    damaged = bytearray(program.read_bytes())
    assert damaged.count(weights) == 1
    place = damaged.index(weights)
    for byte in range(place + 3, place + 256, 4):
        damaged[byte] ^= 0x80
    program.write_bytes(damaged)
    assert bench(output, "--runner", board(), *QUICK) == 4
    assert f"design {program.parent.name}, layer 'fc1': wrong output" in only_line(capsys)
    assert (output / "front.json").read_bytes() == before
    assert not (output / "board.json").exists()


def test_an_earlier_copy_of_a_program_is_noticed(output, board_words, bench, tmp_path, capsys):
    """Same design, other schedule: its runner forgot to copy."""
    script = tmp_path / "stale"
    emulator = shlex.join(board_words())
    change = "sed 's/:u[0-9]*\"/:u99\"/'"
    script.write_text(f'#!/bin/sh\n{emulator} "$1" --repeats 1 --min-time 0 | {change}\n')
    script.chmod(0o755)
    assert bench(output, "--runner", f"{script} {{program}}") == 4
    assert "ran another program than design" in only_line(capsys)
    assert not (output / "board.json").exists()


def test_folders_that_cannot_be_measured_are_refused(output, board, bench, tmp_path, capsys):
    assert bench(tmp_path / "nothing", "--runner", board()) == 2
    assert "nothing: cannot be read" in only_line(capsys)
    for program in output.glob("designs/*/bench"):
        program.unlink()
    assert bench(output, "--runner", board()) == 2
    assert "holds no program for a board" in only_line(capsys)
    document = json.loads((output / "front.json").read_text())
    document["target"]["digest"] = "0"
    (output / "front.json").write_text(json.dumps(document))
    assert bench(output, "--runner", board()) == 2
    assert "not the target that was explored" in only_line(capsys)


def test_exported_designs_are_measured_too(
    explored, board, tmp_path, bench, capsys, small_folder, small_space, shared_cache
):
    folder = tmp_path / "out"
    assert run(explore_command(small_folder, small_space, shared_cache, folder)) == 0
    document = json.loads((folder / "front.json").read_text())
    wanted = next(entry["id"] for entry in document["designs"] if entry["model"] is None)
    assert run(["export", str(folder), wanted]) == 0
    assert bench(folder, "--runner", board(), *QUICK) == 0
    assert wanted in {entry["id"] for entry in json.loads((folder / "board.json").read_text())["designs"]}


def test_a_design_without_a_program_is_kept_all_the_same(
    small_folder, small_space, shared_cache, tmp_path, monkeypatch, capsys
):
    def too_large(*_):
        raise designs.ToolError("600 MiB of weights")

    monkeypatch.setattr(designs, "build_program", too_large)
    assert run(explore_command(small_folder, small_space, shared_cache, tmp_path / "out")) == 0
    assert "gets no program for a board: 600 MiB of weights" in capsys.readouterr().err
    assert list((tmp_path / "out").glob("designs/*/model.onnx"))
    assert not list((tmp_path / "out").glob("designs/*/bench"))


def test_an_interrupt_ends_bench_with_all_it_started(output, shared_cache, tmp_path):
    pid = tmp_path / "pid"
    script = tmp_path / "slow"
    script.write_text(f"#!/bin/sh\necho $$ > {pid}\nexec sleep 100\n")
    script.chmod(0o755)
    before = (output / "front.json").read_bytes()
    command = ["bench", str(output), "--cache", str(shared_cache), "--runner", f"{script} {{program}}"]
    # Tests that run in the background of a shell inherit that Ctrl-C is ignored.
    heard = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{heard}; sys.argv[1:] = {command!r}; from lrfdse.cli import main; main()"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(6000):
            if pid.exists() and pid.read_text().strip():
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode in (130, -signal.SIGINT)
    assert "interrupted" in errors
    assert "Traceback" not in errors
    child = int(pid.read_text())
    for _ in range(6000):
        if not Path(f"/proc/{child}").exists() or " Z " in Path(f"/proc/{child}/stat").read_text():
            break
        time.sleep(0.05)
    else:
        pytest.fail("the command outlived who started it")
    assert (output / "front.json").read_bytes() == before


def test_options_become_the_programs_arguments():
    options = BenchOptions(repeats=5, min_time_ms=0, core=3)
    assert options.arguments == ["--repeats", "5", "--min-time", "0", "--core", "3"]
    assert BenchOptions().arguments == []


def test_whole_models_run_on_a_board_operator_by_operator(output, board, bench, capsys):
    assert bench(output, "--whole", "--runner", qemu(), "--repeats", 2) == 2
    assert "leads to an emulator" in only_line(capsys)
    before = written(output)
    assert bench(output, "--whole", "--runner", qemu(), "--allow-emulator", "--repeats", 2) == 0
    assert "Emulated, not a latency: the program runs inside qemu-riscv64." in capsys.readouterr().out
    assert written(output) == before
    assert bench(output, "--whole", "--runner", board(), "--repeats", 3) == 0
    text = capsys.readouterr().out
    document = read_document(output)
    for design in (document.original, document.best):
        cost = design.whole_model
        found = cost.board
        assert f"Whole model {design.id}" in text and len(found.operators) == len(cost.operators) > 1
        assert found.repeats == 3 and 0 <= found.max_error < 1e-4 and found.description["vector_bits"] == 256
        for latency in (found.latency, *found.operators):
            for each in (latency.warm, latency.cold):
                assert 0 <= each.low_us <= each.us <= each.high_us
        assert sum(each.warm.low_us for each in found.operators) <= found.latency.warm.high_us
        # What the meter said stays what it was.
        assert cost.latency.warm.us < found.latency.warm.us
    assert "us on the board" in (output / "report.html").read_text()
    shutil.rmtree(output / document.best.whole_model.library)
    assert bench(output, "--whole", "--runner", board(), "--repeats", 2) == 2
    assert "holds no library of a whole model" in only_line(capsys)
