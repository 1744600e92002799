"""MATLAB files of version 7.3, which are HDF5, by h5py; links to other files and filters of plug-ins are refused."""

from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from saratrx.grey_scale import Values
from saratrx.sar_files.arrays import LONGEST_TEXT, Heads, images_among
from saratrx.sar_files.image import SarImage, Window, size_of
from saratrx.sar_files.limits import FormatError, check_pixels, max_bytes

FILTERS = frozenset({1, 2, 3})  # deflate, shuffle, fletcher32: HDF5's own, which MATLAB writes
MOST_VARIABLES = 1000
DEFLATE = 1032  # times, at most, grows what it unpacks; HDF5 sets no limit of its own
LARGEST_PACKED = 2**20  # bytes of a block, in any case


class MatlabHdf5(SarImage):
    """The image among the variables of a file, see `arrays.images_among`; single numbers and texts are metadata.

    MATLAB stores columns first, so HDF5's axes come turned; complex values are pairs `real`, `imag`.
    """

    def __init__(self, name: str | Path, file: BinaryIO) -> None:
        super().__init__(name, file)
        self.hdf = h5py.File(file, "r")
        try:
            self.describe(name, size_of(file))
        except BaseException:
            self.hdf.close()
            raise

    def describe(self, name: str | Path, size: int) -> None:
        """Find the image and the facts beside it."""
        heads: Heads = {}
        for key in list(self.hdf)[:MOST_VARIABLES]:
            if self.hdf.get(key, getlink=True, getclass=True) is not h5py.HardLink:
                continue
            if self.hdf.get(key, getclass=True) is not h5py.Dataset or not is_plain(self.hdf[key]):
                continue
            values = self.hdf[key]
            what = values.attrs.get("MATLAB_class", b"")
            if what == b"char" and values.dtype == np.uint16 and values.size <= LONGEST_TEXT:
                self.metadata[key] = values[()].astype("<u2").tobytes().decode("utf-16-le", errors="replace")
            elif set(values.shape) == {1} and complex_kind(values.dtype).kind in "buifc":
                self.metadata[key] = as_complex(values[()]).item()
            elif what not in (b"char", b"logical") and "MATLAB_empty" not in values.attrs:
                heads[key] = values.shape[::-1], complex_kind(values.dtype)
        self.channels, self.shape, self.dtypes = images_among(heads)
        for key in self.channels:
            values = self.hdf[key]
            if values.chunks is None and np.prod(values.shape, dtype=object) * values.dtype.itemsize > size:
                raise FormatError("is torn")
            if values.chunks is not None:
                check_pixels(f"{name}: a block of it", int(np.prod(values.chunks, dtype=object)), 1)
                packed: list[int] = []
                values.id.chunk_iter(lambda chunk: packed.append(chunk.size))  # noqa: B023 -- called here
                if max(packed, default=0) > max(LARGEST_PACKED, max_bytes() // DEFLATE):
                    raise FormatError("has packed blocks that may grow too large; save it in smaller ones")

    def band(self, number: int, window: Window) -> Values:
        values = self.hdf[self.channels[number]]
        rows, columns = (slice(*side) for side in window)
        if values.ndim == 2:
            return as_complex(values[columns, rows]).T
        check_pixels(self.name, *self.shape)
        return as_complex(values[()]).T.reshape(self.shape)[rows, columns]

    def close(self) -> None:
        self.hdf.close()
        super().close()


def is_plain(values: h5py.Dataset) -> bool:
    """Whether a data set lies in this file alone and needs no plug-in."""
    plan = values.id.get_create_plist()
    filters = {plan.get_filter(number)[0] for number in range(plan.get_nfilters())}
    return not values.is_virtual and not values.external and filters <= FILTERS and values.shape is not None


def complex_kind(kind: np.dtype[Any]) -> np.dtype[Any]:
    """Give the type of a data set once its pairs are complex values."""
    if kind.names == ("real", "imag") and kind["real"] == kind["imag"] and kind["real"].kind == "f":
        return np.result_type(kind["real"].newbyteorder("="), np.complex64)
    return kind


def as_complex(values: Values) -> Values:
    """Give pairs `real`, `imag` as complex values, others as they are."""
    if values.dtype.names is None:
        return values
    joined = np.empty(values.shape, complex_kind(values.dtype))
    joined.real, joined.imag = values["real"], values["imag"]
    return joined
