"""The one remap from amplitudes of any scale to 8 bits, linear and with the brightest 0.5 % saturated."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]
Values = NDArray[Any]

CLIPPED_PERCENT = 0.5  # of the pixels are saturated by the remap: amplitude is heavy-tailed
SAMPLE = 2048  # px a side, at most, of what the grey scale of an image is taken from
FILL_SHARE = 0.01  # of exact zeros from which on they are what the radar did not see
STRIP_PIXELS = 4_000_000  # that are remapped at once: in float64 eight times the bytes of the result


@dataclass(frozen=True)
class GreyScale:
    """What is black and what is white.

    Black is 0 for values that are nowhere negative (amplitude, intensity, counts), else the darkest 0.5 % (decibels).
    No data does not count and becomes black: what is not finite, and exact zeros where products fill with them what
    the radar did not see, that is where they are 1 % of the pixels or more and nothing else is declared as no data.

    Attributes:
        black: amplitude that becomes 0.
        white: amplitude that becomes 255; not above black if all are alike.
        is_zero_no_data: whether exact zeros are.

    """

    black: float
    white: float
    is_zero_no_data: bool

    @classmethod
    def of(cls, values: Values, *, is_no_data_declared: bool = False) -> "GreyScale":
        """Find the scale of an image.

        Args:
            values: real or complex, any shape; no data that was declared is NaN.
            is_no_data_declared: then zeros are amplitudes like others.

        Raises:
            ValueError: if no value is finite.

        """
        amplitude = magnitude(values)
        amplitude = amplitude[np.isfinite(amplitude)].astype(np.float64)
        if not amplitude.size:
            raise ValueError("has no finite value")
        seen = amplitude[amplitude != 0]
        is_fill = amplitude.size - seen.size >= FILL_SHARE * amplitude.size
        # of 8 bits with a sign, zero is the middle
        is_zero_no_data = is_fill and not is_no_data_declared and values.dtype.itemsize > 1
        if is_zero_no_data and seen.size:
            amplitude = seen
        black, white = np.percentile(amplitude, (CLIPPED_PERCENT, 100 - CLIPPED_PERCENT))
        if amplitude.min() >= 0:
            black = 0.0
        if white <= black:  # nearly all pixels are alike: what stands out must stay visible
            white = amplitude.max()
        return cls(float(black), float(white), is_zero_no_data)

    def grey(self, values: Values) -> Grey:
        """Amplitudes, real or complex, to uint8 of the same shape."""
        amplitude = magnitude(values)
        if self.white <= self.black:
            return np.zeros(amplitude.shape, np.uint8)
        is_seen = np.isfinite(amplitude)
        if self.is_zero_no_data:
            is_seen &= amplitude != 0
        scaled = np.where(is_seen, amplitude, self.black).astype(np.float64)
        scaled -= self.black
        scaled *= 255 / (self.white - self.black)
        return np.rint(scaled.clip(0, 255, out=scaled), out=scaled).astype(np.uint8)


def to_uint8(values: Values) -> Grey:
    """Remap amplitudes of any scale to uint8, see `GreyScale`, whose scale comes from at most 2,048 rows and columns.

    Args:
        values: [H, W] or [N], real or complex.

    Raises:
        ValueError: if no value is finite.

    """
    scale = GreyScale.of(sample(values))
    grey = np.empty(values.shape, np.uint8)
    for rows in strips(len(values), values.size // max(len(values), 1)):
        grey[rows] = scale.grey(values[rows])
    return grey


def sample(values: Values) -> Values:
    """Take every k-th row and column, so that at most SAMPLE of each are left."""
    return values[(slice(None, None, sample_step(values.shape)),) * values.ndim]


def sample_step(shape: tuple[int, ...]) -> int:
    """Give the step at which at most SAMPLE rows and columns are left."""
    return max(1, -(-max(shape) // SAMPLE))


def strips(height: int, width: int, multiple_of: int = 1) -> Iterator[slice]:
    """Cut the rows of an image into strips of about STRIP_PIXELS, each a multiple of some number of rows."""
    rows = max(1, STRIP_PIXELS // max(width, 1) // multiple_of) * multiple_of
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


def magnitude(values: Values) -> Values:
    """Give real values as they are, and the magnitude of complex ones."""
    return np.abs(values) if values.dtype.kind == "c" else values
