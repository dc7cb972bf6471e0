"""The machines that kernels are made for: targets as data, and what their instruction sets are."""

from __future__ import annotations

DEFAULT_TARGET = "riscv64"
"""The target that a command takes where none is named."""
