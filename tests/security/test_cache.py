"""The cache: whatever lies there instead of a result counts as absent, and code is run only as it was made."""

from __future__ import annotations

import io
import json
import os
import zipfile

import numpy as np
import pytest

from lrfdse.base.folders import CACHE_VARIABLE, private_folder
from lrfdse.base.store import Store
from lrfdse.cli import run
from lrfdse.errors import InputError, ToolError
from lrfdse.ir.operators import Softmax
from lrfdse.ir.program import Call, Program, Value
from lrfdse.library.compiling import compile_program
from lrfdse.targets.catalog import load_target
from lrfdse.toolchain import zig
from lrfdse.toolchain.programs import find_zig
from tests.fuzz.places import noting


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def bomb():
    """An archive of a thousandth of what it unpacks to."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, core0=np.zeros(1 << 20), errors=np.zeros(3), weighting=np.zeros((4, 4)))
    return buffer.getvalue()


def boast():
    """An array whose header says that it has 2^50 elements."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 50,)})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("core0", "core1", "errors", "weighting", "0.core0"):
            archive.writestr(f"{name}.npy", header.getvalue())
    return buffer.getvalue()


JSON = [b"", b"null", b"{}", b"[]", b'{"a": Na', b"5", b'"x"', b"[" * 100_000, b"[[[[[1]]]]]", b"\xff\xfe", b"NaN"]
JSON += [json.dumps({k: {} for k in ("stages", "gap", "designs", "measurement", "schedule", "warm", "cold")}).encode()]
JSON += [json.dumps({k: 1 for k in ("stages", "gap", "designs", "measurement", "schedule", "warm", "cold")}).encode()]
ARRAYS = [
    b"",
    b"PK\x03\x04-\x00\x00\x00",
    npz(a=np.zeros(3)),
    npz(core0=np.zeros(3), errors=np.zeros(3)),
    bomb(),
    boast(),
]
ARRAYS += [
    npz(**{"weighting": np.full((2, 3), np.nan), "0.core0": np.zeros(1), "0.errors": np.zeros(1), "48x1": np.zeros(2)})
]


@pytest.mark.parametrize("content", JSON)
def test_a_value_of_another_form_is_absent(content, tmp_path):
    store = Store(tmp_path)
    store.put("fronts", "abc", {"stages": [["all", 3]], "gap": 0.5})

    def read(value):
        return [int(count) for _, count in value["stages"]], float(value["gap"])

    assert store.get("fronts", "abc", read) == ([3], 0.5)
    next(tmp_path.rglob("abc.json")).write_bytes(content)
    assert store.get("fronts", "abc", read) is None


@pytest.mark.parametrize("content", ARRAYS)
def test_arrays_of_another_form_are_absent(content, tmp_path):
    store = Store(tmp_path)
    store.put_arrays("fits", "abc", {"core0": np.ones((1, 2, 3, 1))})

    def read(arrays):
        return arrays["core0"].reshape(1, 2, 3, 1)

    assert store.get_arrays("fits", "abc", read) is not None
    next(tmp_path.rglob("abc.npz")).write_bytes(content)
    assert store.get_arrays("fits", "abc", read) is None


@pytest.mark.parametrize("made", ["link", "FIFO", "folder", "linked folder"])
def test_what_is_no_file_of_the_cache_is_absent_and_nothing_is_written_through_it(made, tmp_path):
    store, victim = Store(tmp_path / "cache"), tmp_path / "victim"
    store.put("fronts", "abc", 1)
    path = next((tmp_path / "cache").rglob("abc.json"))
    if made == "linked folder":
        path.parent.rename(victim)
        path.parent.symlink_to(victim)
        before = {each.name: each.read_bytes() for each in victim.iterdir()}
        assert store.get("fronts", "abc", int) is None
        with pytest.raises(InputError, match="a link or a file"):
            store.put("fronts", "abc", 2)
        assert {each.name: each.read_bytes() for each in victim.iterdir()} == before
        return
    path.unlink()
    victim.write_text("7")
    {"link": lambda: path.symlink_to(victim), "FIFO": lambda: os.mkfifo(path), "folder": path.mkdir}[made]()
    assert store.get("fronts", "abc", int) is None
    if made != "folder":
        store.put("fronts", "abc", 2)
        assert store.get("fronts", "abc", int) == 2
    assert victim.read_text() == "7"


@pytest.mark.slow
def test_a_run_on_a_spoilt_cache_finds_the_same(small_folder, small_space, tmp_path, capsys):
    """Every kind of result, replaced by every content, is absent to what reads it; and a run finds the same on all."""
    cache, readers = tmp_path / "cache", {}
    command = ["explore", str(small_folder), "--target", "riscv64", "--space", str(small_space), "--cache", str(cache)]
    command += ["--budget", "8", "--keep", "0", "--workers", "1"]

    def designs(output):
        assert run([*command, "-o", str(output)]) == 0, capsys.readouterr().err
        document = json.loads((output / "front.json").read_text())
        return document["designs"], document["layers"]

    with noting(readers):
        first = designs(tmp_path / "first")
    stored = [path for path in sorted(cache.rglob("*")) if path.suffix in (".json", ".npz")]
    kinds = {path.relative_to(cache).parts[0] for path in stored}
    assert kinds >= {
        "counts",
        "fronts",
        "spectra",
        "spectrum",
        "fits",
        "weightings",
        "corrections",
        "sensitivity",
        "kernels",
    }
    store, seen = Store(cache), set()
    for number, path in enumerate(stored):
        kind, contents = path.relative_to(cache).parts[0], JSON if path.suffix == ".json" else ARRAYS
        if (kind, path.suffix) not in seen and kind not in ("built", "zig"):
            seen.add((kind, path.suffix))
            take = store.get if path.suffix == ".json" else store.get_arrays
            for content in contents:
                path.write_bytes(content)
                for reader in readers[kind, path.stem]:
                    assert take(kind, path.stem, reader) is None, (kind, content[:80])
        path.write_bytes(contents[number % len(contents)])
    assert designs(tmp_path / "again") == first


@pytest.fixture
def built(tmp_path, monkeypatch):
    """A cache of the test's own, and what makes the harness of a target there."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    if not find_zig():
        pytest.skip("zig is not installed")
    return lambda: zig.harness(load_target("riscv64"), 3)


@pytest.mark.parametrize("how", ["cut", "replaced", "linked", "grown"])
def test_compiled_code_that_changed_is_made_again(how, built, tmp_path):
    path = built()
    content = path.read_bytes()
    before = path.stat().st_mtime_ns
    assert built() == path and path.stat().st_mtime_ns == before
    if how == "linked":
        (tmp_path / "theirs.o").write_bytes(content[:-1] + b"!")
        path.unlink()
        path.symlink_to(tmp_path / "theirs.o")
    else:
        path.write_bytes({"cut": content[:100], "replaced": b"\x7fELF theirs", "grown": content + b"\0"}[how])
    again = built()
    assert again.read_bytes() == content and not again.is_symlink()


def test_folders_of_code_are_the_users_alone(built, tmp_path):
    before = os.umask(0o002)
    try:
        path = built()
    finally:
        os.umask(before)
    for folder in (path.parent, tmp_path / "cache" / "zig"):
        assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_folder_of_code_that_others_may_write_to_is_refused(mode, built):
    path = built()
    path.parent.chmod(mode)
    with pytest.raises(ToolError, match="built: writable by others, so nothing in it is run"):
        built()


def test_a_folder_of_code_that_is_a_link_is_refused(built, tmp_path):
    path = built()
    path.parent.rename(tmp_path / "theirs")
    path.parent.symlink_to(tmp_path / "theirs")
    with pytest.raises(ToolError, match="built: a link or a file, and no folder"):
        built()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_another_users_folder_of_code_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    os.chown(private_folder("built"), 12345, 12345)
    with pytest.raises(ToolError, match="another user's"):
        private_folder("built")


@pytest.fixture
def compiled(tmp_path):
    """A cache that keeps one operator's machine code, and what reads it, or makes it again."""
    program = Program((Value("input", 4), Value("output", 4)), (Call(Softmax(1, 4), (0, 1)),), (), (), {})
    store = Store(tmp_path / "cache")

    def code():
        (function,) = compile_program(
            program, "net", load_target("riscv64"), tmp_path / "m.onnx", store, lambda _: None
        )
        return function.object_code

    code()
    return tmp_path / "cache" / "operators", code


@pytest.mark.slow
def test_machine_code_of_an_operator_that_was_changed_is_made_again(compiled):
    folder, code = compiled
    (path,), before = folder.rglob("*.npz"), code()
    with np.load(path) as stored:
        arrays = dict(stored)
    changed = arrays["code"].copy()
    changed[-1] ^= 1
    for other in ({"code": changed}, {"sha256": np.array("0" * 64)}, {"sha256": np.array(7)}):
        path.write_bytes(npz(**{**arrays, **other}))
        assert code() == before
        with np.load(path) as stored:
            assert stored["code"].tobytes() == before, "it is kept again as it was made"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["open to all", "link"])
def test_machine_code_of_an_operator_from_a_folder_of_others_is_not_run(how, compiled, tmp_path):
    folder, code = compiled
    if how == "link":
        folder.rename(tmp_path / "theirs")
        folder.symlink_to(tmp_path / "theirs")
    else:
        folder.chmod(0o777)
    with pytest.raises(ToolError, match=r"operators: .* so nothing in it is run"):
        code()


@pytest.mark.slow
def test_a_folder_of_machine_code_that_others_may_read_becomes_the_users_alone(compiled):
    folder, code = compiled
    folder.chmod(0o755)
    code()
    assert folder.stat().st_mode & 0o777 == 0o700
