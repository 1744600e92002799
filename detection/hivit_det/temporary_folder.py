"""The system's temporary folder, to which libraries write: what it means that it has no room, in one sentence."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from saratrx.errors import NO_ROOM, InputError, first_line


@contextmanager
def temporary_folder_named() -> Iterator[None]:
    """Turn a temporary folder without room into an InputError that names it, in the place of what was to be read.

    MMEngine copies configs there, and MMDetection what it evaluates.
    """
    try:
        yield
    except (OSError, UnboundLocalError) as error:
        # Where the folder cannot even be made, MMEngine stumbles over its own clean-up
        cause = error if isinstance(error, OSError) else error.__context__
        has_none = isinstance(cause, FileNotFoundError) and "temporary directory" in str(cause)
        if not isinstance(cause, OSError) or not (cause.errno in NO_ROOM or has_none):
            raise
        folder = tempfile.tempdir or os.environ.get("TMPDIR", "/tmp")
        raise InputError(
            f"the temporary folder {folder} cannot be written to: {first_line(cause)}; make room there, or name "
            "another folder in TMPDIR"
        ) from error
