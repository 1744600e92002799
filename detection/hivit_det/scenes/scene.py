"""Scenes of any size, read window by window."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rasterio import DatasetReader
from rasterio.crs import CRS
from rasterio.transform import AffineTransformer, GCPTransformer, RPCTransformer
from rasterio.warp import transform as to_system

from saratrx import sar_files, sar_image
from saratrx.errors import InputError, first_line
from saratrx.grey_scale import Grey, Remap, strips
from saratrx.reporting import get_logger
from saratrx.sar_files import SarImage
from saratrx.sar_files.raster import GeoTiff

log = get_logger(__name__)

WGS84 = "EPSG:4326"
EQUATOR, ECCENTRICITY = 6378137.0, 0.0818191908426  # of WGS 84: the radius in m
LARGEST_DEGREES = (360.001, 90.001)  # of a longitude, as some count it, and a latitude; a pixel's edge may round


class Scene:
    """An image of `height` x `width` pixels, read in windows; `crs` names its map coordinates, if it has any.

    Args:
        path: of its file.
        image: that file, open.
        remap: how values of more than 8 bits become grey, with one `GreyScale` for the whole scene.
        channel: the one to use of several, see `SarImage.read`.

    Raises:
        ImageError: if it has no such channel, or several and none was chosen; if it is torn, or has no finite value.

    """

    def __init__(
        self, path: Path, image: SarImage, remap: Remap = "percentile", channel: str | int | None = None
    ) -> None:
        self.path, self.image, self.channel = path, image, channel
        self.height, self.width = image.shape
        self.scale = sar_image.scale_of(image, remap, channel)
        # no other format has a map of its pixels
        self.mapping, self.crs = mapping_of(path, image.raster.file) if isinstance(image, GeoTiff) else (None, None)

    def read(self, left: int, top: int, width: int, height: int) -> Grey:
        """Read a window inside the scene: [height, width]; raises ImageError."""
        values = self.image.read(((top, top + height), (left, left + width)), self.channel)
        return values if self.scale is None else self.scale.grey(values)

    def overview(self, side: int) -> Grey:
        """Read the whole scene: [H, W], made smaller where it is larger than `side` pixels; raises ImageError."""
        rows, columns = self.overview_size(side)
        step = self.height // rows
        parts = []
        for strip in strips(self.height, self.width, multiple_of=step):
            grey = self.read(0, strip.start, self.width, strip.stop - strip.start)
            size = (-(-self.width // step), -(-len(grey) // step))
            parts.append(grey if step == 1 else cv2.resize(grey, size, interpolation=cv2.INTER_AREA))
        return cv2.resize(np.concatenate(parts), (columns, rows), interpolation=cv2.INTER_AREA)

    def map_coordinates(self, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        """Points in pixels (x, y), with (0, 0) the upper left corner of the scene -> (x, y) on the map."""
        if not self.mapping:
            return list(points)
        columns, rows = zip(*points, strict=True)
        return list(zip(*self.mapping.xy(rows, columns, offset="ul"), strict=True))

    def degrees(self, points: Sequence[tuple[float, float]]) -> NDArray[np.float64]:
        """Points in pixels (x, y) -> longitude and latitude [n, 2] of WGS 84, in degrees.

        Raises:
            InputError: if the map is not of the Earth.

        """
        x, y = zip(*self.map_coordinates(points), strict=True)
        try:
            found = np.array(to_system(self.crs, WGS84, x, y)[:2]).T
        except Exception as error:  # GDAL raises anything at all
            raise InputError(f"{self.path}: its map coordinates are none of the Earth: {first_line(error)}") from error
        if not np.isfinite(found).all():
            raise InputError(f"{self.path}: its map coordinates are none of the Earth: they have no longitude")
        return found

    def metres(self, points: Sequence[tuple[float, float]]) -> NDArray[np.float64]:
        """Points in pixels (x, y), close to each other -> how far (east, north) of the first they are in metres [n, 2].

        By WGS 84; NaN where the map is not of the Earth.
        """
        try:
            longitude, latitude = np.radians(np.unwrap(self.degrees(points), period=360, axis=0)).T
        except InputError as error:
            log.warning("%s", error)
            return np.full((len(points), 2), np.nan)
        curvature = 1 - ECCENTRICITY**2 * np.sin(latitude[0]) ** 2
        east = (longitude - longitude[0]) * np.cos(latitude[0]) * EQUATOR / curvature**0.5
        north = (latitude - latitude[0]) * EQUATOR * (1 - ECCENTRICITY**2) / curvature**1.5
        return np.stack([east, north], axis=1)

    def overview_size(self, side: int) -> tuple[int, int]:
        """Height and width of the overview."""
        scale = min(1.0, side / max(self.height, self.width))
        return max(1, round(self.height * scale)), max(1, round(self.width * scale))

    @property
    def ground(self) -> float | None:
        """The height in metres at which rational polynomials (RPCs) place all pixels; None for other maps."""
        if isinstance(self.image, GeoTiff) and isinstance(self.mapping, RPCTransformer):
            return self.image.raster.file.rpcs.height_off
        return None


def mapping_of(
    path: Path, file: DatasetReader
) -> tuple[AffineTransformer | GCPTransformer | RPCTransformer | None, str | None]:
    """Give what turns pixels of a file into map coordinates, and the name of these; None for both if it has neither.

    It is the first that the file has of a transform, control points (Sentinel-1 GRD), and rational polynomials, which
    are taken at the height that is their offset. A coordinate system is no help where pixels have no place in it:
    without any of these, with a transform that only counts pixels, from above or from below, with control points on one
    line, or where it leads beyond the poles.
    """
    try:
        points, crs = file.gcps
        transform = file.transform
        counting = [(1, 0, 0, 0, 1, 0), (1, 0, 0, 0, -1, 0), (1, 0, 0, 0, -1, file.height)]
        if tuple(transform)[:6] not in counting and transform.determinant:
            mapping, crs = AffineTransformer(transform), file.crs
        elif points and np.linalg.matrix_rank([(1, point.row, point.col) for point in points]) == 3:
            mapping = GCPTransformer(points, tps=True)
        elif file.rpcs:
            mapping, crs = RPCTransformer(file.rpcs, rpc_height=file.rpcs.height_off), CRS.from_string(WGS84)
        else:
            return None, None
        rows, columns = zip(*product((0, file.height), (0, file.width)), strict=True)
        corners = np.abs(mapping.xy(rows, columns, offset="ul"))
        is_on_earth = crs and not (crs.is_geographic and (corners.max(axis=1) > LARGEST_DEGREES).any())
        return (mapping, crs.to_string()) if is_on_earth and np.isfinite(corners).all() else (None, None)
    except Exception as error:  # damaged tags make GDAL raise anything at all
        log.warning("%s: its map coordinates cannot be used: %s", path, first_line(error))
        return None, None


def open_scene(path: str | Path, remap: Remap = "percentile", channel: str | int | None = None) -> Scene:
    """Open an image file for reading in windows.

    TIFF, JPEG 2000, `.npy`, SICD and MATLAB 7.3 stay on the disk; other formats, which cannot be read in parts, are
    held in memory.

    Args:
        path: of any file that `saratrx.sar_files` reads.
        remap: see `Scene`.
        channel: likewise.

    Raises:
        ImageError: for a file that is missing or damaged, and as `Scene`.

    """
    image = sar_files.open(path)
    try:
        return Scene(Path(path), image, remap, channel)
    except BaseException:
        image.close()
        raise
