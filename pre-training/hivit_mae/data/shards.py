"""Images in WebDataset shards: tar files, local or behind any URL, each read from its beginning in one stream."""

import gzip
import json
import sys
import tarfile
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import accumulate, islice
from pathlib import Path, PurePosixPath
from typing import IO, NoReturn, Protocol
from urllib.parse import urlparse

import numpy as np
import torch
from torch.utils.data import IterableDataset, Sampler, get_worker_info
from webdataset.gopen import Pipe, gopen, gopen_schemes
from webdataset.shardlists import expand_urls

from hivit_mae.data.augment import Augmentation
from hivit_mae.data.bad_images import BadImages
from hivit_mae.data.source import Image, Sample, listed
from hivit_mae.run.options import TAR_NAME, is_shards
from hivit_mae.seeds import CHUNK, SHARDS
from saratrx import sar_image
from saratrx.errors import InputError, first_line
from saratrx.files import refused_if_unwritable, write_json
from saratrx.reading import AS_DEFAULT, Reading
from saratrx.reporting import get_logger
from saratrx.seeds import derived_seed

log = get_logger(__name__)

LARGEST_COUNT = 10**7  # images of a shard, that a sizes.json may claim
CHUNK_IMAGES = 1024  # about how many a loader worker holds, undecoded, to mix them
COUNTING_THREADS = 8  # they wait for a network
PROGRESS_SECONDS = 10
GZIP_START = b"\x1f\x8b"
LONG_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
LARGEST_HEADER = 8192  # bytes of a long name or of attributes, whose parsing may take the square of it
FREE_BYTES = 2**26  # 64 MB, that any packed shard may unpack to
READS_BEYOND = 100  # of a stream's end, at which tarfile asks a few times
LARGEST_GROWTH = 200  # times its packed bytes, beyond that; images hardly shrink, a bomb a thousandfold


def find_shards(data_path: Sequence[str], cache: str) -> list[str]:
    """List the URLs of all shards that --data_path names; none if it names folders.

    Raises:
        InputError: if it names both, a pattern is broken, nothing opens such URLs, or there is a cache, which shards
            do not use.

    """
    entries = [path for path in data_path if is_shards(path)]
    if not entries:
        return []
    if len(entries) < len(data_path):
        folder = next(path for path in data_path if not is_shards(path))
        raise InputError(
            f"--data_path {folder}: folders cannot be mixed with shards such as {entries[0]}; use one kind"
        )
    if cache:
        raise InputError(f"--cache {cache}: is for folders of images; leave it out with shards such as {entries[0]}")
    urls = []
    for entry in entries:
        try:
            urls += expand_urls(entry)
        except ValueError as error:
            raise InputError(f"--data_path {entry}: its braces do not fit: {error}") from error
    for url in urls:
        scheme = urlparse(url).scheme
        if scheme not in {"", "file", *gopen_schemes}:
            raise InputError(
                f"--data_path {url}: {scheme} URLs cannot be opened; use a command that prints the shard, such as "
                f'"pipe:aws s3 cp {url} -"'
            )
    return [url if urlparse(url).scheme else str(Path(url).absolute()) for url in urls]


def count_images(urls: list[str], sizes_folder: Path) -> list[int]:
    """How many images each shard holds.

    Taken from a sizes.json beside the shards, {"shard-000.tar": 1000, ...}, or else from sizes.json in `sizes_folder`,
    {url: 1000, ...}, where what has to be counted is written for the next start.

    Raises:
        InputError: if a shard cannot be read, a sizes.json is no such file, or there is no image at all.

    """
    written_file = sizes_folder / "sizes.json"
    written = parse_sizes(written_file.read_bytes(), written_file) if written_file.is_file() else {}
    beside: dict[str, dict[str, int]] = {}  # by the URL of a sizes.json
    known: dict[str, int] = {}
    for url in urls:
        name = None if url.startswith("pipe:") else TAR_NAME.search(url)
        if name:
            sizes_url = url[: name.start()] + "sizes.json" + url[name.end() :]
            if sizes_url not in beside:
                beside[sizes_url] = read_sizes(sizes_url)
            if name.group() in beside[sizes_url]:
                known[url] = beside[sizes_url][name.group()]
        if url in written:
            known.setdefault(url, written[url])

    missing = [url for url in dict.fromkeys(urls) if url not in known]
    last_line = time.perf_counter()
    with ThreadPoolExecutor(COUNTING_THREADS) as pool:
        for done, (url, count) in enumerate(zip(missing, pool.map(count_shard, missing), strict=True), start=1):
            known[url] = written[url] = count
            if time.perf_counter() - last_line > PROGRESS_SECONDS or done == len(missing):
                last_line = time.perf_counter()
                log.info("shards: counted the images of %s of %s", f"{done:,}", f"{len(missing):,}")
    if missing:
        with refused_if_unwritable(written_file):
            write_json(written_file, written, indent=1)
    counts = [known[url] for url in urls]
    if not sum(counts):
        kinds = " ".join(sorted(sar_image.EXTENSIONS))
        raise InputError(f"--data_path {urls[0]}: no image in the shards ({kinds} .000 to .026)")
    return counts


def read_sizes(url: str) -> dict[str, int]:
    """Read the sizes.json at a URL; empty if there is none."""
    try:
        with gopen(url) as stream:
            content = stream.read()
    except (OSError, ValueError):  # most shards have none
        return {}
    return parse_sizes(content, url) if content else {}


def parse_sizes(content: bytes, name: str | Path) -> dict[str, int]:
    """Check the content of a sizes.json."""
    try:
        sizes = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} is no JSON: {first_line(error)}; fix or remove it") from error
    if not isinstance(sizes, dict) or not all(
        type(count) is int and 0 <= count <= LARGEST_COUNT for count in sizes.values()
    ):
        raise InputError(f'{name} must map shards to numbers of images, {{"shard-000.tar": 1000}}; fix or remove it')
    return sizes


def count_shard(url: str) -> int:
    """Count a shard's images by its headers; one that is cut off counts."""
    count = 0
    try:
        for _ in image_members(url, streaming=False):
            count += 1
    except Exception as error:  # a damaged shard makes its parser raise anything at all
        if not count:
            raise InputError(
                f"--data_path {url} cannot be read: {first_line(error)}; fix it or leave it out"
            ) from error
    return count


class Readable(Protocol):
    """What bytes come from."""

    def read(self, size: int, /) -> bytes: ...


class Counted:
    """A stream whose beginning has been read already; counts its bytes."""

    def __init__(self, stream: Readable, start: bytes) -> None:
        self.stream, self.start, self.size = stream, start, 0

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes."""
        content, self.start = self.start[:size], self.start[size:]
        content = content or self.stream.read(size)
        self.size += len(content)
        return content


class Contents:
    """What a stream holds, which may be packed by gzip; ends with an error where that is far more than images can be.

    Also where it is asked for more and more beyond its end: a member's size is only a claim.
    """

    def __init__(self, stream: Readable, start: bytes) -> None:
        self.stream = Counted(stream, start)
        self.file: Readable = self.stream
        if start == GZIP_START:
            self.file = gzip.GzipFile(fileobj=self.stream)  # type: ignore[call-overload]  # needs no more than `read`
        self.size = self.reads_beyond = 0

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes."""
        content = self.file.read(size)
        self.size += len(content)
        if self.size > max(FREE_BYTES, LARGEST_GROWTH * self.stream.size):
            raise tarfile.ReadError(f"it unpacks to more than {LARGEST_GROWTH} times its size")
        self.reads_beyond += not content
        if self.reads_beyond > READS_BEYOND:
            raise tarfile.ReadError("unexpected end of data")
        return content


class Header(tarfile.TarInfo):
    """A member's header; one that takes more time or memory to read than an image's can need ends its shard."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "Header":
        member = super().frombuf(buf, encoding, errors)
        if member.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError(f"{member.name} is sparse")
        if member.size < 0 or (member.type in LONG_HEADERS and member.size > LARGEST_HEADER):
            raise tarfile.ReadError(f"it has a header of {member.size} bytes")
        return member

    def _proc_gnusparse_10(self, *_: object) -> NoReturn:  # its map would be read whole
        raise tarfile.ReadError(f"{self.name} is sparse")


@contextmanager
def open_tar(url: str, streaming: bool) -> Iterator[tarfile.TarFile]:
    """Open a shard, packed by gzip or not; a plain local one that need not be streamed is searched by its headers."""
    stream = gopen(url)
    try:
        start = stream.read(len(GZIP_START))
        if start != GZIP_START and not streaming and not isinstance(stream, Pipe):
            stream.seek(0)
            with tarfile.open(fileobj=stream, mode="r:", tarinfo=Header) as archive:
                yield archive
            return
        contents = Contents(stream, start)
        with tarfile.open(fileobj=contents, mode="r|", tarinfo=Header) as archive:  # type: ignore[call-overload]  # likewise
            yield archive
    finally:
        with suppress(OSError):  # a command that could not write all that it had to
            stream.close()


def image_members(url: str, streaming: bool) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Headers of a shard's images, in its order, each with the archive; raises anything if the shard is damaged.

    A sparse member, whose holes would be read out as zeros, ends the shard: its size says nothing of what lies behind.
    """
    with open_tar(url, streaming) as archive:
        for member in archive:
            if member.issparse():
                raise tarfile.ReadError(f"{member.name} is sparse")
            if member.size < 0:  # by attributes; the next header would be looked for before this one
                raise tarfile.ReadError(f"{member.name} has {member.size} bytes")
            if is_image(member):
                yield archive, member
            vars(archive)["members"] = []  # or it would remember them all


def is_image(member: tarfile.TarInfo) -> bool:
    """Whether a member of a shard is an image, and not hidden or, by WebDataset's rule, metadata."""
    path = PurePosixPath(member.name)
    is_hidden = any(part.startswith(".") or (part.startswith("__") and part.endswith("__")) for part in path.parts)
    return member.isreg() and not is_hidden and sar_image.is_image_name(path.name)


def stream_images(url: str) -> Iterator[tuple[str, bytes]]:
    """Names and contents of a shard's images, in its order; raises anything if the shard is damaged."""
    for archive, member in image_members(url, streaming=True):
        if file := archive.extractfile(member):
            yield member.name, read_member(member, file)


def read_member(member: tarfile.TarInfo, file: IO[bytes]) -> bytes:
    """Read an image of a shard; nothing, which no image is, where its head promises more than an image can need."""
    return b"" if member.size > sar_image.BYTES_OF_A_PIXEL * sar_image.max_pixels() else file.read()


class ShardImages(IterableDataset[Sample]):
    """Images of shards, a number of whole batches in each epoch and process; an `ImageSource`.

    An epoch puts the shards in a random order and deals each process, and in it each loader worker, one run of
    consecutive images; a worker mixes them chunk by chunk. The order follows from the seed, the epoch, and the numbers
    of processes, workers and images of a batch; so an epoch can be entered at any batch. Crops follow from seed, epoch
    and image alone.

    An image's index is its number in the shards as listed. An image that cannot be read is replaced by another one of
    its chunk, and marked until the epoch ends: networks fail for a while.

    Args:
        urls: of the shards.
        counts: images of each.
        input_size: side S in pixels.
        seed: decides order and augmentation.
        max_bad: share of unreadable images that is tolerated.
        reading: how images are read.
        on_device: leave the augmentation to the device, see `ImageSource`.
        batch_size: images per batch of one process.
        rank: of this process.
        world_size: processes.

    """

    sampler: Sampler[int] | None = None  # it deals its images out itself

    def __init__(
        self,
        urls: list[str],
        counts: list[int],
        input_size: int,
        seed: int,
        max_bad: float,
        *,
        reading: Reading = AS_DEFAULT,
        on_device: bool,
        batch_size: int,
        rank: int,
        world_size: int,
    ) -> None:
        self.urls, self.counts = urls, counts
        self.starts = [0, *accumulate(counts)]  # index of each shard's first image, and N
        self.input_size, self.on_device, self.seed = input_size, on_device, seed
        self.reading = reading
        self.batch_size, self.rank, self.world_size = batch_size, rank, world_size
        self.batches = len(self) // world_size // batch_size
        self.augmentation = Augmentation(input_size, seed, on_device)
        self.bad_images = BadImages(len(self), max_bad)
        # shared memory: loader workers outlive an epoch
        self.position = torch.zeros(2, dtype=torch.int64).share_memory_()  # epoch, first batch
        self.torn = torch.zeros(len(urls), dtype=torch.bool).share_memory_()  # shards that have been named

    def __len__(self) -> int:
        return self.starts[-1]

    @property
    def bad(self) -> torch.Tensor:
        """Bool [N]: the images that are known to be unreadable."""
        return self.bad_images.flags

    def start(self, epoch: int, first_batch: int = 0) -> None:
        """Choose the epoch and the number of its first batch."""
        self.position.copy_(torch.tensor([epoch, first_batch]))
        self.bad.zero_()

    def __iter__(self) -> Iterator[Sample]:
        epoch, first = self.position.tolist()
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        # lane k makes batches k, k + workers, ...; DataLoader asks worker 0 first, for batch `first`
        lane = (worker + first) % workers
        lanes = [len(range(k, self.batches, workers)) for k in range(workers)]  # batches of each
        start = self.rank * (len(self) // self.world_size) + sum(lanes[:lane]) * self.batch_size
        stop = start + lanes[lane] * self.batch_size
        skipped = len(range(lane, first, workers)) * self.batch_size

        chunk = max(1, CHUNK_IMAGES // self.batch_size) * self.batch_size
        begin = start + skipped // chunk * chunk
        stream = self.stream(epoch, begin, stop)
        for position in range(begin, stop, chunk):
            images = list(islice(stream, chunk))
            order = np.random.default_rng(derived_seed(CHUNK, self.seed, epoch, position)).permutation(len(images))
            images = [images[i] for i in order]
            for number in range(max(0, start + skipped - position), len(images)):
                yield self.augmentation.sample(epoch, images[number][0], self.decode(images, number))

    def stream(self, epoch: int, start: int, stop: int) -> Iterator[tuple[int, str, bytes | None]]:
        """Index, name and content of the images at these positions of an epoch's shards."""
        order = np.random.default_rng(derived_seed(SHARDS, self.seed, epoch)).permutation(len(self.urls)).tolist()
        begin = 0  # position of the shard
        for shard in order:
            first, last = max(start - begin, 0), min(stop - begin, self.counts[shard])
            if first < last:
                yield from self.stream_shard(shard, first, last)
            begin += self.counts[shard]

    def stream_shard(self, shard: int, first: int, stop: int) -> Iterator[tuple[int, str, bytes | None]]:
        """Index, name and content of images first..stop - 1 of a shard; what is not there is marked, and None."""
        url, start, number = self.urls[shard], self.starts[shard], 0
        cause = ""
        try:
            for name, content in islice(stream_images(url), stop):
                if number >= first:
                    yield start + number, name, content
                number += 1
        except InputError:  # of a setting
            raise
        except Exception as error:  # a damaged shard makes its parser raise anything at all
            cause = f": {first_line(error)}"
        if number < stop:
            self.bad[start + max(number, first) : start + stop] = True
            if not self.torn[shard]:
                self.torn[shard] = True
                fault = f"is cut off after {number} images" if number else "cannot be read"
                print(f"skipped: {url} {fault}{cause}", file=sys.stderr, flush=True)
        for missing in range(max(number, first), stop):
            yield start + missing, "", None

    def decode(self, images: list[tuple[int, str, bytes | None]], number: int) -> Image:
        """Decode the image at a place of a chunk, else the nearest behind it that can be decoded, else before it.

        Returns:
            uint8 [H, W]; blank if none can, for which `check_bad` ends the run.

        """
        for place in (*range(number, len(images)), *reversed(range(number))):
            index, name, content = images[place]
            if content is not None:
                try:
                    return self.reading.decode(name, content)
                except sar_image.ImageError as error:
                    self.bad_images.mark(index, f"{self.urls[self.shard(index)]}: {error}")
                    images[place] = index, name, None
        return np.zeros((self.input_size, self.input_size), np.uint8)

    @property
    def identity(self) -> str:
        """Name the shards and their numbers of images, wherever they are."""
        return listed(f"{PurePosixPath(url).name} {count}" for url, count in zip(self.urls, self.counts, strict=True))

    def shard(self, index: int) -> int:
        """Find the number of the shard that holds an image."""
        return bisect_right(self.starts, index) - 1

    def name(self, index: int) -> str:
        """Name the shard of an image and its number in it, from 0."""
        shard = self.shard(index)
        return f"{self.urls[shard]}: image {index - self.starts[shard]}"

    def examples(self, count: int) -> list[Image]:
        """Up to `count` images, always the same ones, uint8 [H, W]; from as few shards as will do.

        Raises:
            InputError: if there is none.

        """
        found: list[Image] = []
        for url, size in zip(self.urls, self.counts, strict=True):
            chosen = np.random.default_rng(0).permutation(size)[: count - len(found)].tolist()
            try:
                for number, (name, content) in enumerate(islice(stream_images(url), max(chosen, default=-1) + 1)):
                    if number in chosen:
                        with suppress(sar_image.ImageError):
                            found.append(self.reading.decode(name, content))
            except InputError:
                raise
            except Exception:  # likewise; training tells of it
                continue
        if not found:
            raise InputError(f"--data_path {self.urls[0]}: no image in the shards can be read; fix them")
        return found

    def check_bad(self) -> None:
        """Raise InputError if more images than `max_bad` allows could not be read in this epoch."""
        self.bad_images.check(self.name)
