"""The version of lrfdse, which results, studies and programs for boards record."""

from __future__ import annotations

__version__ = "0.2.0"
