"""Compiling the C of qemu/ once and linking kernels: zig for every target, results in the user's cache folder."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from lrfdse.base.closure import included_files
from lrfdse.base.files import open_regular
from lrfdse.base.folders import data_folder, private_folder
from lrfdse.base.processes import run_to_end
from lrfdse.base.temporary import temporary_folder
from lrfdse.errors import KernelError, RoomError, ToolError
from lrfdse.ir.kernel import MOST_ARGUMENTS, Artifact
from lrfdse.ir.latency import TOLERANCE
from lrfdse.targets.target import Target
from lrfdse.toolchain.programs import plugin_api, require_emulator, require_zig

COMMON = ("-O2", "-std=gnu11", "-fomit-frame-pointer")
_PLUGIN = ("-shared", "-fPIC", "-nostdlib")
FREESTANDING = ("-c", "-ffreestanding", "-fno-stack-protector", "-fno-sanitize=undefined")
CONSTANTS = (f"-DLRF_MOST_ARGUMENTS={MOST_ARGUMENTS}", f"-DLRF_TOLERANCE={TOLERANCE:g}")
"""What the C of qemu/ and the Python that writes its data have in common."""


def plugin(target: Target) -> Path:
    """Return the emulator plugin, compiled for the installed QEMU's interface.

    It is not linked against the C library, whose functions the emulator process already holds: that spares zig
    building its own start-up files the first time.
    """
    api = plugin_api(require_emulator(target).version)
    return _compiled("lrfmeter.c", (*COMMON, *_PLUGIN, f"-DLRF_API={api}"), ".so")


def harness(target: Target, arguments: int) -> Path:
    """Return the emulator harness for kernels with so many arguments, compiled for `target`."""
    options = ("-target", target.link, *COMMON, *FREESTANDING, *_call(arguments))
    return _compiled("harness.c", options, ".o")


def timer(arguments: int) -> Path:
    """Return the host meter's timing loops for kernels with so many arguments."""
    return _compiled("timer.c", ("-c", "-fPIC", *COMMON, "-fno-sanitize=undefined", *_call(arguments)), ".o")


def whole_timer() -> Path:
    """Return the host meter's timing loops for whole programs."""
    return _compiled("whole_timer.c", ("-c", "-fPIC", *COMMON, "-fno-sanitize=undefined", CONSTANTS[0]), ".o")


def link(artifact: Artifact, support: Path, folder: Path, *, shared: bool = False) -> Path:
    """Link a kernel's object with the harness or the timer into `folder`; return the program or the shared library.

    Raises
    ------
    KernelError
        The linker refused, for example an object for another machine or an undefined symbol.
    """
    return link_object(str(artifact.spec), artifact.object_code, artifact.symbol, support, folder, shared=shared)


def link_object(
    name: str, object_code: bytes, symbol: str, support: Path, folder: Path, *, shared: bool = False
) -> Path:
    """Link an object whose function `symbol` the harness or the timer calls; see `link`, `name` is for messages."""
    kernel, program = folder / "kernel.o", folder / "program"
    kernel.write_bytes(object_code)
    kind = ("-shared",) if shared else ("-static", "--gc-sections")
    names = f"--defsym=lrf_kernel={symbol}"
    command = [require_zig().path, "ld.lld", *kind, names, str(support), str(kernel), "-o", str(program)]
    try:
        run_zig(command, "linking")
    except RoomError:
        raise
    except ToolError as error:
        raise KernelError(f"{name}: {error}") from error
    return program


def _call(arguments: int) -> tuple[str, ...]:
    names = ",".join(f"argument[{i}]" for i in range(arguments))
    return f"-DLRF_PARAMETERS={','.join(['float *'] * arguments)}", f"-DLRF_ARGUMENTS={names}", CONSTANTS[0]


def _compiled(source: str, options: Sequence[str], suffix: str) -> Path:
    """Compile one file of qemu/, unless the cache holds the result of the same texts, options and compiler.

    What is found there is executed, so its name holds a digest of its content: a file that was cut short or changed is
    not used, and made again.
    """
    zig = require_zig()
    text = data_folder("qemu") / source
    digests = (hashlib.sha256(path.read_bytes()).hexdigest() for path in (text, *included_files(text)))
    identity = "\0".join((*digests, zig.version, *options))
    folder = private_folder("built")
    start = f"{text.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:24]}-"
    try:
        for made in sorted(folder.glob(f"{start}*{suffix}")):
            if made.name == start + _content_digest(made) + suffix:
                return made
            made.unlink(missing_ok=True)
        with temporary_folder(folder) as scratch:
            fresh = scratch / f"made{suffix}"
            run_zig([zig.path, "cc", *options, str(text), "-o", str(fresh)], f"compiling {source}")
            made = folder / (start + _content_digest(fresh) + suffix)
            fresh.replace(made)
    except OSError as error:
        raise ToolError(
            f"cannot write to the cache folder {folder}: {error.strerror or error}; name another with --cache"
        ) from error
    return made


def _content_digest(path: Path) -> str:
    """Return a name for what a file holds; "" for what is no regular file, or is a link."""
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:32]
    except OSError:
        return ""


def run_zig(command: Sequence[str], what: str) -> None:
    """Run a command of zig's; `what` names the step in errors.

    Raises
    ------
    RoomError
        It was killed, as where a disk is full (it writes through memory) or memory runs out, or says that one is.
    ToolError
        It cannot be run, or fails for another reason.
    """
    zig_cache = str(private_folder("zig"))
    environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": zig_cache, "ZIG_LOCAL_CACHE_DIR": zig_cache}
    try:
        # It writes through memory: where a disk is full, a signal ends it.
        run = run_to_end(command, what, faults=(), env=environment, timeout=600)
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"{what} failed: {error}") from error
    if any(each in run.stderr for each in _NO_ROOM):
        raise RoomError(f"{what} failed: zig found no room on disk, or no memory")
    if run.returncode:
        lines = (
            [line for line in run.stderr.splitlines() if "error" in line] or run.stderr.splitlines() or ["no message"]
        )
        raise ToolError(f"{what} failed: {next((line for line in lines if 'error' in line), lines[0]).strip()}")


_NO_ROOM = ("No space left on device", "NoSpaceLeft", "OutOfMemory", "Cannot allocate memory")
"""How zig, and LLVM's programs in it, say that a disk is full or memory is out."""
