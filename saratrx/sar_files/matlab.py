"""MATLAB files of version 5: their plain arrays alone, so no objects, functions, structures or cells.

Layout: MathWorks, "MAT-File Format", chapter 1. SciPy's reader is not used: damaged files make it end the process, and
it unpacks whatever an element grows to.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from saratrx.grey_scale import Values
from saratrx.sar_files.arrays import LONGEST_TEXT, images_among
from saratrx.sar_files.image import SarImage, Window, cut
from saratrx.sar_files.limits import FormatError, ImageError, check_pixels, max_bytes, too_large

HEAD = 128  # bytes; its last two are "IM" where numbers are little-endian
BESIDE = 2**20  # bytes that a file may have beside the largest image
MATRIX, COMPRESSED = 14, 15  # types of elements that hold others
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}  # types: numbers
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
CHARACTERS = 4  # the class of texts
TEXTS = {1: "ascii", 2: "utf-8", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}  # by the type of their element
IS_COMPLEX, IS_LOGICAL = 0x0800, 0x0200  # flags beside the class


class Matlab(SarImage):
    """The image among the arrays of a file, see `arrays.images_among`; single numbers and texts are metadata."""

    def __init__(self, name: str | Path, file: BinaryIO) -> None:
        super().__init__(name, file)
        arrays: dict[str, Array] = {}
        for order, content in matrices(name, file):
            key, array = array_of(order, content)
            if array is None:
                continue
            if key in arrays:
                raise FormatError(f"has several variables called {key}")
            arrays[key] = array
        self.metadata = {key: array.fact() for key, array in arrays.items() if array.is_fact()}
        self.channels, self.shape, self.dtypes = images_among({key: (a.shape, a.dtype) for key, a in arrays.items()})
        check_pixels(name, *self.shape)
        self.values = [arrays[key].values().reshape(self.shape) for key in self.channels]

    def band(self, number: int, window: Window) -> Values:
        return cut(self.values[number], window)


@dataclass(frozen=True)
class Array:
    """An array whose values are still bytes.

    Attributes:
        shape: MATLAB's.
        dtype: of its values; of texts, characters.
        order: "<" or ">", of its bytes.
        parts: type and bytes of its values; of complex ones also of the imaginary ones.

    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: str
    parts: list[tuple[int, memoryview]]

    def values(self) -> Values:
        """Give its values; raises FormatError if there are not as many as its shape says."""
        numbers = [np.frombuffer(content, self.order + STORED[kind]) for kind, content in self.parts]
        if any(len(each) != np.prod(self.shape, dtype=object) for each in numbers):
            raise FormatError("is damaged: an array is not of the size that it says")
        values = np.empty(len(numbers[0]), self.dtype)
        with np.errstate(invalid="ignore"):  # of values that their class cannot hold
            values.real = numbers[0]  # small whole numbers are stored in fewer bytes than their class has
            if len(numbers) == 2:
                values.imag = numbers[1]
        return values.reshape(self.shape, order="F")

    def is_fact(self) -> bool:
        """Whether it is one number, or a short line of text."""
        count = np.prod(self.shape, dtype=object)
        return count == 1 or (self.dtype.kind == "U" and self.shape[0] == 1 and count <= LONGEST_TEXT)

    def fact(self) -> Any:
        """Give its one number, or its text."""
        if self.dtype.kind != "U":
            return self.values().item()
        ((kind, content),) = self.parts
        coding = TEXTS[kind]
        if coding in ("utf-16", "utf-32"):
            coding += "-le" if self.order == "<" else "-be"
        return bytes(content).decode(coding, errors="replace")


def matrices(name: str | Path, file: BinaryIO) -> Iterator[tuple[str, memoryview]]:
    """Give the order of bytes and the content of each variable, unpacked.

    Raises:
        ImageError: if they unpack to more than the largest image needs.
        FormatError: if the file is torn.

    """
    left = max_bytes() + BESIDE
    head = file.read(HEAD)
    order = {b"IM": "<", b"MI": ">"}.get(head[HEAD - 2 :])
    if order is None:
        raise FormatError("is no MATLAB file of version 5, or its head is torn; save it with -v7 or -v7.3")
    while tag := file.read(8):
        if len(tag) < 8:
            raise FormatError("is torn")
        kind, length = struct.unpack(f"{order}II", tag)
        content: bytes | memoryview = file.read(min(length, left))
        if len(content) < min(length, left):
            raise FormatError("is torn")
        if kind == COMPRESSED:
            stream = zlib.decompressobj()
            content = stream.decompress(content, left)
            if not stream.eof and len(content) < left:
                raise FormatError("is torn")
        left -= len(content)
        if left <= 0:
            raise ImageError(f"{name} unpacks to more than {max_bytes() + BESIDE:,} bytes: {too_large()}")
        if kind == COMPRESSED:
            kind, content = next(elements(order, memoryview(content)), (0, memoryview(b"")))
        if kind == MATRIX:
            yield order, memoryview(content)


def elements(order: str, content: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Give the type and bytes of each element; raises FormatError if one ends after all."""
    place = 0
    while place + 8 <= len(content):
        kind, length = struct.unpack_from(f"{order}II", content, place)
        if kind >> 16:  # four bytes at most, beside type and length
            kind, length, begin = kind & 0xFFFF, kind >> 16, place + 4
            place += 8
        else:
            begin = place + 8
            place = begin + length + -length % 8
        if begin + length > len(content):
            raise FormatError("is torn")
        yield kind, content[begin : begin + length]


def array_of(order: str, content: memoryview) -> tuple[str, Array | None]:
    """Give the name and the array of a variable; None if it is something else."""
    flags, sides, name, *parts = *elements(order, content), *[(0, memoryview(b""))] * 3
    said = int.from_bytes(flags[1][:4], "little" if order == "<" else "big")
    shape = tuple(int(side) for side in np.frombuffer(sides[1][: len(sides[1]) // 4 * 4], f"{order}i4"))
    is_complex, is_text = bool(said & IS_COMPLEX), said & 0xFF == CHARACTERS
    if not is_text and (said & 0xFF not in CLASSES or said & IS_LOGICAL):
        return "", None
    parts = parts[: 2 if is_complex else 1]
    if len(shape) < 2 or min(shape) < 0 or any(kind not in (TEXTS if is_text else STORED) for kind, _ in parts):
        raise FormatError("is damaged: it holds an array of no known type or size")
    dtype = np.dtype("U1" if is_text else CLASSES[said & 0xFF])
    dtype = np.result_type(dtype, np.complex64) if is_complex and not is_text else dtype
    return bytes(name[1]).decode("latin-1"), Array(shape, dtype, order, parts)
