"""Files are written whole, hashed, found and named as promised."""

import errno
import hashlib
import os
import re
import socket
import stat
import subprocess
import sys

import pytest

from saratrx import files
from saratrx.errors import InputError


def test_a_file_is_old_or_new_but_never_half(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"a": [1, 2]})
    assert path.read_text() == '{"a": [1, 2]}\n'
    with pytest.raises(ZeroDivisionError), files.open_whole(path) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert path.read_text() == '{"a": [1, 2]}\n'
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_the_hash_is_that_of_sha256sum_and_tells_a_changed_byte(tmp_path):
    path = tmp_path / "a.bin"
    with files.open_whole(path, with_hash=True) as file:
        file.write(b"some ")
        file.write(b"bytes")
    digest = hashlib.sha256(b"some bytes").hexdigest()
    assert files.hash_path(path).read_text() == f"{digest}  a.bin\n"
    assert files.is_as_hashed(path)
    path.write_bytes(b"some bytez")
    assert not files.is_as_hashed(path)
    files.hash_path(path).write_bytes(b"\xff\xfe no text")
    assert not files.is_as_hashed(path)  # a hash that is none
    files.remove_with_hash(path)
    assert not list(tmp_path.iterdir())
    files.remove_with_hash(path)  # they may be gone already


def test_no_new_file_stands_beside_an_old_hash(tmp_path):
    path = tmp_path / "a.bin"
    with files.open_whole(path, with_hash=True) as file:
        file.write(b"old")
    files.write_text(path, "new")
    assert path.read_text() == "new"
    assert not files.hash_path(path).exists()


def test_what_a_killed_process_left_is_removed_and_that_of_a_living_one_stays(tmp_path):
    script = f"""
import os
from saratrx.files import open_whole
with open_whole({str(tmp_path / "a.bin")!r}) as file:
    file.write(b"half")
    file.flush()
    os._exit(1)
"""
    subprocess.run([sys.executable, "-c", script], check=False)
    [left] = tmp_path.iterdir()
    start, pid, end = re.fullmatch(r"(.*-)(\d+)(-[0-9a-f]+\.tmp)", left.name).groups()
    living = tmp_path / f"{start}{os.getppid()}{end}"
    far, long_ago = (tmp_path / f"{start.replace(socket.gethostname(), name)}{pid}{end}" for name in ("far", "gone"))
    for path in (living, far, long_ago):
        path.touch()
    os.utime(long_ago, (1, 1))
    files.write_text(tmp_path / "a.bin", "whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["a.bin", living.name, far.name])


def test_links_modes_long_names_and_devices(tmp_path):
    """What could be written in place can be written whole."""
    real, link = tmp_path / "real.csv", tmp_path / "link.csv"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to(real)
    files.write_text(link, "new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert real.stat().st_mode & 0o777 == 0o640
    longest = tmp_path / ("x" * 250)
    files.write_text(longest, "long")
    assert longest.read_text() == "long"
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    files.write_text(tmp_path / "pipe", "through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)


def test_a_folder_that_cannot_be_synced_is_no_reason_to_fail(tmp_path, monkeypatch):
    sync = os.fsync

    def files_only(number):
        if stat.S_ISDIR(os.fstat(number).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(number)

    monkeypatch.setattr(os, "fsync", files_only)
    files.write_text(tmp_path / "a", "text")
    assert (tmp_path / "a").read_text() == "text"


def test_a_disk_that_is_full_at_the_first_byte_is_named_through_other_errors(tmp_path):
    """As PyTorch does, whose writer turns the system's error into one of its own."""
    path = tmp_path / "a.bin"

    class Full:
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"), files.open_whole(path) as file:
        file.file = Full()
        try:
            file.write(b"x")
        except OSError:
            raise RuntimeError("unexpected pos 64 vs 0") from None
    assert not list(tmp_path.iterdir())
    with (
        pytest.raises(InputError, match=r"b/c.txt cannot be written: No such file or directory"),
        files.refused_if_unwritable("b/c.txt"),
    ):
        files.write_text(tmp_path / "b" / "c.txt", "text")


def test_visible_files_are_sorted_and_links_never_go_in_circles(tmp_path):
    for name in ("b/2", "b/1", "a/x/3", "0", ".hidden", ".cache/4", "b/._1"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "a" / "far").symlink_to(tmp_path / "b")
    found = [(os.path.relpath(folder, tmp_path), names) for folder, names in files.visible_files(tmp_path)]
    assert found == [(".", ["0"]), ("a", []), ("a/far", ["1", "2"]), ("a/x", ["3"])]


def test_a_content_hash_follows_the_content(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"1")
    first = files.content_hash(path)
    assert first == hashlib.sha256(b"1").hexdigest()
    path.write_bytes(b"12")
    assert files.content_hash(path) != first
    with pytest.raises(InputError, match="nothing cannot be read: No such file or directory"):
        files.content_hash(tmp_path / "nothing")


def test_the_hash_of_a_changed_file_is_computed_again_whatever_its_time(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    status = path.stat()
    assert files.content_hash(path) == hashlib.sha256(b"old").hexdigest()
    path.write_bytes(b"new")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert files.content_hash(path) == hashlib.sha256(b"new").hexdigest()


def test_names_that_the_system_does_not_take_are_no_files(tmp_path):
    (tmp_path / "a").touch()
    assert files.is_file(tmp_path / "a")
    assert files.is_folder(tmp_path)
    for name in ("a" * 5000, "a\0b", "a/b", ""):
        assert not files.is_file(f"{tmp_path}/{name}")
        assert not files.is_folder(f"{tmp_path}/{name}/x")
