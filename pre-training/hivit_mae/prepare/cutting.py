"""Images cut into windows, and which windows show nothing but background."""

import hashlib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hivit_mae.data.reading import doubts_of
from saratrx.grey_scale import Grey, GreyScale
from saratrx.reading import Reading
from saratrx.sar_files.image import SarImage, refused

EACH = "each"  # channel of an image becomes an image of its own
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
    """One channel of an open image, read window by window, with one grey scale for all of it.

    Attributes:
        remap: how its amplitudes become 8 bits, with what is black and white; "none" if they have them.
        doubt: what makes it doubtful that they are amplitudes, of those with more than 8 bits; else "".

    Raises:
        ImageError: if it cannot be read, or has no such channel.

    """

    def __init__(self, image: SarImage, reading: Reading) -> None:
        self.image, self.channel = image, reading.channel
        self.height, self.width = image.shape
        self.scale: GreyScale | None = None
        self.remap, self.doubt = "none", ""
        if not image.is_eight_bit(reading.channel):
            with refused(image.name):
                values = image.sample(reading.channel)  # once, for the scale and the doubts
                declared = image.is_no_data_declared
                self.scale = GreyScale.of(values, is_no_data_declared=declared, remap=reading.remap)
            self.remap = f"{reading.remap} {self.scale.black:g} to {self.scale.white:g}"
            self.doubt = "; ".join(doubts_of(image, reading.channel, values))

    def read(self, window: Window) -> Grey:
        """Read a window, uint8 [height, width]; raises ImageError."""
        rows = window.top, window.top + window.height
        values = self.image.read((rows, (window.left, window.left + window.width)), self.channel)
        return np.ascontiguousarray(values) if self.scale is None else self.scale.grey(values)


def readings(image: SarImage, reading: Reading) -> list[Reading]:
    """Give how each channel that is asked for is read: one, or with EACH all of them, by their numbers."""
    if reading.channel != EACH or EACH in image.channels:
        return [reading]
    return [Reading(reading.remap, str(number)) for number in range(len(image.channels))]


def windows(height: int, width: int, side: int, overlap: int, middle: int = 0) -> list[Window]:
    """Cut an image: one window if it is not large, else the fewest that overlap by `overlap` or more, evenly spread.

    Args:
        height: of the image, in pixels; width likewise.
        width: of the image.
        side: of a window, at most.
        overlap: of neighbours, at least.
        middle: side of the middle that alone is cut; 0: all. What is smaller is taken whole.

    """
    tall, wide = (min(length, middle or length) for length in (height, width))
    top, left = (height - tall) // 2, (width - wide) // 2
    if max(tall, wide) <= LARGE * side:
        return [Window(top, left, tall, wide)]
    return [
        Window(top + down, left + right, min(side, tall), min(side, wide))
        for down in starts(tall, side, overlap)
        for right in starts(wide, side, overlap)
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
