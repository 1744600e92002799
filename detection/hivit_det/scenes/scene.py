"""Scenes of any size, read window by window."""

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.transform import AffineTransformer, GCPTransformer
from rasterio.windows import Window

from saratrx import sar_image
from saratrx.errors import first_line
from saratrx.sar_image import ImageError

os.environ.setdefault("GDAL_CACHEMAX", "256")  # MB; without, GDAL takes 5 % of the machine's memory
SAMPLE = 2048  # px a side, at most, of what the grey scale of a scene is taken from


class Scene(ABC):
    """An image of `height` x `width` pixels; `crs` names its map coordinates, if it has any."""

    path: Path
    height: int
    width: int
    crs: str | None = None

    @abstractmethod
    def read(self, left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
        """Read a window inside the scene: [height, width]."""

    @abstractmethod
    def overview(self, side: int) -> NDArray[np.uint8]:
        """Read the whole scene: [H, W], made smaller where it is larger than `side` pixels."""

    def map_coordinates(self, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        """Points in pixels (x, y), with (0, 0) the upper left corner of the scene -> (x, y) on the map."""
        return list(points)

    def overview_size(self, side: int) -> tuple[int, int]:
        """Height and width of the overview."""
        scale = min(1.0, side / max(self.height, self.width))
        return max(1, round(self.height * scale)), max(1, round(self.width * scale))


class ArrayScene(Scene):
    """A scene in memory, or of a memory-mapped array: [H, W], real or complex."""

    def __init__(self, path: Path, values: NDArray[Any]) -> None:
        self.path, self.values = path, values
        self.height, self.width = values.shape
        step = max(1, -(-max(values.shape) // SAMPLE))
        self.limits = scene_limits(path, values[::step, ::step])

    def read(self, left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
        values = self.values[top : top + height, left : left + width]
        return sar_image.to_grey(values, *self.limits) if self.limits else np.array(values)

    def overview(self, side: int) -> NDArray[np.uint8]:
        rows, columns = self.overview_size(side)
        step = max(1, self.height // rows)
        values = self.values[::step, ::step]
        grey = sar_image.to_grey(values, *self.limits) if self.limits else np.array(values)
        return cv2.resize(grey, (columns, rows), interpolation=cv2.INTER_AREA)


class RasterScene(Scene):
    """A TIFF that GDAL reads, with map coordinates if it is a GeoTIFF; only the windows asked for are in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            self.file = rasterio.open(path)
        self.height, self.width = self.file.height, self.file.width
        meanings = self.file.colorinterp
        self.bands = [band for band, meaning in enumerate(meanings, start=1) if meaning != ColorInterp.alpha]
        eight_bit = set(self.file.dtypes) == {"uint8"}
        if ColorInterp.palette in meanings or not (len(self.bands) == 1 or (len(self.bands) == 3 and eight_bit)):
            raise ImageError(
                f"{path} has {len(meanings)} bands of {self.file.dtypes[0]} ({meanings[0].name}), not one of "
                "amplitude; save the band to be used on its own, such as with gdal_translate -b 1"
            )
        points, crs = self.file.gcps
        if self.file.crs or not self.file.transform.is_identity:
            self.mapping, crs = AffineTransformer(self.file.transform), self.file.crs
        elif points:  # Sentinel-1 products
            self.mapping = GCPTransformer(points, tps=True)
        else:
            self.mapping = None
        self.crs = crs.to_string() if crs and self.mapping else None
        if eight_bit:
            self.limits = None
        else:
            self.limits = scene_limits(path, self.values(out_shape=self.overview_size(SAMPLE)))

    def read(self, left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
        return self.grey(window=Window(left, top, width, height))

    def overview(self, side: int) -> NDArray[np.uint8]:
        real = "complex" not in self.file.dtypes[0]
        return self.grey(
            out_shape=self.overview_size(side), resampling=Resampling.average if real else Resampling.nearest
        )

    def map_coordinates(self, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        if not self.mapping:
            return list(points)
        columns, rows = zip(*points, strict=True)
        return list(zip(*self.mapping.xy(rows, columns, offset="ul"), strict=True))

    def grey(self, **how: Any) -> NDArray[np.uint8]:
        """Pixels of the file as uint8 [H, W], no data as black."""
        values = self.values(**how)
        return sar_image.to_grey(values, *self.limits) if self.limits else values

    def values(self, **how: Any) -> NDArray[Any]:
        """Pixels of the file, [H, W]: 8 bits as they are, no data as 0; others as numbers, no data as not a number."""
        try:
            bands = self.file.read(self.bands, masked=True, **how)
        except RasterioError as error:
            raise ImageError(f"{self.path} is torn or damaged: {error}") from error
        if bands.dtype == np.uint8:
            bands = bands.filled(0)
            return bands[0] if len(bands) == 1 else cv2.cvtColor(bands.transpose(1, 2, 0), cv2.COLOR_RGB2GRAY)
        return bands[0].astype(bands.dtype if bands.dtype.kind == "c" else np.float32).filled(np.nan)


def open_scene(path: str | Path) -> Scene:
    """Open an image file for reading in windows.

    TIFF and `.npy` stay on the disk; other formats, which cannot be read in parts, are held in memory with 8 bits. What
    has more than 8 bits is remapped as in `sar_image.to_uint8`, with limits from a sample of the whole scene.

    Raises:
        ImageError: for a file that is missing, damaged, or has no single band of amplitude.

    """
    path = Path(path)
    if not path.is_file():
        raise ImageError(f"{path}: no such file")
    if path.suffix.lower() in (".tif", ".tiff"):
        try:
            return RasterScene(path)
        except RasterioError as error:
            raise ImageError(f"{path} cannot be read as an image: {error}") from error
    if path.suffix.lower() == ".npy":
        try:
            values = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise ImageError(f"{path} cannot be read as an array: {first_line(error)}") from error
        if values.ndim == 2 and values.size and values.dtype.kind in "buifc":
            return ArrayScene(path, values)
    return ArrayScene(path, sar_image.read(path))


def scene_limits(path: Path, sample: NDArray[Any]) -> tuple[float, float] | None:
    """Black and white of a scene that has more than 8 bits; None: take it as it is.

    Zeros do not count, with which products fill what the radar did not see.
    """
    if sample.dtype == np.uint8:
        return None
    seen = sample[sample != 0]
    try:
        return sar_image.grey_limits(seen if seen.size else sample)
    except ValueError as error:
        raise ImageError(f"{path}: {error}") from error
