"""The fuzzer's short form: all readers refuse damaged and hostile files with a sentence (the long one: fuzz.py)."""

import os
import random

import pytest
from fuzz import Reader, case, fuzz

from saratrx.errors import InputError

CASES = 15  # of each reader, and its good files


@pytest.fixture(scope="module")
def readers():
    """All of them; what they set is put back."""
    import torch  # noqa: PLC0415
    from fuzz_readers import image_cache, make_readers  # noqa: PLC0415 -- imports every stage

    said, threads, decoded = os.environ.get("SARATRX_MAX_PIXELS"), torch.get_num_threads(), image_cache.decoded
    yield make_readers()
    image_cache.decoded = decoded
    torch.set_num_threads(threads)
    if said is None:
        del os.environ["SARATRX_MAX_PIXELS"]
    else:
        os.environ["SARATRX_MAX_PIXELS"] = said


def test_no_reader_does_harm(readers):
    rows, faults = fuzz(readers, 0, CASES)
    assert faults == []
    assert all(read + refused >= CASES for _, _, read, refused, _ in rows)
    refused = {name: refused for name, _, _, refused, _ in rows}
    assert sum(refused.values()) > len(rows) * CASES / 3


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


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_the_fuzzer_finds_faults_of_all_kinds(tmp_path):
    reader = Reader("odd", {"a": b"good"}, misbehaving, is_checked=True)
    [[_, cases, read, refused, faulty]], faults = fuzz([reader], 3, 60, keep=tmp_path)
    assert cases == 61 == read + refused + faulty
    assert refused
    text = "\n".join(faults)
    for sign in ("ValueError: bad", "ended with -9", "ran the file's code", "2 lines", "took ", "other content than"):
        assert sign in text, sign
    assert len(list(tmp_path.iterdir())) == faulty == len(faults)


def test_cases_follow_from_seed_name_and_number_alone():
    reader = Reader("a", {"a": b"0123456789" * 9, "b": b"b" * 50}, len)
    made = [case(reader, 0, number) for number in range(100)]
    random.seed(5)
    assert [case(reader, 0, number) for number in reversed(range(100))] == made[::-1]
    assert made[:2] == [("a", reader.files["a"]), ("b", reader.files["b"])]
    assert len(set(made)) > 70
    assert [case(reader, 1, number) for number in range(2, 100)] != made[2:]
