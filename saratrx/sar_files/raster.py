"""GeoTIFF of all kinds (also COG and BigTIFF) and JPEG 2000 by GDAL, in windows; its facts of the map."""

from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from rasterio import DatasetReader

from saratrx.grey_scale import Values, sample_step
from saratrx.sar_files.image import SarImage, Window
from saratrx.sar_files.limits import check_pixels
from saratrx.tiff import Tiff

COMPLEX_WHOLE = ("complex_int16", "complex_int32")  # have no type in NumPy


class GeoTiff(SarImage):
    """A raster; colours of 8 bits are one channel."""

    driver = "GTiff"

    def __init__(self, name: str | Path, file: BinaryIO) -> None:
        super().__init__(name, file)
        source = file.getvalue() if isinstance(file, BytesIO) else Path(f"/dev/fd/{file.fileno()}")
        self.raster = Tiff(source, self.driver)
        try:
            self.describe(self.raster.file)
        except BaseException:
            self.raster.close()
            raise

    def describe(self, file: DatasetReader) -> None:
        """Take the facts of the open file."""
        check_pixels(f"{self.name}: a block of it", *file.block_shapes[0])
        self.shape = file.height, file.width
        self.block_rows = file.block_shapes[0][0]
        kinds = [file.dtypes[number - 1] for number in self.raster.bands]
        self.dtypes = tuple(np.dtype("complex64" if kind in COMPLEX_WHOLE else kind) for kind in kinds)
        self.channels = ("luma",) if self.raster.is_coloured else self.raster.names
        self.is_no_data_declared = file.nodata is not None
        with suppress(UnicodeDecodeError):  # of texts in another coding, which the image can do without
            self.metadata = dict(file.tags())
        self.sensor = self.metadata.get("SENSOR") or None
        self.geolocation, self.pixel_spacing = place_of(file)

    def band(self, number: int, window: Window) -> Values:
        return self.raster.values(self.numbers(number), window=window)

    def band_sample(self, number: int) -> Values:
        step = sample_step(self.shape)
        return self.raster.values(self.numbers(number), out_shape=tuple(-(-side // step) for side in self.shape))

    def numbers(self, number: int) -> list[int]:
        """Give GDAL's numbers of the bands of a channel."""
        return self.raster.bands if self.raster.is_coloured else [self.raster.bands[number]]

    def several(self) -> str:
        return self.raster.several()

    def close(self) -> None:
        self.raster.close()
        super().close()


class Jpeg2000(GeoTiff):
    """A JPEG 2000 file: the same, by another of GDAL's drivers."""

    driver = "JP2OpenJPEG"


def place_of(file: DatasetReader) -> tuple[dict[str, Any] | None, tuple[float, float] | None]:
    """Give the facts of the place on the map, and the spacing of rows and columns in metres; None where there are none.

    The facts: `crs`, and `transform` (six numbers of the affine map from columns and rows) or `control_points`.
    """
    try:
        points, crs_of_points = file.gcps
        transform, crs = file.transform, file.crs
        if not transform.is_identity and transform.determinant and crs:
            metres = None
            if crs.is_projected:
                unit = crs.linear_units_factor[1]
                metres = (
                    float(np.hypot(transform.b, transform.e)) * unit,
                    float(np.hypot(transform.a, transform.d)) * unit,
                )
            return {"crs": crs.to_string(), "transform": tuple(transform)[:6]}, metres
        if points and crs_of_points:
            return {"crs": crs_of_points.to_string(), "control_points": len(points)}, None
    except Exception:  # damaged tags make GDAL raise anything at all; the image is there without them
        return None, None
    return None, None
