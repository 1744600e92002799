"""Images cut into windows, and which windows show nothing but background."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from saratrx import sar_image
from saratrx.grey_scale import Grey
from saratrx.sar_image import ImageError
from saratrx.tiff import Tiff

LARGE = 1.5  # times the window: an image with a longer side is cut; others are kept whole
CELL, GUARD, RING = 5, 21, 41  # px a side: what may be a target, what may be part of it, and its background around
LEAST_CONTRAST = 2.5  # of a cell's mean to that of its background; speckle of one look at 1.5 px stays below, 2.1
LEAST_SATURATED = 10  # pixels of a cell's 25; such speckle has 8


@dataclass(frozen=True)
class Window:
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int


class Picture:
    """An image file that is read window by window: TIFF from the disk, others held in memory with 8 bits.

    Attributes:
        remap: how its amplitudes became 8 bits; "none" if they had them.

    """

    def __init__(self, path: Path, source: Tiff | Grey) -> None:
        self.path, self.source = path, source
        if isinstance(source, Tiff):
            self.height, self.width = source.height, source.width
            scale = source.scale
            self.remap = "none" if scale is None else f"linear {scale.black:g} to {scale.white:g}"
        else:
            self.height, self.width = source.shape
            self.remap = "none" if has_eight_bits(path) else "linear"

    def read(self, window: Window) -> Grey:
        """Read a window, uint8 [height, width]; raises ImageError."""
        rows = slice(window.top, window.top + window.height)
        columns = slice(window.left, window.left + window.width)
        if not isinstance(self.source, Tiff):
            return np.ascontiguousarray(self.source[rows, columns])
        try:
            return self.source.grey(window=((rows.start, rows.stop), (columns.start, columns.stop)))
        except ValueError as error:
            raise ImageError(f"{self.path} {error}") from error


@contextmanager
def open_picture(path: Path) -> Iterator[Picture]:
    """Open an image file; raises ImageError."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        yield Picture(path, sar_image.read(path))
        return
    sar_image.check_file(path)
    with sar_image.open_tiff(path, path) as tiff:
        try:
            picture = Picture(path, tiff)
        except ValueError as error:
            raise ImageError(f"{path} {error}") from error
        yield picture


def has_eight_bits(path: Path) -> bool:
    """Whether a file that is no TIFF is known to hold 8 bits, which nothing remaps."""
    kind = path.suffix.lower()
    if kind == ".npy":
        return np.lib.format.open_memmap(path, mode="r").dtype == np.uint8
    if kind == ".png":
        with path.open("rb") as file:
            return file.read(25)[24] <= 8  # the place of its depth in bits
    return kind in (".jpg", ".jpeg", ".bmp")


def windows(height: int, width: int, side: int, overlap: int) -> list[Window]:
    """Cut an image: one window if it is not large, else the fewest that overlap by `overlap` or more, evenly spread."""
    if max(height, width) <= LARGE * side:
        return [Window(0, 0, height, width)]
    return [
        Window(top, left, min(side, height), min(side, width))
        for top in starts(height, side, overlap)
        for left in starts(width, side, overlap)
    ]


def starts(length: int, side: int, overlap: int) -> list[int]:
    """Place windows along an axis."""
    if length <= side:
        return [0]
    count = -(-(length - overlap) // (side - overlap))
    return np.linspace(0, length - side, count).round().astype(int).tolist()


def is_background(image: Grey) -> bool:
    """Whether nothing stands out: no cell of large contrast, and none that is saturated.

    The second is for remapped scenes: where few ships lie in much sea, they and the brightest sea are clipped alike,
    which leaves little contrast, but speckle saturates single pixels.
    """
    is_clipped = box_sum((image == 255).astype(np.float32), CELL).max() >= LEAST_SATURATED
    return not is_clipped and contrast(image) < LEAST_CONTRAST


def contrast(image: Grey) -> float:
    """Measure how far anything stands out: the largest ratio of a cell's mean amplitude to that of the ring around it.

    As in CFAR detectors (Novak, Owirka and Netishen, Lincoln Laboratory Journal 1993), but with a ratio of means, which
    needs no model of the clutter. Zeros are no data and do not count in rings; one grey level is added to these, so
    that rounding in dark sea does not count.
    """
    values = image.astype(np.float32)
    seen = (image > 0).astype(np.float32)
    ring = box_sum(values, RING) - box_sum(values, GUARD)
    ring_pixels = box_sum(seen, RING) - box_sum(seen, GUARD)
    background = ring / np.maximum(ring_pixels, 1) + 1
    return float((box_sum(values, CELL) / CELL**2 / background)[ring_pixels > 0].max(initial=0))


def box_sum(values: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Add up the values around each pixel; there is nothing beyond the border."""
    return cv2.boxFilter(values, -1, (side, side), normalize=False, borderType=cv2.BORDER_CONSTANT)


def is_kept_all_the_same(place: str, share: float) -> bool:
    """Draw, for a window that shows only background, whether it is kept; always alike for a place."""
    digest = hashlib.sha256(place.encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64
