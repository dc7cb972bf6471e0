"""Where studies are kept: opening an Optuna storage, with one-line errors that never show credentials."""

from __future__ import annotations

import sqlite3
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrfdse.base.text import one_line
from lrfdse.errors import InputError, LrfdseError, ToolError
from lrfdse.search.study.urls import (
    FORMS,
    driver_package,
    driverless,
    is_journal,
    lacks_slashes,
    reason_without_secrets,
    scheme_of,
    sqlite_url,
    with_driver,
    without_credentials,
)

if TYPE_CHECKING:
    import sqlalchemy
    from optuna.storages import BaseStorage, RDBStorage

_ATTEMPTS = 5
"""Workers that start together race to create the tables; the losers find them made at the next attempt. Chosen:
three seconds of waiting in all."""
_RACES = ("already exists", "UNIQUE constraint", "duplicate key", "Duplicate entry", "database is locked")
"""Parts of the messages by which databases refuse the losers of that race."""
CONNECT = 10.0
"""Seconds to wait for a server. Chosen, not measured: a server of the same network answers within one."""


_KEEPERS = (
    "optuna.artifacts.",
    "optuna.distributions",
    "optuna.storages.",
    "optuna.study.",
    "optuna.trial.",
    "sqlalchemy.",
)
"""Modules that read what is kept; what they cannot read is damaged."""


class _Connection(sqlite3.Connection):
    """SQLite with a write-ahead log: a trial's dozen commits need not each wait for the disk.

    A killed process loses nothing; a power cut may lose the last commits, and leaves the file whole.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.execute("PRAGMA journal_mode=WAL")
        self.execute("PRAGMA synchronous=NORMAL")


def open_storage(url: str, grace: float = 60.0, connect: float = CONNECT) -> BaseStorage:
    """Open (and where new, create) a storage.

    Parameters
    ----------
    url
        ``sqlite:///folder/study.db`` or a path that ends in ``.db``; a journal file (``study.journal``, ``study.log``)
        for one machine; ``postgresql://user:password@host/name`` or ``mysql://...`` across machines; ``grpc://host:port``
        of Optuna's proxy.
    grace
        Seconds after which a database's trial without a heartbeat counts as abandoned.
    connect
        Seconds to wait for a server.

    Raises
    ------
    InputError
        The text names no storage, or the file cannot be used.
    ToolError
        A driver is missing, or the server does not answer.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = with_driver(url)
    scheme = scheme_of(url)
    if not scheme and lacks_slashes(url):
        raise InputError(f"--study {without_credentials(url)}: not a storage ({FORMS})")
    if scheme == "grpc":
        return _open_proxy(url, connect)
    if not scheme and is_journal(url):
        return _open_journal(url)
    if not scheme:
        url, scheme = sqlite_url(Path(url)), "sqlite"
    return _open_database(url, scheme, grace, connect)


def close_storage(storage: BaseStorage) -> None:
    """Close the connections; SQLite then leaves one file, without its log."""
    from optuna.storages import GrpcStorageProxy, RDBStorage

    backend = _backend_of(storage)
    storage.remove_session()
    if isinstance(backend, RDBStorage):
        backend.engine.dispose()
    elif isinstance(backend, GrpcStorageProxy):
        backend.close()


def heartbeat_keeper(storage: BaseStorage) -> RDBStorage | None:
    """Return the database that records signs of life and judges them by its own clock; None where no such one is."""
    from optuna.storages import RDBStorage

    backend = _backend_of(storage)
    return backend if isinstance(backend, RDBStorage) and backend.heartbeat_interval else None


def _backend_of(storage: BaseStorage) -> BaseStorage:
    """Return what keeps the trials, without Optuna's cache before it.

    The cache hands on neither heartbeats nor the engine, and Optuna (5.0) has no public way past it: this is the one
    place that reads a private name of it.
    """
    found: BaseStorage = getattr(storage, "_backend", storage)
    return found


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turn what a storage raises while it is used (full disk, lost connection) into one line."""
    import sqlalchemy.exc
    from optuna.exceptions import StorageInternalError

    try:
        yield
    except (StorageInternalError, sqlalchemy.exc.SQLAlchemyError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
        reason = reason_without_secrets(url, cause)
    except Exception as error:
        told = _proxy_reason(error) or _optuna_reason(error)
        if told is None:
            raise
        reason = told
    else:
        return
    raise ToolError(
        f"--study {without_credentials(url)}: the study's storage failed: {reason}; "
        "what was finished is kept, and the same command goes on from there"
    )


def _open_database(url: str, scheme: str, grace: float, connect: float) -> BaseStorage:
    import sqlalchemy.event
    import sqlalchemy.exc
    from optuna.storages import RDBStorage, get_storage

    shown, sqlite = without_credentials(url), scheme.startswith("sqlite")
    options: dict[str, Any] = {"connect_args": {"timeout": 60, "factory": _Connection, "isolation_level": None}}
    heartbeats: dict[str, Any] = {}
    if sqlite:
        _check_file(url)
    else:
        options = {"pool_pre_ping": True, "connect_args": {"connect_timeout": max(1, round(connect))}}
        heartbeats = {"heartbeat_interval": max(1, round(grace / 4)), "grace_period": max(1, round(grace))}
    for attempt in range(_ATTEMPTS):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                # The storage fills `{SCHEMA_VERSION}` into its URL, so braces that belong to a path are doubled.
                made = RDBStorage(url.replace("{", "{{").replace("}", "}}"), engine_kwargs=options, **heartbeats)
            if sqlite:
                # Else SQLite reads outside of transactions, and two processes may both find a trial waiting.
                sqlalchemy.event.listen(made.engine, "begin", _begin)
            _complete(made.engine)
            return get_storage(made)
        except (sqlalchemy.exc.ArgumentError, ValueError):
            raise InputError(f"--study {shown}: not a storage ({FORMS})") from None
        except ImportError:
            raise driverless(url, scheme) from None
        except (sqlalchemy.exc.OperationalError, sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError) as e:
            if attempt == _ATTEMPTS - 1 or not any(text in str(e) for text in _RACES):
                raise _unusable(shown, url, sqlite and "disk" not in str(e), e) from None
            time.sleep(0.2 * (attempt + 1))
        except (sqlalchemy.exc.SQLAlchemyError, RuntimeError, TypeError) as e:
            raise _unusable(shown, url, sqlite or isinstance(e, RuntimeError), e) from None
    raise AssertionError("unreachable")


def _complete(engine: sqlalchemy.Engine) -> None:
    """Make the index by which names of studies are unique, where a process that made the tables was killed before it.

    Optuna makes a table and then its indexes, one by one, and no index of a table that it finds. Without this one every
    process that opens a study makes another of the same name, and none can be loaded any more.
    """
    import sqlalchemy

    unique = [index["column_names"] for index in sqlalchemy.inspect(engine).get_indexes("studies") if index["unique"]]
    if ["study_name"] not in unique:
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE UNIQUE INDEX ix_studies_study_name ON studies (study_name)")


def _begin(connection: sqlalchemy.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _open_journal(path: str) -> BaseStorage:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        _drop_cut_line(Path(path))
        return JournalStorage(JournalFileBackend(path))
    except OSError as error:
        raise InputError(f"--study {without_credentials(path)}: cannot be used: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        raise InputError(f"--study {without_credentials(path)}: not a journal of Optuna, or damaged: {error}") from None


def _drop_cut_line(path: Path) -> None:
    """Take off what a killed process left of its last line; whatever is appended to it would be lost."""
    from optuna.storages.journal import JournalFileSymlinkLock

    if not path.exists() or _last_byte(path) in (b"", b"\n"):
        return
    lock = JournalFileSymlinkLock(str(path))
    lock.acquire()
    try:
        with open(path, "r+b") as file:
            content = file.read()
            if b"\n" not in content:
                raise ValueError("its first line is cut short")
            file.truncate(content.rfind(b"\n") + 1)
    finally:
        with suppress(RuntimeError):
            lock.release()


def _last_byte(path: Path) -> bytes:
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 1))
        return file.read(1)


def _open_proxy(url: str, connect: float) -> BaseStorage:
    from urllib.parse import urlsplit

    shown = without_credentials(url)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port:
        raise InputError(f"--study {shown}: write Optuna's gRPC proxy as grpc://HOST:PORT")
    try:
        from optuna.storages import GrpcStorageProxy

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            proxy = GrpcStorageProxy(host=host, port=port)
        proxy.wait_server_ready(timeout=connect)
    except ImportError:
        raise ToolError(f"--study {shown}: gRPC is missing: pip install {driver_package('grpc')}") from None
    except ConnectionError:
        raise ToolError(f"--study {shown}: no gRPC proxy answers there within {connect:g} s") from None
    return proxy


def is_absent(url: str) -> bool:
    """Return whether a storage is a file that does not exist, and that opening it would make."""
    scheme = scheme_of(url)
    if scheme and not scheme.startswith("sqlite"):
        return False
    return not Path(url if not scheme else _file_of(url)).exists()


def _file_of(url: str) -> str:
    return url.partition(":///")[2].partition("?")[0].removeprefix("file:")


def _check_file(url: str) -> None:
    """Refuse a file that is the database of something else; Optuna would put its tables into it."""
    file = _file_of(url)
    if not file or file == ":memory:":
        raise InputError(
            f"--study {without_credentials(url)}: a database in memory ends with its process; name a file: "
            "sqlite:///study.db"
        )
    path = Path(file)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.stat().st_size == 0:
            return
    except OSError as error:
        raise InputError(f"--study {without_credentials(url)}: cannot make its folder: {error.strerror}") from error
    try:
        with sqlite3.connect(path, timeout=60) as database:
            tables = {row[0] for row in database.execute("select name from sqlite_master where type = 'table'")}
        database.close()
    except sqlite3.Error:
        return
    if tables and "studies" not in tables:
        raise InputError(
            f"--study {without_credentials(url)}: a database of something else (it has tables, but no studies)"
        )


def _proxy_reason(error: Exception) -> str | None:
    """Return what a gRPC proxy reported; None where the error is of something else."""
    import sys

    grpc = sys.modules.get("grpc")
    if grpc is None or not isinstance(error, grpc.RpcError):
        return None
    code, details = getattr(error, "code", None), getattr(error, "details", None)
    name = code().name.lower() if callable(code) and code() is not None else "error"
    text = str(details()).partition("\n")[0] if callable(details) else ""
    return f"{name} {text}".strip()


def _optuna_reason(error: Exception) -> str | None:
    """Return what went wrong with a file or a record inside Optuna; None where the error is of something else."""
    named: list[str] = []
    trace = error.__traceback__
    while trace is not None:
        named.append(str(trace.tb_frame.f_globals.get("__name__", "")))
        trace = trace.tb_next
    # A JSON parser or an enumeration may be the last to notice; whose record it is says who called that.
    known = [name for name in named if name.startswith(("lrfdse.", "optuna.", "sqlalchemy."))]
    if not known or not known[-1].startswith(_KEEPERS):
        return None
    if isinstance(error, KeyError) and named[-1].startswith("optuna."):
        return "the study or a trial is no longer there"
    if isinstance(error, OSError):
        return str(error.strerror or error)
    if isinstance(error, ValueError | LookupError | TypeError | RecursionError):
        return f"a record of it is damaged: {one_line(error)}"
    return None


def _unusable(shown: str, url: str, is_input: bool, error: Exception) -> LrfdseError:
    """Return the error for a storage that cannot be used, with the database's reason where it names no user."""
    kind = InputError if is_input else ToolError
    return kind(f"--study {shown}: cannot open the study's storage: {reason_without_secrets(url, error)}")
