"""The remaps from amplitudes of any scale to 8 bits; the default is linear, with the brightest 0.5 % saturated."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]
Values = NDArray[Any]
Remap = Literal["percentile", "linear", "sqrt", "decibel", "log", "density", "pedf"]
REMAPS: tuple[Remap, ...] = get_args(Remap)

CLIPPED_PERCENT = 0.5  # of the pixels are saturated by the remap: amplitude is heavy-tailed
SAMPLE = 2048  # px a side, at most, of what the grey scale of an image is taken from
FILL_SHARE = 0.01  # of exact zeros from which on they are what the radar did not see
DECIBELS = 50  # from white down to black, by the remap `decibel`
# Of the density remap: K. Mangis, "Softcopy Display of SAR Data", 1994, as in NGA's toolboxes. 0.8 times the mean
# becomes 30, and 40 times that 255.
DENSITY_OF_LOW, LOW_OF_MEAN, HIGH_OF_LOW = 30, 0.8, 40
SATURATED_SHARE = 0.01  # of pixels at the largest value of their type, above which they are not all amplitudes
STRIP_PIXELS = 4_000_000  # that are remapped at once: in float64 eight times the bytes of the result


def density(amplitude: Values) -> Values:
    """Density, 1 for white: linear in the logarithm; 40 times darker is 30 of 255, and still darker ends at 0."""
    return 1 + (1 - DENSITY_OF_LOW / 255) * np.log10(amplitude) / np.log10(HIGH_OF_LOW)


def pedf(amplitude: Values) -> Values:
    """Density (piecewise extended density format) whose part above 128 of 255 rises half as steep."""
    found, middle = density(amplitude), 128 / 255
    return np.where(found > middle, (found + middle) / 2, found)


# amplitude in [0, 1], 1 for white -> grey in [0, 1]; below 0 it is black
CURVES: dict[Remap, Callable[[Values], Values]] = {
    "sqrt": np.sqrt,
    "decibel": lambda amplitude: 1 + 20 / DECIBELS * np.log10(amplitude),
    "log": lambda amplitude: np.log2(1 + amplitude),
    "density": density,
    "pedf": pedf,
}


@dataclass(frozen=True)
class GreyScale:
    """What is black, what is white, and how grey rises between them.

    percentile  linear; the brightest 0.5 % are white. Black is 0 for values that are nowhere negative (amplitude,
                intensity, counts), else the darkest 0.5 % (decibels)
    linear      from 0 to the largest amplitude
    sqrt        the square root, log: log2(1 + amplitude / white), decibel: the last 50 dB below white; all three
                with the white of percentile
    density     NGA's remap of that name, from the mean; pedf: its piecewise extended form

    All but percentile take negative values, which no amplitude has, for 0. No data does not count and becomes black:
    what is not finite, and exact zeros where products fill with them what the radar did not see, that is where they
    are 1 % of the pixels or more and nothing else is declared as no data.

    Attributes:
        black: amplitude that becomes 0.
        white: amplitude that becomes 255; not above black if all are alike, which then are black.
        is_zero_no_data: whether exact zeros are.
        remap: how grey rises.

    """

    black: float
    white: float
    is_zero_no_data: bool
    remap: Remap = "percentile"

    @classmethod
    def of(cls, values: Values, *, is_no_data_declared: bool = False, remap: Remap = "percentile") -> "GreyScale":
        """Find the scale of an image.

        Args:
            values: real or complex, any shape; no data that was declared is NaN.
            is_no_data_declared: then zeros are amplitudes like others.
            remap: one of REMAPS.

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
        if remap != "percentile":
            amplitude = amplitude.clip(0)
        black, white = np.percentile(amplitude, (CLIPPED_PERCENT, 100 - CLIPPED_PERCENT))
        if amplitude.min() >= 0:
            black = 0.0
        if white <= black or remap == "linear":  # nearly all pixels are alike: what stands out must stay visible
            white = amplitude.max()
        if remap in ("density", "pedf"):
            white = HIGH_OF_LOW * LOW_OF_MEAN * amplitude.mean()
        return cls(float(black), float(white), is_zero_no_data, remap)

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
        if self.remap in CURVES:
            with np.errstate(divide="ignore"):  # the logarithm of 0 ends at black
                scaled = 255 * CURVES[self.remap]((scaled / self.white).clip(0, 1))
        else:
            scaled *= 255 / (self.white - self.black)
        return np.rint(scaled.clip(0, 255, out=scaled), out=scaled).astype(np.uint8)


def to_uint8(values: Values, remap: Remap = "percentile") -> Grey:
    """Remap amplitudes of any scale to uint8, see `GreyScale`, whose scale comes from at most 2,048 rows and columns.

    Args:
        values: [H, W] or [N], real or complex.
        remap: one of REMAPS.

    Raises:
        ValueError: if no value is finite.

    """
    scale = GreyScale.of(sample(values), remap=remap)
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


def doubts(values: Values, dtype: np.dtype[Any] | None = None) -> list[str]:
    """Say, in a sentence each, what makes it doubtful that values are amplitudes.

    Args:
        values: any shape; complex ones are beyond doubt.
        dtype: of the values as they were stored (default: as they are).

    """
    dtype = dtype or values.dtype
    seen = values[np.isfinite(values)]
    if dtype.kind not in "uif" or not seen.size:
        return []
    said = []
    negative = float((seen < 0).mean())
    if negative > 0.5:
        said.append(
            f"{negative:.0%} of the values are negative, as decibels are, not amplitudes; only the remap percentile "
            "suits them, or save them as amplitudes, 10^(dB / 20)"
        )
    if dtype.kind != "f":
        largest = np.iinfo(dtype).max
        saturated = float((seen == largest).mean())
        if saturated > SATURATED_SHARE:
            said.append(f"{saturated:.1%} of the values are {largest:,}, the largest of {dtype}: they are saturated")
    return said
