"""TensorFlow, where it is installed: loaded on one core of the CPU, without its talk."""

from __future__ import annotations

import contextlib
import importlib
import os
from importlib.util import find_spec
from typing import Any

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
        tensorflow = importlib.import_module("tensorflow")
    except ImportError as error:
        raise ToolError(f"TensorFlow cannot be imported: {error}") from error
    # Who has run something in TensorFlow before has chosen its threads.
    with contextlib.suppress(RuntimeError):
        tensorflow.config.threading.set_intra_op_parallelism_threads(1)
        tensorflow.config.threading.set_inter_op_parallelism_threads(1)
    return tensorflow
