"""`SarImage`: what every reader of a SAR file gives, and what is said of a file's channels."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from saratrx.errors import InputError, first_line
from saratrx.grey_scale import Values, doubts, magnitude, sample_step, strips
from saratrx.sar_files.limits import FormatError, ImageError, check_pixels

Window = tuple[tuple[int, int], tuple[int, int]]  # rows from, to (not included); columns likewise
SPAN = "span"  # all channels as one: the root of the sum of their squared magnitudes
MAX = "max"  # likewise: the largest of their magnitudes


class SarImage(ABC):
    """An open SAR file: its facts now, its values window by window where the format allows.

    Args:
        name: names it in errors.
        file: its content, which is closed with the image.

    Attributes:
        shape: (H, W), in pixels.
        channels: names of the polarisations or bands, at least one.
        dtypes: of the values of each channel in the file; complex64 where they are complex whole numbers.
        pixel_spacing: of rows and of columns, in metres; None where the file does not say.
        sensor: as the file names it, or None.
        geolocation: plain facts about the place on the map, or None.
        metadata: other plain facts that the file holds.
        is_no_data_declared: whether the file says which values are no data; these are read as NaN.
        block_rows: rows that are stored together, so that windows of a multiple of them cost least.

    """

    shape: tuple[int, int]
    channels: tuple[str, ...]
    dtypes: tuple[np.dtype[Any], ...]
    pixel_spacing: tuple[float, float] | None = None
    sensor: str | None = None
    geolocation: dict[str, Any] | None = None
    is_no_data_declared = False
    block_rows = 1

    def __init__(self, name: str | Path, file: BinaryIO) -> None:
        self.name, self.file = name, file
        self.metadata: dict[str, Any] = {}

    @abstractmethod
    def band(self, number: int, window: Window) -> Values:
        """Read a window of the channel of that number, from 0: [rows, columns], real or complex."""

    def band_sample(self, number: int) -> Values:
        """Read every k-th row and column of a channel, so that at most `grey_scale.SAMPLE` of each are left."""
        (height, width), step = self.shape, sample_step(self.shape)
        parts = [
            self.band(number, ((rows.start, rows.stop), (0, width)))[::step, ::step]
            for rows in strips(height, width, multiple_of=step)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def __enter__(self) -> "SarImage":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the first channel, which most often is that of all."""
        return self.dtypes[0]

    @property
    def is_complex(self) -> bool:
        """Whether values have a phase."""
        return self.dtype.kind == "c"

    @property
    def warnings(self) -> list[str]:
        """Sentences on what makes it doubtful that the values are amplitudes, see `grey_scale.doubts`."""
        several = len(self.channels) > 1
        return [
            f"{name}: {doubt}" if several else doubt
            for number, name in enumerate(self.channels)
            for doubt in doubts(self.sample(number), self.dtypes[number])
        ]

    def is_eight_bit(self, channel: str | int | None = None) -> bool:
        """Whether what is read are grey values already."""
        with refused(self.name):
            if self.takes_all(channel):
                return channel == MAX and set(self.dtypes) == {np.dtype(np.uint8)}
            return self.dtypes[self.number_of(channel)] == np.uint8

    def takes_all(self, channel: str | int | None) -> bool:
        """Whether all channels are asked for, as one: their span, or the largest."""
        return channel in (SPAN, MAX) and channel not in self.channels and len(self.channels) > 1

    def read(self, window: Window | None = None, channel: str | int | None = None) -> Values:
        """Read values, [H, W], real or complex; what is declared as no data is NaN.

        Args:
            window: ((top, bottom), (left, right)) in pixels, the last ones not included; None is the whole image.
            channel: its name, or its number from 0; of all channels, "span" is the root of the sum of their squared
                magnitudes, and "max" the largest magnitude at each pixel, no data where any has none. Of a single
                channel both are the channel itself, and so is None.

        Raises:
            ImageError: naming the file, if it is torn, has no such channel, or several and none was chosen.

        """
        height, width = self.shape
        (top, bottom), (left, right) = window = window or ((0, height), (0, width))
        if not (0 <= top < bottom <= height and 0 <= left < right <= width):
            raise ImageError(f"{self.name} has {height} x {width} pixels: no window {window}")
        check_pixels(self.name, bottom - top, right - left)
        return self.of_channel(channel, lambda number: self.band(number, window))

    def sample(self, channel: str | int | None = None) -> Values:
        """Read at most 2,048 rows and columns, evenly spread: what a grey scale is taken from."""
        return self.of_channel(channel, self.band_sample)

    def of_channel(self, channel: str | int | None, read: Callable[[int], Values]) -> Values:
        """Read the channel that was asked for, or all as one."""
        with refused(self.name):
            if not self.takes_all(channel):
                return read(self.number_of(channel))
            magnitudes = (magnitude(read(number)) for number in range(len(self.channels)))
            if channel == MAX:
                return reduce(np.maximum, magnitudes)
            return np.sqrt(sum(np.square(values.astype(np.float64)) for values in magnitudes))

    def number_of(self, channel: str | int | None) -> int:
        """Give the number, from 0, of a channel."""
        count, names = len(self.channels), ", ".join(self.channels)
        if channel is None and count > 1:
            raise FormatError(self.several())
        if channel in self.channels:
            return self.channels.index(str(channel))
        if channel in (None, SPAN, MAX):
            return 0
        if str(channel).isascii() and str(channel).isdigit() and int(channel) < count:
            return int(channel)
        raise FormatError(f"has no channel {channel}; it has {names}, or 0 to {count - 1}, or {SPAN}, or {MAX}")

    def several(self) -> str:
        """Say what to do about several channels."""
        return (
            f"has {len(self.channels)} channels, not one: {', '.join(self.channels)}; choose one by its name, or "
            f"{SPAN}, {MAX}, or save the one to be used on its own"
        )


@contextmanager
def refused(name: str | Path) -> Iterator[None]:
    """Turn whatever a parser raises into an ImageError that names the file; a damaged file makes it raise anything."""
    try:
        yield
    except InputError:
        raise
    except FormatError as error:
        raise ImageError(f"{name} {error}") from error
    except Exception as error:
        raise ImageError(f"{name} cannot be read as an image: {first_line(error)}") from error


def size_of(file: BinaryIO) -> int:
    """Give the number of bytes of an open file, which stays where it is."""
    place = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(place)
    return size


def cut(values: Values, window: Window) -> Values:
    """Give a window of an image in memory."""
    (top, bottom), (left, right) = window
    return values[top:bottom, left:right]
