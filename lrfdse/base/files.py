"""Files that appear whole or not at all, folders that one process at a time writes to, and no links followed in them.

A folder may come from somebody else. What is opened below it by a fixed name is a regular file of one name, or refused:
a link there would have this program write, append or read elsewhere, and a FIFO or a device would have it wait forever.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from lrfdse.errors import InputError, WriteError

DOCUMENT_BYTES = 1 << 26
"""Most that a text document may have: a ``front.json`` of a thousand designs has about 10 MB."""

RegularFile = io.BufferedReader | io.BufferedWriter | io.BufferedRandom

LOCK = ".lock"
"""Name of the file that marks a folder as one of ours, and that who writes there holds."""
_MARK = b"lrfdse writes to this folder, one process at a time\n"


_UNFINISHED = re.compile(r"\..+\.lrfdse-[0-9a-f]{12}")
"""Names of files that are being written; a marker of ours stands in each."""


def write_atomically(path: Path, content: bytes | str, mode: int = 0o666) -> None:
    """Write `content` beside `path` and rename it into place; readers see the old file or the new one.

    A link that lies there is replaced, and what it points to stays as it is. A process that is killed meanwhile leaves
    its unfinished file behind; the next that writes into the folder removes it.

    Parameters
    ----------
    path
        The file; its folder is made.
    content
        What it is to hold.
    mode
        Permissions, of which the user's umask takes away.

    Raises
    ------
    WriteError
        The folder cannot be written (permissions, full disk); nothing is left behind.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.lrfdse-{secrets.token_hex(6)}")
    made = False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_unfinished(path.parent)
        handle = _create_held(temporary, mode)
        made = True
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            # Its lock goes with the handle: without it, whoever writes into the folder next would remove the file.
            os.replace(temporary, path)
    except OSError as error:
        if made:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise WriteError(f"{path}: cannot be written: {error.strerror or error}") from error


def _create_held(path: Path, mode: int) -> int:
    """Create a file that nobody takes for one of a killed process: a lock on it goes when its process goes."""
    while True:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        # Where a file system has no locks, nothing is taken for unfinished.
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle
        # It was removed between the two steps.
        os.close(handle)


def _remove_unfinished(folder: Path) -> None:
    """Remove the unfinished files in a folder whose processes, of this user, are gone."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for path in [entry.path for entry in entries if _UNFINISHED.fullmatch(entry.name)]:
            with contextlib.suppress(OSError), open_regular(Path(path), os.O_RDWR) as file:
                if os.fstat(file.fileno()).st_uid == os.geteuid():
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(path)


def open_regular(path: Path, flags: int = os.O_RDONLY, *, links: bool = False) -> RegularFile:
    """Open a regular file without waiting for anything; a new one has the permissions that the umask leaves.

    Parameters
    ----------
    path
        The file.
    flags
        As for `os.open`; without one that writes, the file is read.
    links
        Whether a symbolic link is followed, as for a file that the user names. Where none is, a file that is written to
        must not have a second name either: what is appended to one would be appended to the other.

    Raises
    ------
    OSError
        It cannot be opened, is no regular file, or is a link; `strerror` says which.
    """
    writes = bool(flags & (os.O_WRONLY | os.O_RDWR))
    follow = 0 if links else os.O_NOFOLLOW
    try:
        handle = os.open(path, flags | follow | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP and not links:
            raise OSError(errno.ELOOP, "a symbolic link, which is not followed", str(path)) from None
        if error.errno in (errno.ENXIO, errno.ENODEV):
            raise OSError(errno.EINVAL, "not a regular file", str(path)) from None
        raise
    found = os.fstat(handle)
    wrong = ""
    if not stat.S_ISREG(found.st_mode):
        wrong = "a folder" if stat.S_ISDIR(found.st_mode) else "not a regular file"
    elif writes and not links and found.st_nlink > 1:
        wrong = "a file with a second name (a hard link), which is not written to"
    if wrong:
        os.close(handle)
        raise OSError(errno.EINVAL, wrong, str(path))
    if writes:
        return open(handle, "ab") if flags & os.O_APPEND else open(handle, "r+b")
    return open(handle, "rb")


def read_regular(path: Path, most: int = DOCUMENT_BYTES, *, links: bool = True) -> bytes:
    """Return the content of a regular file.

    Parameters
    ----------
    path
        The file.
    most
        Bytes that it may have at most; more are not read.
    links
        See `open_regular`.

    Raises
    ------
    OSError
        It cannot be read, is no regular file, or is larger; `strerror` says which.
    """
    with open_regular(path, links=links) as file:
        if (size := os.fstat(file.fileno()).st_size) > most:
            raise OSError(errno.EFBIG, f"{size:,} bytes, but at most {most:,} are read", str(path))
        # A file may grow while it is read.
        return file.read(most)


def folder_below(root: Path, *parts: str) -> Path:
    """Return the folder of names `parts` below `root`, made where it is missing; none of the names may be a link.

    Raises
    ------
    WriteError
        A part is a link or no folder, or cannot be made.
    """
    folder = root
    try:
        root.mkdir(parents=True, exist_ok=True)
        for part in parts:
            folder = folder / part
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
            if not stat.S_ISDIR(folder.lstat().st_mode):
                raise OSError(errno.ENOTDIR, "a link or a file, and no folder of ours")
    except OSError as error:
        raise WriteError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return folder


def is_marked(folder: Path) -> bool:
    """Return whether `sole_writer` held a folder once."""
    try:
        return read_regular(folder / LOCK, links=False).startswith(_MARK)
    except OSError:
        return False


@contextlib.contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Hold `folder` for one exploration; a second one is refused until the first ends, however it ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open_regular(folder / LOCK, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise InputError(
            f"{error.filename or folder}: cannot be written: {error.strerror or error}; name another with --output"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(
                f"{folder}: another exploration is writing here; wait for it, or write elsewhere"
            ) from error
        if not os.fstat(lock.fileno()).st_size:
            try:
                lock.write(_MARK)
                lock.flush()
            except OSError as error:
                raise WriteError(f"{folder}: cannot be written: {error.strerror or error}") from error
        yield
