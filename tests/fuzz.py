"""Do all readers refuse damaged and hostile files with a sentence? A seeded fuzzer.

    python tests/fuzz.py --mutations 10000 --seed 0                   # all readers; about ten minutes
    python tests/fuzz.py --mutations 500 --only shards --keep faulty  # one of them; keeps the files that do harm

Each case changes a good file and has it read in a process of its own kind, with limits on time and memory. It is read,
or refused with an `InputError` of one line; all else is a fault: another exception, a library's warning, an end of the
process, too much time or memory, a file's code that ran, or content that is other than its checksum says. What a case
does follows from the seed, the reader's name and its number alone. The exit code is 0 only without faults.
"""

import argparse
import contextlib
import gzip
import io
import multiprocessing
import os
import random
import re
import resource
import signal
import struct
import sys
import tarfile
import tempfile
import time
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tabulate import tabulate

SECONDS = 10  # of a processor, for a case: files are of a few kilobytes
WALL_SECONDS = 120  # after which a case that sleeps has hung
MEGABYTES = 700  # of memory that a case may take
LONGEST_SENTENCE = 1500
FINE = ("read", "refused")
NUMBER = re.compile(rb"-?\d+\.?\d*(?:[eE][+-]?\d+)?")
TEXTS = (
    *(b"-1", b"0", b"1", b"-0", b"1e999", b"-1e999", b"NaN", b"nan", b"Infinity", b"-inf", b"1e308", b"1e-320"),
    *(b"9" * 20, b"9" * 400, b"9" * 5000, b"4294967296", b"9007199254740993", b"0.5", b"1_000", b"0x10", b"010"),
    *(b"null", b"true", b'"text"', b'""', b"[]", b"{}", b"[[1]]", b'{"a": 1}', b"[" * 2000, b"\xff\xfe", b"\0", b""),
)
EXTREMES = (0, 1, -1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, -(2**63))
HEADER_NUMBERS = (
    b"77777777777\0",
    b"-1\0",
    b"\x80" + b"\xff" * 11,
    b"\xff" * 12,
    b"00000000000\0",
    b"1e9\0",
    b"\0" * 12,
)

ATTRIBUTES = (
    *("size", "path", "linkpath", "mtime", "uid", "hdrcharset", "comment", "GNU.sparse.map", "GNU.sparse.realsize"),
    *("GNU.sparse.size", "GNU.sparse.name", "GNU.sparse.offset", "GNU.sparse.numbytes", "GNU.sparse.major"),
)


@dataclass(frozen=True)
class Reader:
    """A reader and good files for it.

    Args:
        name: of the reader and the kind of file.
        files: good ones, by name below a folder; one of them is changed in each case.
        read: gets the path of the changed file.
        beside: files that lie in the folder too, unchanged.
        suffixes: that the changed file may have in place of its own.
        is_text: numbers are then replaced by others in half of the cases.
        is_checked: a checksum shows each change, so what is read must be what the good file holds.
        is_hostile: its files pickle a call; they are good for nothing, unchanged too.

    """

    name: str
    files: dict[str, bytes]
    read: Callable[[Path], Any]
    beside: dict[str, bytes] = field(default_factory=dict)
    suffixes: tuple[str, ...] = ()
    is_text: bool = False
    is_checked: bool = False
    is_hostile: bool = False


class HungError(BaseException):
    """A case that took too long; no reader takes it for its own error."""


# --- changes ---


def mutated(rng: random.Random, content: bytes, others: list[bytes], is_text: bool) -> bytes:
    """Change a file in one to three ways; half of the archives inside, with their checksums mended."""
    if rng.random() < 0.5:
        with contextlib.suppress(Exception):  # no archive, or one of another kind
            return repacked(rng, content, others)
    return changed(rng, content, others, is_text)


def changed(rng: random.Random, content: bytes, others: list[bytes], is_text: bool = False) -> bytes:
    """Change a file in one to three ways."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if is_text and rng.random() < 0.5:
            content = renumbered(rng, content)
        else:
            content = rng.choice(CHANGES)(rng, content, others)
    return content


def span(rng: random.Random, content: bytes) -> tuple[int, int]:
    """Choose a part of a file, most often a small one near its beginning, where its head is."""
    length = len(content)
    begin = rng.randrange(min(length, rng.choice((64, 512, length))) + 1) if length else 0
    return begin, min(length, begin + rng.choice((1, 2, 4, 8, 16, 64, 512, rng.randrange(length + 1))))


def flip_bits(rng: random.Random, content: bytes, _: list[bytes]) -> bytes:
    flipped = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8, 64)) if content else 0):
        flipped[span(rng, content)[0] - 1] ^= 1 << rng.randrange(8)
    return bytes(flipped)


def overwrite(rng: random.Random, content: bytes, _: list[bytes]) -> bytes:
    begin, end = span(rng, content)
    return content[:begin] + rng.choice((b"\0", b"\xff", b" ", b"A")) * (end - begin) + content[end:]


def cut_off(rng: random.Random, content: bytes, _: list[bytes]) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def double(rng: random.Random, content: bytes, _: list[bytes]) -> bytes:
    begin, end = span(rng, content)
    times = rng.choice((1, 1, 3, 50)) if end - begin < 5000 else 1
    return content[:end] + content[begin:end] * times + content[end:]


def remove(rng: random.Random, content: bytes, _: list[bytes]) -> bytes:
    begin, end = span(rng, content)
    return content[:begin] + content[end:]


def move(rng: random.Random, content: bytes, _: list[bytes]) -> bytes:
    begin, end = span(rng, content)
    rest = content[:begin] + content[end:]
    place = rng.randrange(len(rest) + 1)
    return rest[:place] + content[begin:end] + rest[place:]


def splice(rng: random.Random, content: bytes, others: list[bytes]) -> bytes:
    other = rng.choice(others)
    return content[: rng.randrange(len(content) + 1)] + other[rng.randrange(len(other) + 1) :]


def set_extreme(rng: random.Random, content: bytes, _: list[bytes]) -> bytes:
    size = rng.choice((1, 2, 4, 8))
    number = rng.choice(EXTREMES) % 256**size
    begin = span(rng, content)[0]
    return content[:begin] + number.to_bytes(size, rng.choice(("little", "big"))) + content[begin + size :]


def insert(rng: random.Random, content: bytes, _: list[bytes]) -> bytes:
    begin = span(rng, content)[0]
    return content[:begin] + rng.choice((*TEXTS, rng.randbytes(8))) + content[begin:]


def renumber(rng: random.Random, content: bytes, _: list[bytes]) -> bytes:
    return renumbered(rng, content)


CHANGES = (flip_bits, flip_bits, overwrite, cut_off, double, remove, move, splice, set_extreme, set_extreme, insert)


def renumbered(rng: random.Random, content: bytes) -> bytes:
    """Replace a number in a text, or a quoted word, by what is none or none that can be."""
    places = [found.span() for found in re.finditer(rng.choice((NUMBER, NUMBER, re.compile(rb'"[^"]*"'))), content)]
    if not places:
        return content
    begin, end = rng.choice(places)
    return content[:begin] + rng.choice(TEXTS) + content[end:]


def repacked(rng: random.Random, content: bytes, others: list[bytes]) -> bytes:
    """Change what an archive or image holds behind its checksums, and mend these."""
    if content.startswith(b"\x1f\x8b"):
        inside = gzip.decompress(content)
        return gzip.compress(mutated(rng, inside, others, False), mtime=0)
    if content.startswith(b"\x89PNG"):
        return repacked_png(rng, content)
    if zipfile.is_zipfile(io.BytesIO(content)):
        return repacked_zip(rng, content, others)
    return repacked_tar(rng, content)


def repacked_png(rng: random.Random, content: bytes) -> bytes:
    chunks, place = [], 8
    while place < len(content):
        size = int.from_bytes(content[place : place + 4], "big")
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + size]))
        place += size + 12
    number = rng.randrange(len(chunks))
    chunks[number] = chunks[number][0], changed(rng, chunks[number][1], [content])
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return content[:8] + b"".join(parts)


def repacked_zip(rng: random.Random, content: bytes, others: list[bytes]) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    pickles = [name for name in members if name.endswith("data.pkl")]
    name = pickles[0] if pickles and rng.random() < 0.7 else rng.choice(list(members))
    members[name] = changed(rng, members[name], others)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for each, data in members.items():
            archive.writestr(each, data)
    return file.getvalue()


def repacked_tar(rng: random.Random, content: bytes) -> bytes:
    """Change a field of a member's header: name, size, kind, prefix, attributes; its checksum fits then."""
    if rng.random() < 0.3:
        return with_attribute(rng, content)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        offset = rng.choice(archive.getmembers()).offset
    header = bytearray(content[offset : offset + 512])
    change = rng.randrange(4)
    if change == 0:
        header[124:136] = rng.choice(HEADER_NUMBERS).ljust(12, b"\0")[:12]
    elif change == 1:
        header[156] = rng.choice(b"0123456789SgxLKNDMV\0z")
    elif change == 2:
        place = rng.randrange(100)
        header[place : place + 8] = rng.randbytes(8)
    else:
        place = rng.randrange(345, 500)
        header[place : place + 12] = rng.randbytes(12)
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    return content[:offset] + bytes(header) + content[offset + 512 :]


def with_attribute(rng: random.Random, content: bytes) -> bytes:
    """Give a member of a tar file an attribute that cannot be meant."""
    file = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(content)) as old,
        tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        members = old.getmembers()
        victim = rng.choice(members)
        for member in members:
            member.pax_headers = {}
            if member is victim:
                for _ in range(rng.choice((1, 2))):
                    member.pax_headers[rng.choice(ATTRIBUTES)] = rng.choice((*TEXTS, b"0,1", b"-512")).decode("latin-1")
            new.addfile(member, old.extractfile(member))
    return file.getvalue()


# --- one reader's cases, in a process of their own ---


def case(reader: Reader, seed: int, number: int) -> tuple[str, bytes]:
    """Make the file of a case: its name and content. The first ones are the good files."""
    names = list(reader.files)
    if number < len(names):
        return names[number], reader.files[names[number]]
    rng = random.Random(f"{seed} {reader.name} {number}")
    name = rng.choice(names)
    content = mutated(rng, reader.files[name], list(reader.files.values()), reader.is_text)
    if reader.suffixes and rng.random() < 0.1:
        name = str(Path(name).with_suffix(rng.choice(reader.suffixes)))
    return name, content


def lay_out(reader: Reader, folder: Path, name: str, content: bytes) -> Path:
    """Write a case's file, and what belongs beside it."""
    for each, data in {**reader.beside, name: content}.items():
        path = folder / each
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder / name


def outcome(reader: Reader, seed: int, number: int, folder: Path, good: dict[str, Any]) -> str:
    """Run a case; "read", "refused", or what is wrong. `good` gets what the good files hold."""
    name, content = case(reader, seed, number)
    is_good = number < len(reader.files) and not reader.is_hostile
    memory, begun = peak_megabytes(), time.process_time()
    with tempfile.TemporaryDirectory(dir=folder) as place, warnings.catch_warnings(record=True) as warned:
        result, found = attempt(reader, lay_out(reader, Path(place), name, content))
    if is_good:
        good[name] = found
        result = "the good file is refused" if result == "refused" else result
    elif result == "read" and reader.is_checked and found != good.get(name, found):
        result = "other content than its checksum says"
    if warned and result in FINE:
        result = f"warned: {warned[0].category.__name__}: {str(warned[0].message)[:200]}"
    if (grown := peak_megabytes() - memory) > MEGABYTES:
        result = f"took {grown:.0f} MB: {result}"
    if (seconds := time.process_time() - begun) > SECONDS / 2:
        result = f"took {seconds:.0f} s: {result}"
    if (folder / "ran").exists():
        (folder / "ran").unlink()
        result = f"ran the file's code: {result}"
    return result


def attempt(reader: Reader, path: Path) -> tuple[str, Any]:
    """Read a file; "read" and what it holds, or "refused", or what is wrong."""
    from saratrx.errors import InputError, SeveralInputErrors  # noqa: PLC0415 -- not before the options are read

    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        return "read", reader.read(path)
    except InputError as error:
        lines = str(error).splitlines()
        if len(lines) != 1 and not isinstance(error, SeveralInputErrors):
            return f"a sentence of {len(lines)} lines: {str(error)[:200]!r}", None
        if len(str(error)) > LONGEST_SENTENCE:
            return f"a sentence of {len(str(error))} characters: {str(error)[:200]}", None
        return "refused", None
    except HungError:
        return f"more than {SECONDS} s", None
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:200]}", None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def peak_megabytes() -> float:
    """The largest memory that this process has held; getrusage would give its parent's."""
    held = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    return int(held[1]) / 1024 if held else 0.0


def work(reader: Reader, seed: int, numbers: range, folder: Path, results: Any) -> None:
    """Run cases, and send what came of each; the body of a process."""

    def hung(*_: object) -> None:
        raise HungError

    signal.signal(signal.SIGPROF, hung)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2 * MEGABYTES * 2**20, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 -- what readers print,
    for stream in (1, 2):  # libraries in C included
        os.dup2(sys.stdout.fileno(), stream)
    os.chdir(folder)
    good: dict[str, Any] = {}
    for number in range(min(len(reader.files), numbers.start)):  # a process that takes over needs the good content
        outcome(reader, seed, number, folder, good)
    for number in numbers:
        results.send((number, outcome(reader, seed, number, folder, good)))
    results.close()
    os._exit(0)  # no clean-up of what was inherited


def run(reader: Reader, seed: int, count: int, folder: Path) -> dict[int, str]:
    """Run the cases of a reader; gives "read", "refused" or a fault for each."""
    fork = multiprocessing.get_context("fork")
    found: dict[int, str] = {}
    total = count + len(reader.files)
    while len(found) < total:
        receiver, sender = fork.Pipe(duplex=False)
        process = fork.Process(target=work, args=(reader, seed, range(len(found), total), folder, sender))
        process.start()
        sender.close()
        try:
            while len(found) < total:
                if not receiver.poll(WALL_SECONDS):
                    found[len(found)] = f"more than {WALL_SECONDS} s without an end"
                    break
                number, result = receiver.recv()
                found[number] = result
                if result.startswith("took"):  # the next one's memory is measured afresh
                    break
        except EOFError:
            process.join()
            found[len(found)] = f"the process ended with {process.exitcode}"
        finally:
            process.kill()
            process.join()
            receiver.close()
    return found


# --- all of them ---


def fuzz(
    readers: list[Reader], seed: int, count: int, keep: Path | None = None, say: Callable[[str], None] = print
) -> tuple[list[list[Any]], list[str]]:
    """Run `count` cases of each reader; gives the rows of a table and a line per fault, and keeps the faulty files."""
    rows, faults = [], []
    for reader in readers:
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            found = run(reader, seed, count, Path(folder))
        kinds = Counter(result if result in FINE else "fault" for result in found.values())
        rows.append([reader.name, len(found), kinds["read"], kinds["refused"], kinds["fault"]])
        for number, result in found.items():
            if result not in FINE:
                faults.append(f"{reader.name}, case {number}: {result}")
                if keep:
                    name, content = case(reader, seed, number)
                    lay_out(reader, keep / f"{reader.name.replace('/', '-')}-{number}", name, content)
        say(f"{reader.name}: {dict(kinds)}, {time.monotonic() - begun:.0f} s")
    return rows, faults


def as_table(rows: list[list[Any]]) -> str:
    """Make the table, with a sum."""
    total = ["all", *(sum(row[column] for row in rows) for column in range(1, 5))]
    return tabulate([*rows, total], ["reader", "cases", "read", "refused", "faults"])


def main() -> None:
    """Fuzz as the command line says."""
    parser = argparse.ArgumentParser(description="Have all readers read damaged and hostile files.")
    parser.add_argument("--mutations", type=int, default=1000, help="in all, dealt evenly to the readers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="readers whose name has this in it")
    parser.add_argument("--keep", type=Path, help="a folder for the files that did harm")
    args = parser.parse_args()
    if args.mutations < 1:
        parser.error(f"--mutations {args.mutations}: must be at least 1")
    root = Path(__file__).parents[1]
    sys.path[:0] = [str(root / stage) for stage in ("pre-training", "classification", "detection")]
    from fuzz_readers import make_readers  # noqa: PLC0415 -- brings PyTorch and all stages

    readers = [reader for reader in make_readers() if args.only in reader.name]
    if not readers:
        sys.exit(f"error: --only {args.only}: no such reader")
    rows, faults = fuzz(readers, args.seed, -(-args.mutations // len(readers)), args.keep)
    print(as_table(rows))
    for line in faults:
        print(line)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
