"""MSTAR's raw chips: a Phoenix header of text, perhaps a native header, then big-endian magnitudes and phases."""

import re
from pathlib import Path
from typing import BinaryIO

import numpy as np

from saratrx.grey_scale import Values
from saratrx.sar_files.image import SarImage, Window, cut, size_of
from saratrx.sar_files.limits import FormatError, check_pixels

LONGEST_HEADER = 2**20  # bytes; real ones have about 2,000
FIELD = re.compile(r"^[ \t]*(\w+)[ \t]*=[ \t]*(.*?)[ \t\r]*$", re.MULTILINE)
LARGEST_PHASE = 2 * np.pi * 1.001  # rad; some chips count from 0, others from -pi


class MstarChip(SarImage):
    """A chip, complex64 [H, W]: rows are range, columns cross range.

    Attributes:
        magnitude: float32 [H, W], to the bit as in the file.
        phase: float32 [H, W] in rad, likewise.

    """

    dtypes, channels = (np.dtype(np.complex64),), ("magnitude and phase",)

    def __init__(self, name: str | Path, file: BinaryIO) -> None:
        super().__init__(name, file)
        fields = dict(FIELD.findall(file.read(LONGEST_HEADER).decode("latin-1").partition("[EndofPhoenixHeader]")[0]))
        header, rows, columns = (
            number(fields, key) for key in ("PhoenixHeaderLength", "NumberOfRows", "NumberOfColumns")
        )
        begin = header + (number(fields, "native_header_length") if "native_header_length" in fields else 0)
        size, needed = size_of(file), begin + 8 * rows * columns
        if not rows * columns:
            raise FormatError(f"has {rows} x {columns} pixels")
        if size == begin + 4 * rows * columns:
            raise FormatError("is a full MSTAR scene of 16-bit values; only chips of 32-bit values are read")
        if size != needed:
            raise FormatError(
                f"has {size:,} bytes, where its header and {rows} x {columns} pixels need {needed:,}: it is torn"
            )
        check_pixels(name, rows, columns)
        self.shape = rows, columns
        file.seek(begin)
        stored = np.frombuffer(file.read(8 * rows * columns), ">f4").reshape(2, rows, columns)
        if not is_plausible(stored):
            is_swapped = is_plausible(stored.view("<f4"))
            raise FormatError(
                "is little-endian; MSTAR's values are big-endian: swap the bytes of its values"
                if is_swapped
                else "holds no magnitudes and phases of MSTAR: it is damaged"
            )
        self.magnitude, self.phase = stored.astype(np.float32)
        self.values = (self.magnitude * np.exp(1j * self.phase.astype(np.float64))).astype(np.complex64)
        self.sensor = fields.get("SensorName") or None
        self.pixel_spacing = spacing(fields)
        self.metadata = {
            "target": fields.get("TargetType") or None,
            "serial_number": fields.get("TargetSerNum") or None,
            "azimuth": real(fields, "TargetAz"),  # degrees
            "depression": real(fields, "DesiredDepression"),  # degrees
            **fields,
        }

    def band(self, number: int, window: Window) -> Values:
        return cut(self.values, window)


def number(fields: dict[str, str], key: str) -> int:
    """Give a whole number of a header."""
    text = fields.get(key, "")
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise FormatError(f"has no number {key} in its MSTAR header" + (f", but {text[:30]!r}" if text else ""))
    return int(text)


def real(fields: dict[str, str], key: str) -> float | None:
    """Give a number of a header, None if it is not there or none."""
    try:
        found = float(fields[key])
    except (KeyError, ValueError):
        return None
    return found if np.isfinite(found) else None


def spacing(fields: dict[str, str]) -> tuple[float, float] | None:
    """Give the metres from pixel to pixel in range and cross range."""
    found = real(fields, "RangePixelSpacing"), real(fields, "CrossRangePixelSpacing")
    return (found[0], found[1]) if found[0] and found[1] else None


def is_plausible(stored: Values) -> bool:
    """Whether values [2, H, W] can be magnitudes and phases; in the wrong order of bytes they cannot."""
    magnitude, phase = stored
    return bool(np.isfinite(stored).all() and magnitude.min() >= 0 and np.abs(phase).max() <= LARGEST_PHASE)
