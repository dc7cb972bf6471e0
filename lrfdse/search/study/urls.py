"""What the user may write for a storage, and how it is shown without its credentials."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

from lrfdse.errors import InputError

FORMS = "like sqlite:///study.db, study.journal, postgresql://USER:PASSWORD@HOST/NAME or grpc://HOST:PORT"
_DRIVERS = {
    "postgresql": ("psycopg2", "psycopg", "psycopg2-binary"),
    "mysql": ("pymysql", "MySQLdb", "pymysql"),
    "mariadb": ("pymysql", "MySQLdb", "pymysql"),
}
"""Scheme to the drivers' modules, the best first, and the package to install."""
_DIALECTS = {"psycopg2": "psycopg2", "psycopg": "psycopg", "pymysql": "pymysql", "MySQLdb": "mysqldb"}
_SQLITE_HEADER = b"SQLite format 3\x00"
_DATABASES, _JOURNALS = (".db", ".sqlite", ".sqlite3"), (".journal", ".log", ".jsonl")


def sqlite_url(path: Path) -> str:
    """Return the storage URL of a SQLite file.

    >>> sqlite_url(Path("/tmp/my results/study.db"))
    'sqlite:////tmp/my results/study.db'
    """
    if "?" in str(path):
        raise InputError(f"{path}: a study file's path must not hold a question mark (name another with --study)")
    return f"sqlite:///{path}"


def scheme_of(url: str) -> str:
    """Return the part before ``://``; "" for a path.

    >>> scheme_of("mysql+pymysql://host/x"), scheme_of("results/study.journal")
    ('mysql+pymysql', '')
    """
    found = re.match(r"([A-Za-z][\w+.-]*)://", url)
    return found[1].lower() if found else ""


def with_driver(url: str) -> str:
    """Return the URL with a driver where it names none and one that Optuna knows is installed.

    What a bare scheme stands for changes with the version of SQLAlchemy.
    """
    scheme = scheme_of(url)
    kind = "postgresql" if scheme == "postgres" else scheme
    if kind not in _DRIVERS:
        return url
    first, second, _ = _DRIVERS[kind]
    module = next((name for name in (first, second) if importlib.util.find_spec(name)), first)
    return f"{kind}+{_DIALECTS[module]}://{url.partition('://')[2]}"


def driver_package(scheme: str) -> str:
    """Return what to install for a scheme."""
    if scheme == "grpc":
        return "grpcio protobuf"
    return _DRIVERS.get(scheme.partition("+")[0], ("", "", "its driver"))[2]


def is_journal(path: str) -> bool:
    """Return whether a path is (or will be) a journal; else it is a SQLite file.

    Raises
    ------
    InputError
        The file is neither, or is new and its name does not tell.
    """
    file = Path(path)
    suffix = file.suffix.lower()
    if file.is_dir():
        raise InputError(f"--study {path}: a folder; name a file in it, such as {file / 'study.journal'}")
    content = b""
    if file.is_file():
        with open(file, "rb") as opened:
            content = opened.readline(1 << 20)
    if content.startswith(_SQLITE_HEADER):
        return False
    if content:
        if not _is_entry(content) and suffix not in _DATABASES:
            raise InputError(f"--study {path}: neither a journal of Optuna nor a SQLite file")
        return suffix not in _DATABASES or _is_entry(content)
    if suffix in _JOURNALS:
        return True
    if suffix in _DATABASES:
        return False
    raise InputError(f"--study {path}: not a storage ({FORMS})")


def _is_entry(line: bytes) -> bool:
    try:
        return "op_code" in json.loads(line)
    except (ValueError, TypeError):
        return False


def without_credentials(url: str) -> str:
    """Return the URL without user, password and query.

    >>> without_credentials("postgresql://me:secret@db.lan:5432/studies?sslpassword=x")
    'postgresql://db.lan:5432/studies'
    """
    scheme, colon, rest = url.partition("://")
    if not colon:
        return url
    if not scheme.startswith("sqlite"):
        rest = rest.rpartition("@")[2]
    return f"{scheme}://{rest.partition('?')[0]}"


def reason_without_secrets(url: str, error: BaseException) -> str:
    """Return a database's reason in one line, unless it repeats what must not be shown."""
    reason = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
    lower = reason.lower()
    if "authentication failed" in lower or "access denied" in lower:
        return "the database refused the user name or the password"
    if any(secret in reason for secret in _secrets(url)):
        return "the database refused the connection"
    return reason


def _secrets(url: str) -> list[str]:
    """Return the parts of a URL that must not be shown, as written and decoded."""
    from urllib.parse import parse_qsl, unquote

    user, at, _ = url.partition("://")[2].rpartition("@")
    parts = user.split(":", 1) if at else []
    parts += [value for key, value in parse_qsl(url.partition("?")[2]) if "pass" in key.lower()]
    return [text for part in parts for text in {part, unquote(part)} if text]
