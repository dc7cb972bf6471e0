"""Running a kernel once for what it computes, not for how long it takes: weights that a peer packs at start-up."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.kernels.foreign import Built, NotAvailableError, Singles, TooSlowError
from lrfdse.meters.host_meter import HOST_RUNNER
from lrfdse.meters.image import Image
from lrfdse.targets.target import Target
from lrfdse.toolchain.programs import require_emulator
from lrfdse.toolchain.zig import harness, link, timer


def output_of(built: Built, target: Target, timeout: float, options: Sequence[str] = ()) -> Singles:
    """Return what a kernel writes to its output; `options` are further ones of the emulator.

    Raises
    ------
    NotAvailableError
        It crashed.
    TooSlowError
        It did not end within `timeout` seconds.
    """
    artifact = built.artifact
    index, output = next((i, a) for i, a in enumerate(artifact.arguments) if a.role == "output")
    with tempfile.TemporaryDirectory(prefix="lrfdse-bench-") as folder:
        here = Path(folder)
        Image(artifact, built.given, np.zeros(output.size)).write(here / "image")
        if target.is_native:
            library = link(artifact, timer(len(artifact.arguments)), here, shared=True)
            command = [sys.executable, "-I", "-S", str(HOST_RUNNER), str(library), "image", "1", "0", "0", "64"]
        else:
            link(artifact, harness(target, len(artifact.arguments)), here)
            command = [require_emulator(target).path, *target.emulator[1:], *options, "program"]
        try:
            done = subprocess.run(command, cwd=here, capture_output=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired as error:
            raise TooSlowError(f"a run took more than {timeout:g} s") from error
        if done.returncode:
            raise NotAvailableError(f"a run ended with status {done.returncode}")
        header = np.fromfile(here / "image", dtype="<u8", count=32)
        start = int(header[2 + index])
        return np.fromfile(here / "image", dtype="<f4", count=output.size, offset=start)
