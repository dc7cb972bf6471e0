"""Nothing of the user's leaves the machine: the libraries that would report on their use are told not to."""

from __future__ import annotations

import os
from types import ModuleType

_SILENT = {"ORT_DISABLE_TELEMETRY": "1"}
"""Onnxruntime 1.32 and newer: as it is imported it else writes a device's id to ``~/.cache/Microsoft`` and the name of
each graph, paths of programs and texts of errors to a queue there, to be sent to its maker."""


def silence_libraries() -> None:
    """Have libraries that are imported from now on, in this process and in those that it starts, report nothing."""
    os.environ.update(_SILENT)


def load_onnxruntime() -> ModuleType:
    """Import onnxruntime, which then reports nothing of what it runs; no other place of lrfdse imports it."""
    silence_libraries()
    import onnxruntime

    module: ModuleType = onnxruntime
    # Whoever uses lrfdse as a library may have imported it before.
    module.disable_telemetry_events()
    return module


def load_quantizer() -> ModuleType:
    """Import onnxruntime's tools that quantize models, as `load_onnxruntime` does onnxruntime."""
    load_onnxruntime()
    import onnxruntime.quantization

    module: ModuleType = onnxruntime.quantization
    return module
