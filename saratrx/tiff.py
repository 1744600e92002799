"""TIFF by GDAL's GTiff driver alone, from a file or from memory, in windows: no other format, no files beside it."""

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
from saratrx.grey_scale import Grey, GreyScale, Values, sample_step, strips

# GDAL would take 5 % of the machine's memory for its cache, and read an .ovr, .aux.xml or world file beside a TIFF
SETTINGS = {"GDAL_CACHEMAX": 256, "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_PAM_ENABLED": "NO"}  # 256 MB
COLOURS = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]
DOUBLE = ("float64", "int32", "uint32", "int64", "uint64")  # need more than float32
logging.getLogger("rasterio").setLevel(logging.CRITICAL)  # what matters is raised


class TiffError(ValueError):
    """A TIFF that cannot be read; the text goes on from the file's name."""


class Tiff:
    """An open TIFF of one band: amplitude of any type, or 8 bits; or of 8-bit colours, which are made one.

    Args:
        source: the file's path, or its content.

    Attributes:
        file: rasterio's.
        height: in pixels.
        width: in pixels.
        bands: numbers of those that are read, one or three.
        white_zero: the value that is black where 0 is white, else None.
        luma: uint8 [256], the grey value of each stored byte; None where values are not 8 bits.

    Raises:
        TiffError: if it is no TIFF or torn, or has several bands of amplitude.

    """

    def __init__(self, source: Path | bytes) -> None:
        with rasterio.Env(**SETTINGS):
            self.memory, self.file = open_by_gdal(source)
        self.height, self.width = self.file.height, self.file.width
        try:
            self.bands = self.amplitude_bands()
            self.white_zero = self.largest_if_white_is_zero()
            self.luma = self.luma_of_stored()
        except (TiffError, KeyboardInterrupt):
            self.close()
            raise
        except Exception as error:  # of damaged tags GDAL raises errors that have no class of their own
            self.close()
            raise TiffError(f"cannot be read: {first_line(error)}") from error

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

    def amplitude_bands(self) -> list[int]:
        """List the numbers of the bands to read: one, or three of colours.

        Raises:
            TiffError: if there are others.

        """
        meanings, kinds = self.file.colorinterp, self.file.dtypes
        bands = [band for band, meaning in enumerate(meanings, start=1) if meaning != ColorInterp.alpha]
        is_coloured = self.is_eight_bit and [meanings[band - 1] for band in bands] == COLOURS
        if len(bands) != 1 and not is_coloured:
            raise TiffError(
                f"has {len(meanings)} bands of {kinds[0]} ({meanings[0].name}), not one of amplitude; save the band "
                "to be used on its own, such as with gdal_translate -b 1"
            )
        return bands

    def luma_of_stored(self) -> Grey | None:
        """Give the grey value [256] of each stored byte where that is not the byte itself: palettes, fewer bits.

        Raises:
            TiffError: for a palette of more than 8 bits.

        """
        if self.file.colorinterp[0] == ColorInterp.palette and self.white_zero is None:
            if not self.is_eight_bit:
                raise TiffError(f"has a palette of {self.file.dtypes[0]}; save its amplitude")
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
            TiffError: if its values have no largest one.

        """
        if self.file.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") != "YES":
            return None
        kind = str(self.file.dtypes[0])
        if not kind.startswith("uint"):
            raise TiffError(f"has {kind} values whose 0 is white; save it with 0 as black")
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

    def whole(self) -> Grey:
        """Read the whole image as uint8 [H, W], strip by strip."""
        grey = np.empty((self.height, self.width), np.uint8)
        for rows in strips(self.height, self.width, multiple_of=self.file.block_shapes[0][0]):
            grey[rows] = self.grey(window=((rows.start, rows.stop), (0, self.width)))
        return grey

    def values(self, **how: Any) -> Values:
        """Read pixels, [H, W]: 8 bits as luma, no data as 0; others as numbers, no data as not a number."""
        flags, is_data = self.file.mask_flag_enums[self.bands[0] - 1], None
        try:
            with rasterio.Env(**SETTINGS):
                bands = self.file.read(self.bands, **how)
                if MaskFlags.all_valid not in flags and MaskFlags.alpha not in flags:
                    is_data = self.file.read_masks(self.bands, **how).all(0)
        except RasterioError as error:
            raise TiffError("is torn or damaged") from error
        if self.is_eight_bit:
            if len(bands) > 1:
                grey = luma(bands.transpose(1, 2, 0))
            else:
                grey = bands[0] if self.luma is None else self.luma[bands[0]]
            return grey if is_data is None else np.where(is_data, grey, 0).astype(np.uint8)
        values = bands[0] if self.white_zero is None else self.white_zero - bands[0]
        if values.dtype.itemsize == 1:  # GreyScale knows by the type that zero is the middle
            return values if is_data is None else np.where(is_data, values, np.nan)
        if values.dtype.kind != "c":
            values = values.astype(np.float64 if values.dtype.name in DOUBLE else np.float32, copy=False)
        return values if is_data is None else np.where(is_data, values, np.nan)


def open_by_gdal(source: Path | bytes) -> tuple[MemoryFile | None, DatasetReader]:
    """Open a TIFF, and the memory that it lies in if it is no file."""
    try:
        if isinstance(source, bytes):
            memory = MemoryFile(source)
            return memory, memory.open(driver="GTiff")
        # by number: a name need not be UTF-8, and none is taken for a URL or an archive
        descriptor = os.open(source, os.O_RDONLY)
        try:
            return None, rasterio.open(f"/dev/fd/{descriptor}", driver="GTiff")
        finally:
            os.close(descriptor)
    except RasterioError as error:
        raise TiffError("cannot be read as an image: it is no TIFF, or its head is torn") from error


def luma(colours: NDArray[np.uint8]) -> Grey:
    """Colours [H, W, 3] to grey [H, W] by ITU-R 601, as for any other format."""
    return np.asarray(Image.fromarray(np.ascontiguousarray(colours)).convert("L"))
