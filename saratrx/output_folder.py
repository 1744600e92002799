"""One output folder, one run: made, tried for writing, and held against a second run, before hours are spent."""

import fcntl
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from saratrx.errors import InputError
from saratrx.files import refused_if_unwritable, try_writing

LOCK_NAME = ".run.lock"
CHECKPOINT = re.compile(r"checkpoint-(?:[\d-]+|best)\.pth")


@contextmanager
def claimed(folder: str | Path, option: str) -> Iterator[Path]:
    """Make a run's output folder, try that it can be written to, and hold it until the end.

    The lock is the system's: it ends with the process, however that dies, and not with loader workers that outlive it.
    Where a file system knows no locks, the folder is not held.

    Args:
        folder: where the run writes.
        option: names it in errors, such as "--output_dir".

    Raises:
        InputError: if it cannot be written to, or another process holds it.

    """
    folder = Path(folder)
    try_writing(folder, option)
    path = folder / LOCK_NAME
    with refused_if_unwritable(path):
        file = lock(path, f"{option} {folder}")
    with file:
        with suppress(OSError):  # on a full disk the lock holds as well
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        try:
            yield folder
        finally:
            path.unlink(missing_ok=True)  # while it is locked


def lock(path: Path, what: str) -> TextIO:
    """Open and lock a file; it is made if need be.

    Raises:
        InputError: if another process holds it.
        OSError: if it cannot be opened.

    """
    while True:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+", encoding="utf-8", errors="replace")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:  # POSIX allows both for a lock that is held
            holder = file.read(200).strip() or "another process"
            file.close()
            raise InputError(f"{what} is in use by {holder}: wait until it ends, or choose another folder") from error
        except OSError:
            return file
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()  # its last holder has just removed it


def is_output_folder(folder: str | Path, names: list[str]) -> bool:
    """Whether a run writes, or has written, to a folder; `names` are those of the files that are seen there."""
    return any(CHECKPOINT.fullmatch(name) for name in names) or (Path(folder) / LOCK_NAME).exists()
