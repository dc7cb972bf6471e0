"""What a full disk, or a lack of memory, ends says nothing of kernels, plans and models: the run ends with one line."""

from __future__ import annotations

import signal
import sys

import numpy as np
import pytest

from lrfdse.base.files import write_atomically
from lrfdse.base.processes import run_to_end
from lrfdse.errors import InputError, PlanError, RoomError, ToolError, WriteError, plan_errors
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.kernel import KernelSpec
from lrfdse.kernels.build import compile_kernel
from lrfdse.kernels.schedules import schedules
from lrfdse.model.runtime import Runtime
from lrfdse.targets.catalog import load_target
from lrfdse.toolchain.zig import run_zig

KILL_ITSELF = "import os, signal, sys; os.kill(os.getpid(), int(sys.argv[1]))"


def ended_by(number: int) -> list[str]:
    return [sys.executable, "-c", KILL_ITSELF, str(int(number))]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT])
def test_a_program_that_the_system_ends_is_no_kernel_that_crashed(number):
    with pytest.raises(RoomError, match=f"step failed: it was ended by {number.name}"):
        run_to_end(ended_by(number), "step")


def test_what_instructions_bring_about_is_for_the_caller_to_say():
    assert run_to_end(ended_by(signal.SIGILL), "step").returncode == -signal.SIGILL
    assert run_to_end([sys.executable, "-c", "raise SystemExit(3)"], "step").returncode == 3
    with pytest.raises(ToolError, match="No such file") as caught:
        run_to_end(["/nowhere/program"], "step")
    assert not isinstance(caught.value, RoomError)


@pytest.mark.parametrize("script", ["kill -BUS $$", "kill -ABRT $$", "echo 'error: NoSpaceLeft' >&2; exit 1"])
def test_zig_on_a_full_disk_is_no_refusal_of_the_linker(script, tmp_path, monkeypatch):
    """It writes through memory, and ends by SIGBUS without a word; `link_object` would call that the kernel's fault."""
    monkeypatch.setenv("LRFDSE_CACHE", str(tmp_path))
    with pytest.raises(RoomError, match="linking failed"):
        run_zig(["/bin/sh", "-c", script], "linking")


def test_a_zig_that_refuses_is_a_tool_that_failed(tmp_path, monkeypatch):
    monkeypatch.setenv("LRFDSE_CACHE", str(tmp_path))
    with pytest.raises(ToolError, match="linking failed: error: undefined symbol") as caught:
        run_zig(["/bin/sh", "-c", "echo 'error: undefined symbol' >&2; exit 1"], "linking")
    assert not isinstance(caught.value, RoomError)


def test_a_plan_is_not_to_blame_for_a_disk(tmp_path):
    """A failed plan is kept in the study, and would be missing there for good."""
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cannot be written"), plan_errors():
        write_atomically(tmp_path / "file" / "result", b"")
    with pytest.raises(PlanError), plan_errors():
        raise InputError("the output changes its shape")


def test_a_kernel_is_compiled_without_a_disk(tmp_path, monkeypatch):
    """LLVM ends the process that writes an object file where there is no room: the file lies in memory."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    spec, target = KernelSpec(8, 8, Factorization.dense(8, 8), 1, True, False), load_target("riscv64")
    made = compile_kernel(spec, schedules(spec, target)[0], target, "kernel")
    assert made.object_code.startswith(b"\x7fELF")


def test_onnxruntime_without_memory_is_not_the_model_that_is_wrong(make):
    """Graded as a plan, it would be kept as one that cannot be evaluated."""
    path = make("agraph (int64[3] x) => (float[a, b, c] y) { y = ConstantOfShape (x) }")
    runtime = Runtime()
    session = runtime.session(path.read_bytes())
    assert runtime.call(session, {"x": np.array([1, 2, 3])})["y"].shape == (1, 2, 3)
    with pytest.raises(RoomError, match="cannot run the model"):
        runtime.call(session, {"x": np.array([1 << 20, 1 << 20, 1 << 10])})
    with pytest.raises(InputError, match="cannot run the model"):
        runtime.call(session, {"x": np.array([-1, 2, 3])})
