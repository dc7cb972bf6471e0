"""What a target may put into command lines: a target may be somebody else's file, and is data, never a command."""

from __future__ import annotations

import re
from collections.abc import Sequence

_EMULATOR = re.compile(r"qemu-[a-z0-9_]+(?:-static)?")
"""What QEMU calls its user-mode programs; no path, so that a folder cannot bring one along."""
_PROCESSOR = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,=+-]*")
"""QEMU's ``-cpu``: a name with properties."""
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*|")
"""Triples, processors and ABIs: what LLVM and zig take as one value, and never as an option."""
_FEATURE = re.compile(r"[+-][A-Za-z0-9_][A-Za-z0-9_.-]*")
"""LLVM's features, each with its sign."""


def check_emulator(command: Sequence[str]) -> None:
    """Refuse an emulator's command that is not ``qemu-ARCH`` or ``qemu-ARCH-static``, maybe with ``-cpu PROCESSOR``.

    Every other option of QEMU is refused, too: it can load code (``-plugin``), write files (``-D``), or open a port
    (``-g``). Nothing is refused where there is no command.

    >>> check_emulator(["qemu-riscv64", "-cpu", "rv64,v=true,vlen=256"])
    >>> check_emulator(["sh", "-c", "id"])
    Traceback (most recent call last):
    ValueError: emulator must be qemu-ARCH or qemu-ARCH-static, found on the path, but got 'sh'
    """
    if not command:
        return
    program, *arguments = command
    if not _EMULATOR.fullmatch(program):
        raise ValueError(f"emulator must be qemu-ARCH or qemu-ARCH-static, found on the path, but got {program!r}")
    if arguments and (len(arguments) != 2 or arguments[0] != "-cpu" or not _PROCESSOR.fullmatch(arguments[1])):
        raise ValueError(f"emulator may have `-cpu PROCESSOR` and no other argument, but got {' '.join(arguments)!r}")


def check_word(name: str, value: str | None) -> None:
    """Refuse a value of a compiler's option that is more than one plain word; None is nothing."""
    if value is not None and not _WORD.fullmatch(value):
        raise ValueError(f"{name} must be one word of letters, digits and `_.+-`, but got {value!r}")


def check_features(features: Sequence[str]) -> None:
    """Refuse a feature of LLVM's that is not a sign and a name."""
    for feature in features:
        if not _FEATURE.fullmatch(feature):
            raise ValueError(f"features must each be a sign and a name, like '+v', but got {feature!r}")
