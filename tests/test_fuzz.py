"""The fuzzer's short form: all readers refuse damaged and hostile files with a sentence (the long one: fuzz.py)."""

import os
import random
import subprocess
import sys
from pathlib import Path

from fuzz import Reader, case, fuzz

from saratrx.errors import InputError

READERS, CASES = 42, 15  # of each reader, and its good files


def command(*words):
    """Run a script in a process of its own: what it measures and which warnings come depends on what ran before."""
    return subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, check=False, timeout=280)


def test_no_reader_does_harm():
    done = command(Path(__file__).with_name("fuzz.py"), "--mutations", CASES * READERS)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    name, cases, read, refused, faults = done.stdout.splitlines()[-1].split()
    assert (name, int(faults)) == ("all", 0)
    assert int(cases) == int(read) + int(refused) >= CASES * READERS
    assert int(refused) > CASES * READERS / 3


def misbehaving(path):
    """A reader that does to a file what a fault of each kind does."""
    content = path.read_bytes()
    if content == b"good":
        return 1
    kind = content[0] % 7
    if kind == 0:
        raise ValueError("bad")
    if kind == 1:
        os.kill(os.getpid(), 9)
    if kind == 2:
        path.parents[1].joinpath("ran").touch()
    if kind == 3:
        raise InputError("two\nlines")
    if kind == 4:
        len(bytearray(900 * 2**20))
    if kind == 5:
        raise InputError("refused")
    return 2


def test_the_fuzzer_finds_faults_of_all_kinds(tmp_path):
    done = command(__file__, tmp_path)
    for sign in ("ValueError: bad", "ended with -9", "ran the file's code", "2 lines", "took ", "other content than"):
        assert sign in done.stdout, done.stdout + done.stderr
    assert f"{len(list(tmp_path.iterdir()))} faults" in done.stdout


def find_faults(folder):
    """Let the fuzzer loose on the reader that misbehaves."""
    reader = Reader("odd", {"a": b"good"}, misbehaving, is_checked=True)
    [[_, cases, read, refused, faulty]], faults = fuzz([reader], 3, 60, keep=folder)
    assert cases == 61 == read + refused + faulty
    assert refused
    print(*faults, f"{len(faults)} faults", sep="\n")


def test_cases_follow_from_seed_name_and_number_alone():
    reader = Reader("a", {"a": b"0123456789" * 9, "b": b"b" * 50}, len)
    made = [case(reader, 0, number) for number in range(100)]
    random.seed(5)
    assert [case(reader, 0, number) for number in reversed(range(100))] == made[::-1]
    assert made[:2] == [("a", reader.files["a"]), ("b", reader.files["b"])]
    assert len(set(made)) > 70
    assert [case(reader, 1, number) for number in range(2, 100)] != made[2:]


if __name__ == "__main__":
    find_faults(Path(sys.argv[1]))
