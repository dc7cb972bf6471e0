"""Storages of every kind."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lrfdse.search.study.urls import sqlite_url

_SERVE = """
import sys
from optuna.storages import run_grpc_proxy_server
from lrfdse.search.study.storage import open_storage
run_grpc_proxy_server(open_storage(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]))
"""


@contextlib.contextmanager
def grpc_proxy(folder: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-c", _SERVE, sqlite_url(folder / "behind.db"), str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        try:
            deadline = time.monotonic() + 600
            while time.monotonic() < deadline and server.poll() is None:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.1)
            yield f"grpc://127.0.0.1:{port}"
        finally:
            server.kill()


@pytest.fixture(scope="session")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("grpc")
    with grpc_proxy(tmp_path_factory.mktemp("proxy")) as url:
        yield url


@pytest.fixture(
    params=["sqlite", "journal", *(pytest.param(k, marks=pytest.mark.slow) for k in ("grpc", "postgresql"))]
)
def storage_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A storage of each kind; the proxy's is shared by the tests of a session."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "my results" / "study {1}.db")
    if request.param == "journal":
        return str(tmp_path / "my results" / "study.journal")
    if request.param == "grpc":
        return str(request.getfixturevalue("proxy"))
    return str(request.getfixturevalue("postgres").database())
