"""The errors of lrfdse: one class an exit code, messages that say what, where and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class LrfdseError(Exception):
    """Base of every error that lrfdse raises on purpose; `exit_code` is what the command line returns."""

    exit_code = 1


class InputError(LrfdseError):
    """The model, the data, an option or a configuration file cannot be used as given."""

    exit_code = 2


class WriteError(InputError):
    """A file or a folder cannot be written: no permission, or a full disk."""


class PlanError(LrfdseError):
    """A plan cannot be evaluated: its compressed model cannot be run, or its outputs cannot be graded.

    This alone is kept as a plan's result. Whatever else goes wrong while a plan is evaluated is a defect, or the
    machine's, and ends the run.
    """


@contextmanager
def plan_errors() -> Iterator[None]:
    """Raise `PlanError` for an `InputError`: where a plan's model is run and graded, the user's input is not to blame.

    A `WriteError` passes: a full disk is no plan's fault either.

    >>> with plan_errors():
    ...     raise InputError("output 'y' changes its shape")
    Traceback (most recent call last):
    lrfdse.errors.PlanError: output 'y' changes its shape
    """
    try:
        yield
    except WriteError:
        raise
    except InputError as error:
        raise PlanError(str(error)) from error


class NoDesignError(LrfdseError):
    """The exploration ran, but no design satisfies the limits."""

    exit_code = 3


class ToolError(LrfdseError):
    """A tool or a device is missing, too old, or failed."""

    exit_code = 4


class RoomError(ToolError):
    """The machine ran out of disk or memory, or ended one of our processes: what failed says nothing of a kernel.

    So nothing goes on as if a kernel, a design or a model were to blame.
    """


class DeviceError(ToolError):
    """The device that the target stands for is not here: another machine may have it."""


class KernelError(ToolError):
    """One kernel crashed, hung or computed wrong numbers on its target; the exploration goes on without it."""
