"""The command line: arguments in, prints out."""

from __future__ import annotations

import datetime
import io
import json
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Mapping


def main() -> None:
    """Run ``lrfdse`` and end the process with its exit code."""
    from lrfdse.cli import interrupt

    program, arguments = sys.argv[0], sys.argv[1:]
    if arguments and arguments[0] in interrupt.LONG:
        interrupt.watch(lambda: _interruption(program, arguments))
    code = run(arguments, program)
    if code == interrupt.CODE:
        # The interpreter's own way out waits for threads and processes that nobody needs any more.
        interrupt.end()
    sys.exit(code)


def run(arguments: list[str], program: str = "lrfdse") -> int:
    """Run ``lrfdse`` with `arguments` and return the exit code; errors become one line on stderr.

    Parameters
    ----------
    arguments
        What follows the program's name.
    program
        How the program was called, for the command line that goes on after an interruption.
    """
    from lrfdse.base.privacy import silence_libraries
    from lrfdse.base.threads import use_one_thread
    from lrfdse.cli import interrupt
    from lrfdse.errors import LrfdseError, ToolError

    silence_libraries()
    use_one_thread()
    if not logging.getLogger().handlers:
        # Where nobody listens, Python prints what libraries warn of, which is no line of ours.
        logging.getLogger().addHandler(logging.NullHandler())
    from lrfdse.cli.app import app

    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 (closed by the shell: `>&-`)
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, interrupt.raise_interrupt)
    try:
        app(args=arguments, prog_name="lrfdse", standalone_mode=True)
    except KeyboardInterrupt:
        print(_interruption(program, arguments), file=sys.stderr, flush=True)
        return interrupt.CODE
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 0
        if code == interrupt.CODE:
            print(_interruption(program, arguments), file=sys.stderr, flush=True)
        return code
    except LrfdseError as error:
        _failed(error, arguments)
        return error.exit_code
    except MemoryError as error:
        # Where no stage of loading could say of what: a kernel, a fit, an exploration as a whole.
        failed = ToolError("the memory of this machine was not enough; give it more, or use fewer --workers")
        failed.__cause__ = error
        _failed(failed, arguments)
        return failed.exit_code
    except BrokenPipeError:
        # Whoever read the output has seen enough (`| head`); the interpreter's own flush must find no pipe either.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        return 0
    except OSError as error:
        _failed(error, arguments)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        return 2
    return 0


def _failed(error: Exception, arguments: list[str]) -> None:
    from lrfdse.base.text import clean
    from lrfdse.errors import InputError

    if isinstance(error, OSError):
        error = InputError(f"{error.filename or 'output'}: {error.strerror or error}")
    # An error repeats what files and studies hold.
    said = clean(str(error))
    text = f"lrfdse: {said}"
    if _wants_json(arguments):
        from lrfdse.base.log import failure_kind

        text = _json_line(failure_kind(error), said, _cause(error))
    print(text, file=sys.stderr, flush=True)


def _interruption(program: str, arguments: list[str]) -> str:
    """Return the line shown after Ctrl-C."""
    from lrfdse.cli.interrupt import advice

    text = advice(program, arguments)
    return _json_line("interrupted", text, {}) if _wants_json(arguments) else f"lrfdse: {text}"


def _cause(error: Exception) -> dict[str, str]:
    """Return what an error was made of: the exception and where it was raised; nothing where there is none."""
    cause = error.__cause__
    if cause is None or cause.__traceback__ is None:
        return {}
    from lrfdse.base.text import one_line

    frame = traceback.extract_tb(cause.__traceback__)[-1]
    place = f"{os.path.basename(frame.filename)}:{frame.lineno} in {frame.name}"
    return {"cause": f"{type(cause).__name__}: {one_line(cause)}", "where": place}


def _json_line(kind: str, text: str, more: Mapping[str, str]) -> str:
    """Return the last line of a run that failed, where its log is JSON: the form that the folder's log has, too."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    return json.dumps({"time": now, "stage": "failed", "kind": kind, "text": text, **more})


def _wants_json(arguments: list[str]) -> bool:
    """Whether stderr is to hold JSON lines only; asked here too, because errors are printed here."""
    pairs = zip(arguments, [*arguments[1:], ""], strict=True)
    return any(pair == ("--log-format", "json") or pair[0] == "--log-format=json" for pair in pairs)
