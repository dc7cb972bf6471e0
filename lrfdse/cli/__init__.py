"""The command line: arguments in, prints out."""

from __future__ import annotations

import io
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

    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 (closed by the shell: `>&-`)
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
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
        # Whoever read the output has seen enough (`| head`); the interpreter's own flush must find no pipe either.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        return 0
    except OSError as error:
        print(f"lrfdse: {error.filename or 'output'}: {error.strerror or error}", file=sys.stderr)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        return 2
    return 0


def _interrupt(number: int, frame: object) -> None:
    """Treat SIGTERM (a CI job that is cancelled, `timeout`) like Ctrl-C: end the workers and say how to go on."""
    raise KeyboardInterrupt
