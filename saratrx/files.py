"""Files written whole or not at all, the hashes beside them, and walks over what a person can see in a folder."""

import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from saratrx.errors import InputError, first_line
from saratrx.reporting import get_logger

log = get_logger(__name__)

LEFTOVER_SECONDS = 24 * 3600.0  # of another machine's process, which cannot be asked whether it lives


class WholeFile:
    """A file being written: hashes what passes through it, and remembers why it could not be written.

    PyTorch's writer turns an OSError into a RuntimeError of its own, so `error` keeps the first one.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.hash = file, hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        """Write some bytes."""
        self.hash.update(data)
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        """Hand everything to the operating system."""
        try:
            self.file.flush()
        except OSError as error:
            self.error = error
            raise


@contextmanager
def open_whole(path: str | Path, with_hash: bool = False) -> Iterator[WholeFile]:
    """Write a file in one step: after a crash there is the old file or the new one, never half of one.

    A link is followed, an old file's mode is kept, and what is no file, such as /dev/stdout, is written to directly.

    Args:
        path: the file; its folder must exist.
        with_hash: also write its SHA-256 beside it, see `hash_path`; without, an old hash goes with the old file.

    Raises:
        OSError: if it cannot be written, as on a full disk; an old file is then still there.

    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield WholeFile(file)
        return
    remove_leftovers(path)
    place = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    temporary = path.with_name(f"{temporary_prefix(path)}{place}.tmp")
    try:
        with temporary.open("wb") as file:
            whole = WholeFile(file)
            try:
                yield whole
            except RuntimeError as error:
                raise whole.error or error from error
            whole.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, temporary)
        # At no moment does a new file stand beside an old hash: for a while there is no hash
        if os.path.lexists(hash_path(path)):
            hash_path(path).unlink(missing_ok=True)
        temporary.replace(path)
        if with_hash:
            temporary.write_text(f"{whole.hash.hexdigest()}  {path.name}\n", encoding="utf-8")
            temporary.replace(hash_path(path))
    finally:
        temporary.unlink(missing_ok=True)
    with suppress(OSError):  # some file systems cannot; the file is there
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the new names themselves
        finally:
            os.close(folder)


def temporary_prefix(path: Path) -> str:
    """Begin the names of what becomes `path`: hidden, and short where its own name is long."""
    return f".{path.name[:40]}-{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]}."


def remove_leftovers(path: Path) -> None:
    """Delete what killed processes left of `path`: those of this machine, and of others what is a day old."""
    prefix = temporary_prefix(path)
    pattern = re.compile(re.escape(prefix) + r"(.+)-(\d+)-[0-9a-f]+\.tmp")
    with suppress(OSError):  # another user's file, a folder that cannot be listed: nothing to stop for
        for leftover in path.parent.iterdir():
            found = pattern.fullmatch(leftover.name)
            if found is None:
                continue
            is_own = found[1] == socket.gethostname()
            is_old = time.time() - leftover.stat().st_mtime > LEFTOVER_SECONDS
            if is_old or (is_own and not is_running(int(found[2]))):
                leftover.unlink(missing_ok=True)


def is_running(pid: int) -> bool:
    """Tell whether this machine has a process of that number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file in one step, as `open_whole` does."""
    with open_whole(path) as file:
        file.write(content)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in one step, as `open_whole` does."""
    write_bytes(path, text.encode(errors="surrogateescape"))  # names of files need not be UTF-8


def write_json(path: str | Path, content: Any, indent: int | None = None) -> None:
    """Write a JSON file in one step, as `open_whole` does."""
    write_text(path, json.dumps(content, indent=indent) + "\n")


@contextmanager
def refused_if_unwritable(path: str | Path) -> Iterator[None]:
    """Turn an OSError of writing `path` into an InputError that names it."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path} cannot be written: {first_line(error)}") from error


def try_writing(folder: str | Path, option: str) -> None:
    """Make a folder, and see that files can be written there: now, rather than after hours.

    Args:
        folder: with those above it, where they are missing.
        option: names it in errors, such as "--output_dir".

    Raises:
        InputError: if it cannot be made or written to.

    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "a file of that name is there" if isinstance(error, FileExistsError) else first_line(error)
        raise InputError(f"{option} {folder} cannot be made: {reason}; choose another folder") from error
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
    except OSError as error:
        raise InputError(
            f"{option} {folder} cannot be written to: {first_line(error)}; choose another folder"
        ) from error


def is_file(path: str | Path) -> bool:
    """Whether a path leads to a file; false where the system cannot say: a name too long, a folder that is closed."""
    return os.path.isfile(path)  # noqa: PTH113 -- Path's raises an OSError then


def is_folder(path: str | Path) -> bool:
    """Whether a path leads to a folder; as `is_file`."""
    return os.path.isdir(path)  # noqa: PTH112


def hash_path(path: str | Path) -> Path:
    """Where the hash of a file stands, in the form of `sha256sum`: `checkpoint-8.pth.sha256`."""
    return Path(f"{path}.sha256")


def is_as_hashed(path: str | Path) -> bool:
    """Whether a file is what the hash beside it says; true if there is none."""
    for _ in range(2):  # both may just be replaced
        try:
            said = hash_path(path).read_bytes()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        try:
            with Path(path).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return False
        if said.split(maxsplit=1)[:1] == [found.encode()]:
            return True
    return False


def remove_with_hash(path: Path) -> None:
    """Delete a file and the hash beside it, where they are there."""
    path.unlink(missing_ok=True)
    hash_path(path).unlink(missing_ok=True)


def content_hash(path: str | Path) -> str:
    """SHA-256 of a file's content, as 64 hexadecimal digits; a file is read once while it does not change.

    Raises:
        InputError: if it cannot be read.

    """
    try:
        state = os.stat(path)  # noqa: PTH116 -- faster than Path's, and asked for every image
        return _hash(str(path), state.st_mtime_ns, state.st_size, state.st_ino, state.st_ctime_ns)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


@cache
def _hash(path: str, *_state: int) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_images(folder: str | Path, option: str = "--data_path") -> list[str]:
    """Find the paths of all images under a folder at any depth, sorted; links are followed, hidden files left out.

    So are, with a warning, output folders of runs, whose panels are no data, and folders that cannot be listed.

    Args:
        folder: begins all paths.
        option: names it in errors.

    Raises:
        InputError: if there is no such folder, or no image in it, or it is the output folder of a run.

    """
    # both need this module
    from saratrx.output_folder import is_output_folder  # noqa: PLC0415
    from saratrx.sar_image import EXTENSIONS, is_image_name  # noqa: PLC0415

    if not is_folder(folder):
        raise InputError(f"{option} {folder}: no such folder")

    def warn(error: OSError) -> None:
        log.warning("%s %s: left out %s, which cannot be listed: %s", option, folder, error.filename, first_line(error))

    paths: list[str] = []
    outputs: list[str] = []
    for parent, names in visible_files(folder, warn):
        if is_output_folder(parent, names):
            if parent == str(folder):
                raise InputError(f"{option} {folder}: is the output folder of a run; keep images apart from it")
            log.warning("%s %s: left out %s, an output folder of a run", option, folder, parent)
            outputs.append(os.path.join(parent, ""))
        if not os.path.join(parent, "").startswith(tuple(outputs)):
            paths += [os.path.join(parent, name) for name in names if is_image_name(name)]
    if not paths:
        raise InputError(f"{option} {folder}: no image in it ({' '.join(sorted(EXTENSIONS))} .000 to .026)")
    return sorted(paths)


def visible_files(root: str | Path, tell: Callable[[OSError], None] | None = None) -> Iterator[tuple[str, list[str]]]:
    """Walk over each folder below `root`, itself included, with the names of its files, both sorted.

    Links are followed, but never in circles; hidden folders and files are left out. `tell` is called for each folder
    that cannot be listed.
    """
    seen = set()
    for folder, below, names in os.walk(root, onerror=tell, followlinks=True):
        identity = os.path.realpath(folder)
        if identity in seen:  # a link back to a folder above or beside
            below.clear()
            continue
        seen.add(identity)
        below[:] = visible(below)
        yield folder, visible(names)


def visible(names: list[str]) -> list[str]:
    """Names that do not begin with a dot, sorted."""
    return sorted(name for name in names if not name.startswith("."))
