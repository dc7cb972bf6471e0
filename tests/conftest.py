from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

pytest_plugins = ("tests.plugins.boards", "tests.plugins.folders", "tests.plugins.models", "tests.plugins.operators")

# How long an example takes, and how long it takes to make one, says how busy the machine is.
hypothesis.settings.register_profile("lrfdse", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("lrfdse")


def pytest_configure() -> None:
    # A shell starts what runs in the background with interrupts ignored, and children would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden files with what is found now")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Files with slow tests first: where several processes share the files, the short ones fill what is left at the end.
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL server of the test's own; `url` is of its user, who may make databases."""

    url: str
    port: int

    def database(self) -> str:
        """Make a database and return its URL."""
        import psycopg2

        name = f"t{secrets.token_hex(6)}"
        with contextlib.closing(psycopg2.connect(self.url)) as connection:
            connection.autocommit = True
            connection.cursor().execute(f"create database {name}")
        return self.url.rpartition("/")[0] + f"/{name}"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server on a free port of 127.0.0.1 with password authentication; skipped where Debian's is not installed."""
    pytest.importorskip("psycopg2")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    root = os.geteuid() == 0
    if root and shutil.which("runuser") is None:
        pytest.skip("PostgreSQL does not run as root, and there is no runuser")
    folder, password = Path(tempfile.mkdtemp(prefix="lrfdse-pg-")), secrets.token_hex(8)
    (folder / "password").write_text(password)
    if root:
        shutil.chown(folder, "postgres")
        shutil.chown(folder / "password", "postgres")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def program(name: str, *arguments: str) -> list[str]:
        command = [str(found[-1].parent / name), *arguments]
        return ["runuser", "-u", "postgres", "--", *command] if root else command

    data = ["-D", str(folder / "data")]
    options = ["--username=lrfdse", f"--pwfile={folder / 'password'}", "--auth=scram-sha-256", "--no-sync"]
    subprocess.run(program("initdb", *data, *options), check=True, capture_output=True, cwd=folder)
    switches = ["-c", "fsync=off", "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
    # One server serves all tests of a process, whose pools of connections live until they are collected.
    switches += ["-c", "max_connections=500"]
    server = program("pg_ctl", *data, "-w", "-l", str(folder / "log"), "-o", " ".join(["-p", str(port), *switches]))
    subprocess.run([*server, "start"], check=True, capture_output=True, cwd=folder, timeout=600)
    try:
        yield Postgres(f"postgresql://lrfdse:{password}@127.0.0.1:{port}/postgres", port)
    finally:
        stop = program("pg_ctl", *data, "-m", "immediate", "stop")
        subprocess.run(stop, check=False, capture_output=True, cwd=folder)
        shutil.rmtree(folder, ignore_errors=True)
