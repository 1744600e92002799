"""Scenes of any size, read window by window."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rasterio import DatasetReader
from rasterio.enums import Resampling
from rasterio.transform import AffineTransformer, GCPTransformer
from rasterio.windows import Window

from saratrx import sar_image
from saratrx.errors import first_line
from saratrx.files import is_file
from saratrx.grey_scale import Grey, GreyScale, sample
from saratrx.reporting import get_logger
from saratrx.sar_image import ImageError

log = get_logger(__name__)

LARGEST_DEGREES = (360.001, 90.001)  # of a longitude, as some count it, and a latitude; a pixel's edge may round


class Scene(ABC):
    """An image of `height` x `width` pixels; `crs` names its map coordinates, if it has any."""

    path: Path
    height: int
    width: int
    crs: str | None = None

    @abstractmethod
    def read(self, left: int, top: int, width: int, height: int) -> Grey:
        """Read a window inside the scene: [height, width]."""

    @abstractmethod
    def overview(self, side: int) -> Grey:
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
        try:
            self.scale = None if values.dtype == np.uint8 else GreyScale.of(sample(values))
        except ValueError as error:
            raise ImageError(f"{path} {error}") from error

    def read(self, left: int, top: int, width: int, height: int) -> Grey:
        return self.grey(self.values[top : top + height, left : left + width])

    def overview(self, side: int) -> Grey:
        rows, columns = self.overview_size(side)
        step = max(1, self.height // rows)
        return cv2.resize(self.grey(self.values[::step, ::step]), (columns, rows), interpolation=cv2.INTER_AREA)

    def grey(self, values: NDArray[Any]) -> Grey:
        """Give some of its values as uint8."""
        return np.array(values) if self.scale is None else self.scale.grey(values)


class RasterScene(Scene):
    """A TIFF, with map coordinates if it is a GeoTIFF; only the windows asked for are in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tiff = sar_image.open_tiff(path, path)
        self.height, self.width = self.tiff.height, self.tiff.width
        self.mapping, self.crs = mapping_of(path, self.tiff.file)
        with self.as_image_error():
            self.tiff.scale  # noqa: B018 -- taken now, so that a torn file is told at once

    def read(self, left: int, top: int, width: int, height: int) -> Grey:
        with self.as_image_error():
            return self.tiff.grey(window=Window(left, top, width, height))

    def overview(self, side: int) -> Grey:
        can_be_averaged = self.tiff.luma is None and "complex" not in self.tiff.file.dtypes[0]
        with self.as_image_error():
            return self.tiff.grey(
                out_shape=self.overview_size(side),
                resampling=Resampling.average if can_be_averaged else Resampling.nearest,
            )

    def map_coordinates(self, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        if not self.mapping:
            return list(points)
        columns, rows = zip(*points, strict=True)
        return list(zip(*self.mapping.xy(rows, columns, offset="ul"), strict=True))

    @contextmanager
    def as_image_error(self) -> Iterator[None]:
        """Name the file where it cannot be read, or has no finite value."""
        try:
            yield
        except ValueError as error:
            raise ImageError(f"{self.path} {error}") from error


def mapping_of(path: Path, file: DatasetReader) -> tuple[AffineTransformer | GCPTransformer | None, str | None]:
    """Give what turns pixels of a file into map coordinates, and the name of these; None for both if it has neither.

    A coordinate system is no help where pixels have no place in it: without a transform, with one that only counts
    pixels, from above or from below, with control points on one line, or where it leads beyond the poles.
    """
    try:
        points, crs = file.gcps
        transform = file.transform
        counting = [(1, 0, 0, 0, 1, 0), (1, 0, 0, 0, -1, 0), (1, 0, 0, 0, -1, file.height)]
        if tuple(transform)[:6] not in counting and transform.determinant:
            mapping, crs = AffineTransformer(transform), file.crs
        elif points and np.linalg.matrix_rank([(1, point.row, point.col) for point in points]) == 3:  # Sentinel-1
            mapping = GCPTransformer(points, tps=True)
        else:
            return None, None
        rows, columns = zip(*product((0, file.height), (0, file.width)), strict=True)
        corners = np.abs(mapping.xy(rows, columns, offset="ul"))
        is_on_earth = crs and not (crs.is_geographic and (corners.max(axis=1) > LARGEST_DEGREES).any())
        return (mapping, crs.to_string()) if is_on_earth and np.isfinite(corners).all() else (None, None)
    except Exception as error:  # damaged tags make GDAL raise anything at all
        log.warning("%s: its map coordinates cannot be used: %s", path, first_line(error))
        return None, None


def open_scene(path: str | Path) -> Scene:
    """Open an image file for reading in windows.

    TIFF and `.npy` stay on the disk; other formats, which cannot be read in parts, are held in memory with 8 bits. What
    has more than 8 bits is remapped as in `sar_image.read`, with one `GreyScale` for the whole scene.

    Raises:
        ImageError: for a file that is missing, damaged, or has no single band of amplitude.

    """
    path = Path(path)
    if not is_file(path):
        raise ImageError(f"{path}: no such file")
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {first_line(error)}") from error
    if start in sar_image.TIFF_STARTS or path.suffix.lower() in (".tif", ".tiff"):
        return RasterScene(path)
    if path.suffix.lower() == ".npy":
        try:
            values = np.lib.format.open_memmap(path, mode="r")
        except Exception as error:  # its head can hold anything at all
            raise ImageError(f"{path} cannot be read as an array: {first_line(error)}") from error
        return ArrayScene(path, sar_image.one_channel(path, values))
    return ArrayScene(path, sar_image.read(path))
