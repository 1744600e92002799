"""TIFF (or JPEG 2000) by one GDAL driver, from a file or memory, in windows: no other format, no files beside it."""

import logging
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader, MemoryFile

from saratrx.errors import first_line
from saratrx.grey_scale import Grey, GreyScale, Values, sample_step
from saratrx.sar_files.limits import FormatError

# GDAL would take 5 % of the machine's memory for its cache, and read an .ovr, .aux.xml or world file beside a TIFF
SETTINGS = {"GDAL_CACHEMAX": 256, "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_PAM_ENABLED": "NO"}  # 256 MB
FORMATS = {"GTiff": "TIFF", "JP2OpenJPEG": "JPEG 2000"}  # of the drivers
COLOURS = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]
DOUBLE = ("float64", "int32", "uint32", "int64", "uint64")  # need more than float32
logging.getLogger("rasterio").setLevel(logging.CRITICAL)  # what matters is raised


class Tiff:
    """An open TIFF: bands of amplitude of any type, or of 8 bits; or 8-bit colours, which are made one.

    Args:
        source: the file's path, or its content.
        driver: GDAL's, which alone may read it.

    Attributes:
        file: rasterio's.
        height: in pixels.
        width: in pixels.
        bands: numbers, from 1, of those that hold more than transparency.
        is_coloured: whether these are red, green and blue of 8 bits.
        white_zero: the value that is black where 0 is white, else None.
        luma: uint8 [256], the grey value of each stored byte; None where values are not 8 bits.

    Raises:
        FormatError: if it is no TIFF or torn.

    """

    def __init__(self, source: Path | bytes, driver: str = "GTiff") -> None:
        with rasterio.Env(**SETTINGS):
            self.memory, self.file = open_by_gdal(source, driver)
        self.height, self.width = self.file.height, self.file.width
        try:
            meanings = self.file.colorinterp
            self.bands = [n for n, meaning in enumerate(meanings, start=1) if meaning != ColorInterp.alpha]
            if not self.bands:
                raise FormatError(self.several())
            self.is_coloured = self.is_eight_bit and [meanings[band - 1] for band in self.bands] == COLOURS
            self.white_zero = self.largest_if_white_is_zero()
            self.luma = self.luma_of_stored()
        except (FormatError, KeyboardInterrupt):
            self.close()
            raise
        except Exception as error:  # of damaged tags GDAL raises errors that have no class of their own
            self.close()
            raise FormatError(f"cannot be read: {first_line(error)}") from error

    def close(self) -> None:
        """Close the file."""
        self.file.close()
        if self.memory is not None:
            self.memory.close()

    def __enter__(self) -> "Tiff":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_eight_bit(self) -> bool:
        """Whether pixels are taken as they are."""
        return set(self.file.dtypes) == {"uint8"}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the bands, as the file describes them, or `band1` and so on."""
        try:
            names = [(self.file.descriptions[band - 1] or "").strip() for band in self.bands]
        except UnicodeDecodeError:
            names = []
        is_clear = all(names) and len(set(names)) == len(self.bands)
        return tuple(names if is_clear else (f"band{band}" for band in self.bands))

    def several(self) -> str:
        """Say what to do about several bands."""
        meanings, kinds = self.file.colorinterp, self.file.dtypes
        return (
            f"has {len(meanings)} bands of {kinds[0]} ({meanings[0].name}), not one of amplitude; choose a channel "
            f"({', '.join(self.names)}), or save the band to be used on its own, such as with gdal_translate -b 1"
        )

    def luma_of_stored(self) -> Grey | None:
        """Give the grey value [256] of each stored byte where that is not the byte itself: palettes, fewer bits.

        Raises:
            FormatError: for a palette of more than 8 bits.

        """
        if self.file.colorinterp[0] == ColorInterp.palette and self.white_zero is None:
            if not self.is_eight_bit:
                raise FormatError(f"has a palette of {self.file.dtypes[0]}; save its amplitude")
            colours = np.zeros((1, 256, 3), np.uint8)
            for number, (red, green, blue, _) in self.file.colormap(1).items():
                colours[0, number] = red, green, blue
            return luma(colours)[0]
        if not self.is_eight_bit:
            return None
        largest = 2 ** int(self.file.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", 8)) - 1
        grey = (np.arange(256) * 255 // largest).clip(0, 255).astype(np.uint8)
        return grey if self.white_zero is None else 255 - grey

    def largest_if_white_is_zero(self) -> int | None:
        """Give the value that is black in a file whose 0 is white, None for others.

        Raises:
            FormatError: if its values have no largest one.

        """
        if self.file.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") != "YES":
            return None
        kind = str(self.file.dtypes[0])
        if not kind.startswith("uint"):
            raise FormatError(f"has {kind} values whose 0 is white; save it with 0 as black")
        return 2 ** int(self.file.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", kind.removeprefix("uint"))) - 1

    @cached_property
    def scale(self) -> GreyScale | None:
        """The grey scale, from at most 2,048 rows and columns; None if the file has 8 bits."""
        if self.is_eight_bit:
            return None
        step = sample_step((self.height, self.width))
        seen = self.values(out_shape=(-(-self.height // step), -(-self.width // step)))
        return GreyScale.of(seen, is_no_data_declared=self.file.nodata is not None)

    def grey(self, **how: Any) -> Grey:
        """Read pixels as uint8 [H, W], no data as black; `how` is rasterio's: `window`, `out_shape`, `resampling`."""
        values = self.values(**how)
        return values if self.scale is None else self.scale.grey(values)

    def values(self, numbers: list[int] | None = None, **how: Any) -> Values:
        """Read pixels, [H, W]: 8 bits as luma, no data as 0; others as numbers, no data as not a number.

        Args:
            numbers: of the band, or of the three of colours; `bands` if they are not given.
            how: as for `grey`.

        """
        numbers = numbers or self.bands
        flags, is_data = self.file.mask_flag_enums[numbers[0] - 1], None
        try:
            with rasterio.Env(**SETTINGS):
                bands = self.file.read(numbers, **how)
                if MaskFlags.all_valid not in flags and MaskFlags.alpha not in flags:
                    is_data = self.file.read_masks(numbers, **how).all(0)
        except RasterioError as error:
            raise FormatError("is torn or damaged") from error
        if self.is_eight_bit:
            if len(bands) > 1:
                grey = luma(bands.transpose(1, 2, 0))
            else:
                grey = bands[0] if self.luma is None else self.luma[bands[0]]
            return grey if is_data is None else np.where(is_data, grey, 0).astype(np.uint8)
        values = bands[0] if self.white_zero is None else self.white_zero - bands[0]
        if is_data is None:
            return values
        if values.dtype.kind != "c" and values.dtype.itemsize > 1:
            values = values.astype(np.float64 if values.dtype.name in DOUBLE else np.float32, copy=False)
        return np.where(is_data, values, np.nan)


def open_by_gdal(source: Path | bytes, driver: str) -> tuple[MemoryFile | None, DatasetReader]:
    """Open a TIFF, and the memory that it lies in if it is no file."""
    try:
        if isinstance(source, bytes):
            memory = MemoryFile(source)
            return memory, memory.open(driver=driver)
        # by number: a name need not be UTF-8, and none is taken for a URL or an archive
        descriptor = os.open(source, os.O_RDONLY)
        try:
            return None, rasterio.open(f"/dev/fd/{descriptor}", driver=driver)
        finally:
            os.close(descriptor)
    except RasterioError as error:
        raise FormatError(f"cannot be read as an image: it is no {FORMATS[driver]}, or its head is torn") from error


def luma(colours: NDArray[np.uint8]) -> Grey:
    """Colours [H, W, 3] to grey [H, W] by ITU-R 601, as for any other format."""
    return np.asarray(Image.fromarray(np.ascontiguousarray(colours)).convert("L"))
