"""What the user may write for a storage, and how it is shown without its credentials."""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import dataclass
from pathlib import Path

from lrfdse.errors import InputError, ToolError

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


def lacks_slashes(text: str) -> bool:
    """Return whether a text is a URL of a database, but for its slashes; it is no path that somebody means.

    >>> lacks_slashes("postgresql:/me:secret@db.lan/studies.db"), lacks_slashes("results/study.db")
    (True, False)
    """
    return re.match(r"(?:postgres|mysql|mariadb|sqlite|grpc)[\w+]*:", text, re.IGNORECASE) is not None


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
            raise InputError(f"--study {without_credentials(path)}: neither a journal of Optuna nor a SQLite file")
        return suffix not in _DATABASES or _is_entry(content)
    if suffix in _JOURNALS:
        return True
    if suffix in _DATABASES:
        return False
    raise InputError(f"--study {without_credentials(path)}: not a storage ({FORMS})")


def _is_entry(line: bytes) -> bool:
    try:
        return "op_code" in json.loads(line)
    except (ValueError, TypeError):
        return False


def without_credentials(url: str) -> str:
    """Return what a user wrote for a storage without user, password and query, however it is misspelt.

    >>> without_credentials("postgresql://me:secret@db.lan:5432/studies?sslpassword=x")
    'postgresql://db.lan:5432/studies'
    >>> without_credentials("postgresql:/me:secret@db.lan/studies"), without_credentials("me:secret@db.lan/studies")
    ('postgresql:/db.lan/studies', 'db.lan/studies')
    >>> without_credentials("postgresql://db.lan/studies?password=a@b"), without_credentials("results/me@lab.journal")
    ('postgresql://...', 'results/me@lab.journal')
    """
    parts = _split(url)
    return _ASSIGNED.sub(r"\1=...", parts.scheme + ("..." if parts.unclear else parts.place))


def masked(url: str) -> str:
    """Return what a user wrote for a storage with PASSWORD where a password stood, to be filled in again.

    >>> masked("postgresql://me:secret@db.lan/studies?sslmode=require&sslpassword=x")
    'postgresql://me:PASSWORD@db.lan/studies?sslmode=require&sslpassword=PASSWORD'
    >>> masked("study.journal")
    'study.journal'
    """
    parts = _split(url)
    if parts.unclear:
        return f"{parts.scheme}PASSWORD"
    user, colon, _ = parts.login.partition(":")
    login = f"{user}{colon and ':PASSWORD'}@" if parts.login else ""
    query = _ASSIGNED.sub(r"\1=PASSWORD", f"?{parts.query}") if parts.query else ""
    return parts.scheme + login + _ASSIGNED.sub(r"\1=PASSWORD", parts.place) + query


_ASSIGNED = re.compile(r"([\w.-]*(?:pass|pwd|secret|token|key)[\w.-]*)=[^&\s]*", re.IGNORECASE)
"""A secret as a parameter, of a URL or of a driver's own form."""


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a storage's text is made of, as far as can be told."""

    scheme: str
    """With its colon and slashes; "" for a path."""
    login: str
    """User and password."""
    place: str
    query: str
    unclear: bool
    """Whether a part of a password may be anywhere."""


def _split(url: str) -> _Parts:
    """Take a storage's text apart; a password may hold any character, and a URL may lack a slash or two."""
    found = re.match(r"[A-Za-z][\w+.-]*:/+", url)
    scheme = found[0] if found else ""
    rest = url.removeprefix(scheme)
    if scheme.startswith("sqlite") and scheme.endswith("///"):
        place, _, query = rest.partition("?")
        return _Parts(scheme, "", place, query, False)
    begin = re.search(r"\?(?=[\w.-]+=)", rest) if scheme else None
    head, query = (rest[: begin.start()], rest[begin.end() :]) if begin else (rest, "")
    login, at, place = head.rpartition("@")
    if not scheme and ":" not in login:
        # A path; a file's name may hold any of these.
        return _Parts("", "", rest, "", False)
    if scheme and not at:
        place = place.partition("?")[0]
    no_port = bool(scheme) and not at and re.match(r"[^/\[]*:(?!\d+(?:/|$))", place) is not None
    return _Parts(scheme, login, place, query, "@" in query or no_port)


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
    from urllib.parse import unquote

    split = _split(url)
    parts = [*split.login.split(":", 1), *(found[0].partition("=")[2] for found in _ASSIGNED.finditer(url))]
    return [text for part in parts for text in {part, unquote(part)} if text]


def check_form(url: str | None) -> None:
    """Refuse a text that names no storage, or one whose driver is missing; nothing is opened, and nothing made.

    Raises
    ------
    InputError
        The text names no storage.
    ToolError
        The database's driver is missing.
    """
    if url is None:
        return
    import sqlalchemy.exc

    url = with_driver(url)
    scheme = scheme_of(url)
    try:
        if not scheme and lacks_slashes(url):
            raise ValueError(url)
        if scheme and scheme != "grpc":
            sqlalchemy.create_engine(url).dispose()
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise InputError(f"--study {without_credentials(url)}: not a storage ({FORMS})") from None
    except ImportError:
        raise driverless(url, scheme) from None


def driverless(url: str, scheme: str) -> ToolError:
    """Return the error of a database whose driver is not installed."""
    return ToolError(
        f"--study {without_credentials(url)}: the database's driver is missing: pip install {driver_package(scheme)}"
    )
