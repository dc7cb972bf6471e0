"""Commands of lrfdse in this process: each ends well, or with one line that a terminal shows as it is."""

from __future__ import annotations

import contextlib
import io

from lrfdse.errors import InputError

CLEAN = (0, 1, 2, 3, 4)
"""Exit codes that docs/cli.md has; 1 is `check`'s verdict, so that a traceback must not be mistaken for it."""


def command(*words: object, well: tuple[int, ...] = CLEAN) -> int:
    """Run a command; return its exit code.

    Raises
    ------
    InputError
        It was refused: with its one line.
    AssertionError
        It said more than one line, or what a terminal would act on, or its exit code is none of `well`.
    """
    from lrfdse.cli import run

    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        code = run([str(word) for word in words])
    lines = errors.getvalue().splitlines()
    said = [line for line in lines if line.startswith("lrfdse: ")]
    assert code in well, f"exit code {code}: {lines[-3:]}"
    # The verdict of `check` on a run that failed stands in its table, with the run's exit code.
    least = 0 if words[0] == "check" else code in (2, 3, 4)
    assert least <= len(said) <= (code in (2, 3, 4)), f"exit code {code}: {lines}"
    shown = "".join((*lines, *output.getvalue().splitlines()))
    assert shown.isprintable(), [character for character in shown if not character.isprintable()]
    if said and code != 3:
        raise InputError(said[0])
    return code
