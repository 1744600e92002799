"""NumPy's `.npy` and `.npz`, without unpickling, and which of several arrays in a file are the image."""

import zipfile
from contextlib import suppress
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from saratrx.errors import first_line
from saratrx.grey_scale import Values
from saratrx.sar_files.image import SarImage, Window, cut, size_of
from saratrx.sar_files.limits import FormatError, ImageError, check_pixels, max_bytes, too_large

LONGEST_HEAD = 20_000  # bytes of a .npy file before its values
LONGEST_TEXT = 1000  # characters of a MATLAB variable that is kept as metadata
Heads = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]
PREFERRED = "complex_img"  # the name in the SAMPLE data set


class Npy(SarImage):
    """An array of numbers, [H, W], [1, H, W] or [H, W, 1]; rows are read as they are needed."""

    channels = ("values",)

    def __init__(self, name: str | Path, file: BinaryIO) -> None:
        super().__init__(name, file)
        shape, self.is_fortran, dtype = head_of(file)
        self.begin, self.dtypes = file.tell(), (dtype,)
        self.shape = two_sides(shape, dtype)
        if size_of(file) - self.begin < np.prod(shape, dtype=object) * dtype.itemsize:
            raise FormatError("cannot be read as an array: it is torn")

    def band(self, number: int, window: Window) -> Values:
        (top, bottom), columns = window
        if self.is_fortran:
            return cut(self.columns_first, window)
        width = self.shape[1]
        rows = self.stored(top * width, (bottom - top) * width).reshape(bottom - top, width)
        return rows[:, columns[0] : columns[1]]

    @cached_property
    def columns_first(self) -> Values:
        """All of an array whose rows are scattered over the file; it stays in memory."""
        height, width = self.shape
        check_pixels(self.name, height, width)
        return self.stored(0, height * width).reshape(self.shape, order="F")

    def stored(self, first: int, count: int) -> Values:
        """Read values as they follow each other in the file."""
        self.file.seek(self.begin + first * self.dtype.itemsize)
        return np.frombuffer(self.file.read(count * self.dtype.itemsize), self.dtype, count)


class Npz(SarImage):
    """An archive of arrays: one image, or several of one size as channels; single values are metadata."""

    def __init__(self, name: str | Path, file: BinaryIO) -> None:
        super().__init__(name, file)
        self.archive = zipfile.ZipFile(file)
        heads = {}
        for member in self.archive.namelist():
            if member.endswith(".npy"):
                with self.archive.open(member) as part:
                    shape, _, kind = head_of(BytesIO(part.read(LONGEST_HEAD)))
                heads[member.removesuffix(".npy")] = shape, kind
        self.channels, self.shape, self.dtypes = images_among(heads)
        self.values: dict[int, Values] = {}
        for key, (shape, kind) in heads.items():
            if shape == () and kind.kind in "buifcSU" and kind.itemsize <= LONGEST_HEAD:
                self.metadata[key] = self.array(key).item()

    def band(self, number: int, window: Window) -> Values:
        if number not in self.values:
            check_pixels(self.name, *self.shape)
            self.values[number] = self.array(self.channels[number]).reshape(self.shape)
        return cut(self.values[number], window)

    def array(self, key: str) -> Values:
        """Unpack one array."""
        member = self.archive.getinfo(f"{key}.npy")
        if member.file_size > max_bytes() + LONGEST_HEAD:
            raise ImageError(f"{self.name}: {key} has {member.file_size:,} bytes: {too_large()}")
        content = BytesIO(self.archive.read(member))
        shape, is_fortran, kind = head_of(content)
        count = int(np.prod(shape, dtype=object))
        if size_of(content) - content.tell() < count * kind.itemsize:
            raise FormatError("cannot be read as an array: it is torn")
        array = np.frombuffer(content.getbuffer(), kind, count, content.tell())
        return array.reshape(shape, order="F" if is_fortran else "C")


def head_of(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the head of a `.npy` file: shape, whether columns come first, type; the file then is at the values."""
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, kind = read(file)
    except Exception as error:
        raise FormatError(f"cannot be read as an array: {first_line(error)}") from error
    if min(shape, default=0) < 0:
        raise FormatError("cannot be read as an array: it is torn")
    return shape, is_fortran, kind


def two_sides(shape: tuple[int, ...], kind: np.dtype[Any]) -> tuple[int, int]:
    """Give the height and width of an array.

    Raises:
        FormatError: if it is no single channel of numbers.

    """
    sides = shape
    if len(shape) == 3 and 1 in (shape[0], shape[2]):
        sides = shape[1:] if shape[0] == 1 else shape[:2]
    if len(sides) != 2 or 0 in sides or kind.kind not in "buifc":
        raise FormatError(
            f"holds {kind} values of shape {list(shape)}, not one channel [H, W]; save the channel to be used on its "
            "own"
        )
    return sides[0], sides[1]


def images_among(heads: Heads) -> tuple[tuple[str, ...], tuple[int, int], tuple[np.dtype[Any], ...]]:
    """Find which arrays of a file are the image.

    Args:
        heads: shape and type of each array, by name.

    Returns:
        The names of the channels, their height and width, and the type of each: `complex_img` alone, or all arrays of
        numbers with two sides above 1.

    Raises:
        FormatError: naming the arrays, if there is no such array, or several of different size.

    """
    found = {}
    for name, (shape, kind) in sorted(heads.items()):
        with suppress(FormatError):
            sides = two_sides(shape, kind)
            if min(sides) > 1:  # a vector is an axis, or a list of facts
                found[name] = sides, kind
    if PREFERRED in found:
        found = {PREFERRED: found[PREFERRED]}
    if len({sides for sides, _ in found.values()}) != 1:
        said = ", ".join(f"{name} {list(shape)} of {kind}" for name, (shape, kind) in sorted(heads.items()))
        what = "several images of different size" if found else "no array [H, W] of numbers"
        raise FormatError(f"holds {what}, but {said[:500] or 'nothing'}; save the one to be used on its own")
    all_sides, kinds = zip(*found.values(), strict=True)
    return tuple(found), all_sides[0], kinds
