"""What may be named as a storage, and what is said of one that cannot be used."""

from __future__ import annotations

import os
import signal
import sqlite3
from pathlib import Path

import optuna
import pytest
import sqlalchemy

from lrfdse.errors import InputError, ToolError
from lrfdse.search.study.opening import join_study, open_study
from lrfdse.search.study.storage import open_storage, storage_errors
from lrfdse.search.study.urls import is_journal, sqlite_url, with_driver

CHOICES = {"fc1": ("dense", "svd:r=8")}


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("nonsense", InputError),
        ("redis://me:hunter2@host/x", (ToolError, InputError)),
        ("nosuchdb://me:hunter2@host/x", (ToolError, InputError)),
        ("postgresql+nodriver://me:hunter2@127.0.0.1:1/x?password=hunter2", (ToolError, InputError)),
        ("postgresql://me:hunter2@127.0.0.1:1/x", ToolError),
        ("mysql://me:hunter2@127.0.0.1:1/x", ToolError),
        ("mysql+pymysql://me:hunter2@127.0.0.1:1/x", ToolError),
        ("grpc://me:hunter2@/x", InputError),
        ("sqlite:////proc/nowhere/study.db", InputError),
        ("/proc/nowhere/study.journal", InputError),
    ],
)
def test_unusable_storage_is_one_line_without_credentials(url: str, error: type[Exception]) -> None:
    with pytest.raises((InputError, ToolError)) as caught:
        open_storage(url)
    assert isinstance(caught.value, error)
    text = str(caught.value)
    assert text.startswith("--study ")
    assert "hunter2" not in text
    assert "me:" not in text
    assert "\n" not in text
    assert caught.value.__cause__ is None or "hunter2" not in str(caught.value.__cause__)


def test_a_proxy_that_does_not_answer_is_said() -> None:
    pytest.importorskip("grpc")
    with pytest.raises(ToolError, match=r"no gRPC proxy answers there within 0\.3 s"):
        open_storage("grpc://127.0.0.1:1", connect=0.3)


@pytest.mark.parametrize(
    ("name", "journal"), [("a.journal", True), ("b.LOG", True), ("c.db", False), ("d.sqlite3", False)]
)
def test_new_files_are_told_by_their_names(tmp_path: Path, name: str, journal: bool) -> None:
    assert is_journal(str(tmp_path / name)) == journal
    open_study(str(tmp_path / "x" / name), "demo", CHOICES, identity={}).close()
    content = (tmp_path / "x" / name).read_bytes()
    assert content.startswith(b"{" if journal else b"SQLite format 3")


def test_files_that_exist_are_told_by_their_content(tmp_path: Path) -> None:
    for name, other in (("study.journal", "study.txt"), ("study.db", "study.dat")):
        open_study(str(tmp_path / name), "demo", CHOICES, identity={}).close()
        (tmp_path / name).rename(tmp_path / other)
        assert optuna.get_all_study_names(open_storage(str(tmp_path / other))) == ["demo"]


def test_bare_schemes_get_a_driver_that_is_installed() -> None:
    pytest.importorskip("psycopg2")
    assert with_driver("postgresql://u:p@h/x") == "postgresql+psycopg2://u:p@h/x"
    assert with_driver("postgres://h/x") == "postgresql+psycopg2://h/x"
    assert with_driver("mysql://h/x") == "mysql+pymysql://h/x"
    assert with_driver("postgresql+psycopg://h/x") == "postgresql+psycopg://h/x"
    assert with_driver("sqlite:///x.db") == "sqlite:///x.db"


@pytest.mark.parametrize("name", ["study.db", "study.journal", "study.txt"])
def test_a_file_of_something_else_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(os.urandom(4096))
    with pytest.raises(InputError, match="--study "):
        open_storage(str(tmp_path / name))


def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "phonebook.db"
    with sqlite3.connect(path) as database:
        database.execute("create table people (name text)")
    before = path.read_bytes()
    with pytest.raises(InputError, match="a database of something else"):
        open_storage(sqlite_url(path))
    assert path.read_bytes() == before


def _killed_while_opening(url: str, statements: int) -> bool:
    """Open a storage in a process that is killed when it has made so many tables and indexes; return whether it was."""
    if (child := os.fork()) == 0:
        left = [statements]

        def count(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            left[0] -= statement.lstrip().startswith("CREATE")
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

        sqlalchemy.event.listen(sqlalchemy.Engine, "after_cursor_execute", count)
        open_storage(url)
        os._exit(0)
    return os.waitpid(child, 0)[1] == signal.SIGKILL


@pytest.mark.slow
def test_a_kill_while_the_tables_are_made_leaves_a_storage_that_keeps_names_apart(tmp_path: Path) -> None:
    kills = 0
    while _killed_while_opening(sqlite_url(tmp_path / f"{kills}.db"), kills + 1):
        url = sqlite_url(tmp_path / f"{kills}.db")
        for _ in range(2):
            open_study(url, "demo", CHOICES, identity={}).close()
        assert optuna.get_all_study_names(open_storage(url)) == ["demo"]
        kills += 1
    # Optuna's twelve tables, the indexes of two, and the table of who migrates them.
    assert kills >= 15


def test_the_schema_of_another_optuna_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    open_study(sqlite_url(path), "demo", CHOICES, identity={}).close()
    with sqlite3.connect(path) as database:
        database.execute("update alembic_version set version_num = 'v99.0.0.a'")
    with pytest.raises(InputError, match="no longer compatible with the table schema") as caught:
        open_storage(sqlite_url(path))
    assert "\n" not in str(caught.value)


def test_a_storage_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    open_study(sqlite_url(path), "demo", CHOICES, identity={}).close()
    with pytest.raises((InputError, ToolError), match="readonly database"):
        open_study(f"sqlite:///file:{path}?mode=ro&uri=true", "demo2", CHOICES, identity={})


@pytest.mark.slow
def test_a_database_that_only_reads_is_refused(postgres: object) -> None:
    url = postgres.database()  # type: ignore[attr-defined]
    open_study(url, "demo", CHOICES, identity={}).close()
    with pytest.raises(ToolError, match="read-only transaction"):
        open_study(url + "?options=-cdefault_transaction_read_only%3Don", "demo2", CHOICES, identity={})


@pytest.mark.slow
def test_a_wrong_password_is_said_without_it(postgres: object) -> None:
    url = postgres.url.replace("lrfdse:", "lrfdse:x")  # type: ignore[attr-defined]
    with pytest.raises(ToolError, match="refused the user name or the password") as caught:
        open_storage(url)
    assert url.split(":")[2].split("@")[0] not in str(caught.value)


def test_a_journal_whose_last_line_was_cut_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    study = open_study(str(path), "demo", CHOICES, identity={"model": "a"})
    study.enqueue({}, "dense")
    study.close()
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines()[-1][:40])
    again = open_study(str(path), "demo", CHOICES, identity={"model": "a"})
    proposal = again.take()
    assert proposal is not None
    again.tell(proposal, 1.0, 2, 0.5)
    again.close()
    assert path.read_bytes().startswith(whole)
    assert list(open_study(str(path), "demo", CHOICES, identity={"model": "a"}).finished()) == [("dense",)]


def test_a_damaged_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    open_study(str(path), "demo", CHOICES, identity={}).close()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"{broken\n" + b"".join(lines[1:]))
    with pytest.raises(InputError, match="not a journal of Optuna, or damaged"):
        open_storage(str(path))


def test_a_storage_that_goes_away_is_one_line(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "study.db")
    study = open_study(url, "demo", CHOICES, identity={})
    optuna.delete_study(study_name="demo", storage=open_storage(url))
    with pytest.raises(ToolError, match="the study's storage failed"), storage_errors(url):
        study.enqueue({}, "dense")
    with pytest.raises(KeyError, match="mine"), storage_errors(url):
        raise KeyError("mine")


@pytest.mark.parametrize("url", ["sqlite:///", "sqlite:///:memory:", "postgresql+psycopg2://me:s3cret@127.0.0.1:x/db"])
def test_a_storage_that_cannot_hold_a_study_is_refused(url):
    with pytest.raises(InputError) as caught:
        open_storage(url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("form", ["sqlite:///{}/x.db", "{}/x.journal"])
def test_joining_makes_no_file(form, tmp_path):
    assert join_study(form.format(tmp_path), None) is None
    assert list(tmp_path.iterdir()) == []
