"""Code that a study or a folder of others names: it runs here only where the user of this machine names it, too."""

from __future__ import annotations

from lrfdse.errors import InputError


def require_allowed(metric: str | None, allowed: str | None, scored: str) -> None:
    """Refuse to run a function that is named by others, unless the user of this machine names it too.

    Parameters
    ----------
    metric
        What designs are scored by: a registered metric, or MODULE:FUNCTION.
    allowed
        The MODULE:FUNCTION that may run here.
    scored
        What is scored by it; begins the message.

    Raises
    ------
    InputError
        It is a function, and not the one that may run here.
    """
    if metric is not None and ":" in metric and metric != allowed:
        raise InputError(
            f"{scored} is scored by {metric}, which is no part of lrfdse: put it on this machine and let it run with "
            f"--metric {metric}"
        )
