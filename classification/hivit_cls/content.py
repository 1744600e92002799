"""What a file holds, as a number: to find the same image under two names, and features computed before."""

import hashlib
import os
from functools import cache
from pathlib import Path

from saratrx.errors import InputError


def content_hash(path: str | Path) -> str:
    """SHA-256 of a file's content, as 64 hexadecimal digits; a file is read once while it does not change.

    Raises:
        InputError: if it cannot be read.

    """
    try:
        state = os.stat(path)  # noqa: PTH116 -- faster than Path's, and asked for every image
        return _hash(str(path), state.st_mtime_ns, state.st_size)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


@cache
def _hash(path: str, modified: int, size: int) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
