"""Where studies are kept: opening an Optuna storage, with one-line errors that never show credentials."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrfdse.errors import InputError, LrfdseError, ToolError

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

_DRIVERS = {"postgresql": "psycopg2-binary", "mysql": "pymysql", "mariadb": "pymysql"}
_ATTEMPTS = 5
"""Workers that start together race to create the tables; the losers find them made at the next attempt."""


class _Connection(sqlite3.Connection):
    """SQLite with a write-ahead log: a trial's dozen commits need not each wait for the disk.

    A killed process loses nothing; a power cut may lose the last commits, and leaves the file whole.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.execute("PRAGMA journal_mode=WAL")
        self.execute("PRAGMA synchronous=NORMAL")


_SQLITE = {"connect_args": {"timeout": 60, "factory": _Connection}}


def sqlite_url(path: Path) -> str:
    """Return the storage URL of a SQLite file.

    >>> sqlite_url(Path("/tmp/my results/study.db"))
    'sqlite:////tmp/my results/study.db'
    """
    if "?" in str(path):
        raise InputError(f"{path}: a study file's path must not hold a question mark (name another with --study)")
    return f"sqlite:///{path}"


def open_storage(url: str) -> RDBStorage:
    """Open (and where new, create) a storage.

    Parameters
    ----------
    url
        SQLAlchemy URL: ``sqlite:///folder/study.db``, ``postgresql://user:password@host/name``, ``mysql+pymysql://...``.

    Raises
    ------
    InputError
        The text is not a URL of a database, or the SQLite file cannot be written.
    ToolError
        The database's driver is missing, or the database does not answer.
    """
    import sqlalchemy.exc
    from optuna.storages import RDBStorage

    shown = _without_credentials(url)
    scheme = url.partition("://")[0]
    sqlite = scheme.startswith("sqlite")
    if sqlite:
        _make_folder(url)
    for attempt in range(_ATTEMPTS):
        try:
            # The storage fills `{SCHEMA_VERSION}` into its URL, so braces that belong to a path are doubled.
            return RDBStorage(
                url.replace("{", "{{").replace("}", "}}"),
                engine_kwargs=_SQLITE if sqlite else {"pool_pre_ping": True},
            )
        except sqlalchemy.exc.ArgumentError:
            raise InputError(f"--study {shown}: not the URL of a database (like sqlite:///study.db)") from None
        except ImportError:
            driver = _DRIVERS.get(scheme.partition("+")[0], "its driver")
            raise ToolError(f"--study {shown}: the database's driver is missing: pip install {driver}") from None
        except (sqlalchemy.exc.OperationalError, sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError) as e:
            if attempt == _ATTEMPTS - 1 or "already exists" not in str(e):
                raise _unusable(shown, url, sqlite, e) from None
            time.sleep(0.2 * (attempt + 1))
        except (sqlalchemy.exc.SQLAlchemyError, RuntimeError) as e:
            raise _unusable(shown, url, sqlite, e) from None
    raise AssertionError("unreachable")


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turn what a storage raises while it is used (full disk, lost connection) into one line."""
    import sqlalchemy.exc
    from optuna.exceptions import StorageInternalError

    try:
        yield
    except (StorageInternalError, sqlalchemy.exc.SQLAlchemyError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
        reason = _reason(url, cause)
        raise ToolError(
            f"--study {_without_credentials(url)}: the study's storage failed: {reason}; "
            "what was finished is kept, and the same command goes on from there"
        ) from error


def _unusable(shown: str, url: str, sqlite: bool, error: Exception) -> LrfdseError:
    """Return the error for a storage that cannot be used, with the database's reason where it names no user."""
    kind = InputError if sqlite else ToolError
    return kind(f"--study {shown}: cannot open the study's storage: {_reason(url, error)}")


def _reason(url: str, error: BaseException) -> str:
    reason = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
    if any(secret in reason for secret in _secrets(url)):
        return "the database refused the connection"
    return reason


def _secrets(url: str) -> list[str]:
    """Return the parts of a URL that must not be shown, as written and decoded."""
    from urllib.parse import unquote

    user, at, _ = url.partition("://")[2].rpartition("@")
    parts = user.split(":", 1) if at else []
    return [text for part in parts for text in {part, unquote(part)} if text]


def _without_credentials(url: str) -> str:
    """Return the URL without user, password and query.

    >>> _without_credentials("postgresql://me:secret@db.lan:5432/studies?sslpassword=x")
    'postgresql://db.lan:5432/studies'
    """
    scheme, colon, rest = url.partition("://")
    if not colon:
        return "(no URL)"
    if not scheme.startswith("sqlite"):
        rest = rest.rpartition("@")[2]
    return f"{scheme}://{rest.partition('?')[0]}"


def _make_folder(url: str) -> None:
    file = url.partition(":///")[2].partition("?")[0]
    if not file or file == ":memory:":
        return
    try:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--study {_without_credentials(url)}: cannot make its folder: {error.strerror}") from error
