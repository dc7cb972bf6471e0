"""The command line: arguments in, prints out."""

from __future__ import annotations

import os
import signal
import sys
import threading


def main() -> None:
    """Run ``lrfdse`` and end the process with its exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run ``lrfdse`` with `arguments` and return the exit code; errors become one line on stderr."""
    from lrfdse.errors import LrfdseError

    # One thread a process in BLAS: exploration runs one process a core, and results must not depend on the core count.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    from lrfdse.cli.app import app

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)
    try:
        app(args=arguments, prog_name="lrfdse", standalone_mode=True)
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 0
        if code == 130:
            print("lrfdse: interrupted; the same command continues where this one stopped", file=sys.stderr)
        return code
    except LrfdseError as error:
        print(f"lrfdse: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (so that the interpreter's own flush is quiet)
        return 1
    return 0


def _interrupt(number: int, frame: object) -> None:
    """Treat SIGTERM (a CI job that is cancelled, `timeout`) like Ctrl-C: end the workers and say how to go on."""
    raise KeyboardInterrupt
