"""TensorFlow, where it is installed: loaded on one core of the CPU, without its talk."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lrfdse.base.temporary import temporary_folder
from lrfdse.errors import ToolError


def check_tensorflow() -> None:
    """Do nothing where TensorFlow is installed; it takes seconds to import, which this does not.

    Raises
    ------
    ToolError
        It is not; the message has the command that installs it.
    """
    if find_spec("tensorflow") is None:
        raise ToolError("TensorFlow, which trains factors, is not installed: run `pip install 'lrfdse[heal]'`")


def load_tensorflow() -> Any:
    """Return the module `tensorflow`, on one thread of the CPU where it has not run anything yet.

    On one thread sums are taken in one order, so that equal seeds give equal numbers.

    Raises
    ------
    ToolError
        It is not installed, or cannot be imported.
    """
    check_tensorflow()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Without it the wheel looks for a driver of NVIDIA's, and says on standard error that there is none.
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    try:
        with _silence(), _homeless():
            tensorflow = importlib.import_module("tensorflow")
            # Who has run something in TensorFlow before has chosen its threads.
            with contextlib.suppress(RuntimeError):
                tensorflow.config.threading.set_intra_op_parallelism_threads(1)
                tensorflow.config.threading.set_inter_op_parallelism_threads(1)
            # The first value that is made looks for devices, and says so.
            tensorflow.constant(0.0)
    except ImportError as error:
        raise ToolError(f"TensorFlow cannot be imported: {error}") from error
    return tensorflow


@contextlib.contextmanager
def _homeless() -> Iterator[None]:
    """Have Keras, which TensorFlow imports, and matplotlib, which Keras does, leave nothing at home.

    Each makes a folder of settings there, and a list of fonts. Who has such a folder keeps it, with what it says.
    """
    home = Path.home()
    settings = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    places = {"KERAS_HOME": home / ".keras", "MPLCONFIGDIR": settings / "matplotlib"}
    wanted = [name for name, place in places.items() if name not in os.environ and not place.exists()]
    with temporary_folder() as folder:
        os.environ.update(dict.fromkeys(wanted, str(folder)))
        try:
            yield
        finally:
            for name in wanted:
                os.environ.pop(name, None)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Have nothing reach standard error: TensorFlow's libraries write there before they can be told not to."""
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
