"""The CI gate: a finished exploration against limits and an earlier run, and the verdicts in CI's formats."""

from lrfdse.check.gate import Request, check
from lrfdse.check.limits import Limits
from lrfdse.check.verdict import Check, Checked

__all__ = ["Check", "Checked", "Limits", "Request", "check"]
