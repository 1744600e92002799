"""Images decoded once, kept as one memory-mapped file that all processes of a machine share.

A folder for each set of source files, and each way to read them, holds
    images.u8     the pixels of all images, one after the other
    index.npz     where each begins, its height and width, its CRC-32, and why some could not be read
    index.sha256  of index.npz
"""

import functools
import hashlib
import shutil
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from saratrx import sar_image
from saratrx.cores import available
from saratrx.errors import InputError, first_line
from saratrx.loader_workers import end_with_parent
from saratrx.reading import AS_DEFAULT, Reading
from saratrx.reporting import get_logger

log = get_logger(__name__)

FORMAT = 2  # another number for another layout
PROGRESS_SECONDS = 10


class ImageCache:
    """The cached images of a list of files, in its order.

    Attributes:
        reasons: why images could not be read when the cache was built, by index.

    Raises:
        ValueError: if what lies in the folder is not whole.

    """

    def __init__(self, folder: Path, paths: list[str]) -> None:
        self.folder, self.paths = folder, paths
        self.pixels_file = folder / "images.u8"
        content = (folder / "index.npz").read_bytes()
        if hashlib.sha256(content).hexdigest() != (folder / "index.sha256").read_text(encoding="ascii"):
            raise ValueError("its index is damaged")
        with np.load(folder / "index.npz", allow_pickle=False) as index:
            self.offsets, self.heights, self.widths = index["offsets"], index["heights"], index["widths"]
            self.checksums = index["checksums"]
            self.reasons = dict(zip(index["unread"].tolist(), index["reasons"].tolist(), strict=True))
        size = int((self.heights * self.widths).sum())
        if self.pixels_file.stat().st_size != size:
            raise ValueError(f"{self.pixels_file.name} has {self.pixels_file.stat().st_size} bytes, not {size}")
        self.checked = np.zeros(len(paths), bool)  # by this process

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "pixels"}

    @functools.cached_property
    def pixels(self) -> NDArray[np.uint8]:
        """All pixels, mapped when a process first needs them; private to it should it write, which nothing does."""
        return np.memmap(self.pixels_file, np.uint8, mode="c").view(np.ndarray)

    def read(self, index: int) -> NDArray[np.uint8]:
        """Read the image at `index`, uint8 [H, W], a view of the file.

        Raises:
            ImageError: if it could not be read when the cache was built, or has changed in the cache.

        """
        if index in self.reasons:
            raise sar_image.ImageError(self.reasons[index])
        height, width = int(self.heights[index]), int(self.widths[index])
        start = int(self.offsets[index])
        pixels = self.pixels[start : start + height * width]
        if not self.checked[index]:
            if zlib.crc32(pixels.data) != self.checksums[index]:
                raise sar_image.ImageError(
                    f"{self.paths[index]} in cache {self.pixels_file}: damaged; remove the folder, it is built anew"
                )
            self.checked[index] = True
        return pixels.reshape(height, width)


def open_cache(folder: str | Path, paths: list[str], reading: Reading = AS_DEFAULT) -> ImageCache:
    """Open the cache of these files under a folder; build it if there is none for them as they are now.

    Of many processes of a machine one builds, and the others wait.

    Args:
        folder: holds a cache for each list of files.
        paths: of image files; a changed size, time or inode makes another cache.
        reading: how they are read; so does another way.

    Raises:
        InputError: if the folder cannot be written to, or has no room.

    """
    parent = Path(folder)
    cache_folder = parent / source_identity(paths, reading)
    with locked(parent):
        try:
            return ImageCache(cache_folder, paths)
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            log.info("cache: %s is not whole and is built anew: %s", cache_folder, error)
        for leftover in parent.glob("*.building"):  # of a build that was killed: its lock is gone
            shutil.rmtree(leftover)
        unfinished = cache_folder.with_suffix(".building")
        unfinished.mkdir()
        try:
            build(unfinished, paths, reading)
            if cache_folder.exists():
                shutil.rmtree(cache_folder)
            unfinished.rename(cache_folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)  # gone if all went well
        return ImageCache(cache_folder, paths)


def source_identity(paths: list[str], reading: Reading) -> str:
    """Name these files as they are now and are read, by 32 hexadecimal digits."""
    digest = hashlib.sha256(f"format {FORMAT} {reading}".encode(errors="surrogateescape"))
    for path in paths:
        try:
            status = Path(path).stat()
            # the inode and the time of the last change of it: a copy can have the size and the time of another image
            state = f"{status.st_size} {status.st_mtime_ns} {status.st_ino} {status.st_ctime_ns}"
        except OSError:
            state = "unreadable"
        digest.update(f"{Path(path).absolute()}\0{state}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which ends with the process and its decoders; the folder is made if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "lock", fallback_to_soft=False)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            log.info("cache: waiting for another process that builds in %s", folder)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()
    except OSError as error:
        raise InputError(f"--cache {folder} cannot be used: {first_line(error)}; choose another folder") from error


class Decoded(Dataset[tuple[NDArray[np.uint8], int] | str]):
    """Images [H, W] with their CRC-32, or the reason why there is none."""

    def __init__(self, paths: list[str], reading: Reading) -> None:
        self.paths, self.reading = paths, reading

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], int] | str:
        try:
            image = np.ascontiguousarray(self.reading.read(self.paths[index]))
        except sar_image.ImageError as error:
            return str(error)
        return image, zlib.crc32(image.data)


def build(folder: Path, paths: list[str], reading: Reading) -> None:
    """Decode all images into a folder, with a process on each core.

    Raises:
        InputError: if they cannot be written; says how many bytes are needed, by those written so far.

    """
    begun = time.perf_counter()
    heights, widths, checksums = (np.zeros(len(paths), np.int64) for _ in range(3))
    reasons: dict[int, str] = {}
    done = 0
    try:
        with (folder / "images.u8").open("wb") as file:
            for done, result in enumerate(decoded(paths, reading), start=1):
                if isinstance(result, str):
                    reasons[done - 1] = result
                else:
                    image, checksums[done - 1] = result
                    heights[done - 1], widths[done - 1] = image.shape
                    file.write(image.data)
        sizes = heights * widths
        np.savez(
            folder / "index.npz",
            offsets=sizes.cumsum() - sizes,
            heights=heights,
            widths=widths,
            checksums=checksums,
            unread=np.array(list(reasons), np.int64),
            reasons=np.array(list(reasons.values()), np.str_),
        )
        index_hash = hashlib.sha256((folder / "index.npz").read_bytes()).hexdigest()
        (folder / "index.sha256").write_text(index_hash, encoding="ascii")
    except OSError as error:
        needed = int((heights * widths).sum() * len(paths) / max(done, 1))
        raise InputError(
            f"--cache {folder.parent} cannot be written to: {first_line(error)}; make room for the cache, about "
            f"{needed} bytes, or choose another folder"
        ) from error
    log.info(
        f"cache: {len(paths):,} images, {sizes.sum() / 1e9:.2f} GB, in {folder.with_suffix('')}, built in "
        f"{time.perf_counter() - begun:.0f} s"
    )


def decoded(paths: list[str], reading: Reading) -> Iterator[tuple[NDArray[np.uint8], int] | str]:
    """Decode all files as `Decoded` does, in order; say now and then how many are done."""
    cores = available()
    generator = torch.Generator()  # its own, or it would draw from the global one
    loader = DataLoader(
        Decoded(paths, reading),
        batch_size=16,
        num_workers=cores,
        collate_fn=list,
        generator=generator,
        worker_init_fn=end_with_parent,
    )
    begun = last_line = time.perf_counter()
    done = 0
    for batch in loader:
        yield from batch
        done += len(batch)
        now = time.perf_counter()
        if now - last_line > PROGRESS_SECONDS:
            last_line = now
            log.info(f"cache: {done:,} of {len(paths):,} images, {done / (now - begun):,.0f} images/s")
