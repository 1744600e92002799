"""SICD (complex) and SIDD (derived) products in NITF, by sarkit.

Standards: NGA.STND.0024 (SICD) and NGA.STND.0025 (SIDD).
"""

import logging
import warnings
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import sarkit.sicd
import sarkit.sidd

from saratrx.errors import first_line
from saratrx.grey_scale import Values
from saratrx.sar_files.image import SarImage, Window, cut, size_of
from saratrx.sar_files.limits import FormatError, check_pixels
from saratrx.tiff import luma

for package in ("sarkit", "jbpy"):
    logging.getLogger(package).setLevel(logging.CRITICAL)  # what matters is raised
UNKNOWN_LENGTH = 999_999_999_999  # of a file that was written as a stream
SIDD_KINDS = ("MONO8I", "MONO8LU", "MONO16I", "RGB8LU", "RGB24I")
BYTES = {"MONO16I": 2, "RGB24I": 3, "RE32F_IM32F": 8, "RE16I_IM16I": 4, "AMP8I_PHS8I": 2}  # of a pixel; others have one


def open_nitf(name: str | Path, file: BinaryIO) -> SarImage:
    """Open a NITF 2.1 file as what its first image segment is called: SICD000, or SIDD001001."""
    head = file.read(360)
    said, begin = head[342:354], head[354:360]  # bytes of the whole file, and of its header
    if not (said.isdigit() and begin.isdigit()) or (int(said) > size_of(file) and int(said) != UNKNOWN_LENGTH):
        raise FormatError("is torn")
    file.seek(int(begin))
    segment = file.read(6)
    file.seek(0)
    if segment == b"IMSICD":
        return Sicd(name, file)
    if segment == b"IMSIDD":
        return Sidd(name, file)
    raise FormatError("is a NITF file, but neither SICD nor SIDD; export its image to GeoTIFF")


class Sicd(SarImage):
    """A complex image in the slant plane, complex64, read in windows; the channel is its polarisation."""

    dtypes = (np.dtype(np.complex64),)

    def __init__(self, name: str | Path, file: BinaryIO) -> None:
        super().__init__(name, file)
        try:
            with quiet():
                self.product = sarkit.sicd.NitfReader(file)
        except Exception as error:
            raise FormatError(f"cannot be read as SICD: {first_line(error)}") from error
        tree = self.product.metadata.xmltree
        self.shape = int(tree.findtext("{*}ImageData/{*}NumRows")), int(tree.findtext("{*}ImageData/{*}NumCols"))
        self.kind = tree.findtext("{*}ImageData/{*}PixelType")
        check_segments(self.product.jbp, "SICD", self.shape, self.kind, size_of(file))
        self.channels = (tree.findtext("{*}ImageFormation/{*}TxRcvPolarizationProc") or "values",)
        self.sensor = tree.findtext("{*}CollectionInfo/{*}CollectorName")
        self.pixel_spacing = spacing(tree, "Grid", "/SS")
        centre = numbers(tree, *(f"GeoData/SCP/LLH/{each}" for each in ("Lat", "Lon", "HAE")))
        self.geolocation = {"crs": "EPSG:4979", "scene_centre": centre} if centre else None  # degrees, metres
        self.metadata = facts(
            tree,
            core_name="CollectionInfo/CoreName",
            mode="CollectionInfo/RadarMode/ModeType",
            start="Timeline/CollectStart",
            side="SCPCOA/SideOfTrack",
        )
        for key, path in (("grazing_angle", "SCPCOA/GrazeAng"), ("azimuth", "SCPCOA/AzimAng")):  # degrees
            angle = numbers(tree, path)
            if angle:
                self.metadata[key] = angle[0]
        amplitudes = [float(each.text) for each in tree.findall("{*}ImageData/{*}AmpTable/{*}Amplitude")]
        self.amplitudes = np.array(amplitudes if len(amplitudes) == 256 else range(256), np.float32)

    def band(self, number: int, window: Window) -> Values:
        (top, bottom), (left, right) = window
        with quiet():
            values, _ = self.product.read_sub_image(top, left, bottom, right)
        if self.kind == "RE32F_IM32F":
            return values.astype(np.complex64, copy=False)
        if self.kind == "AMP8I_PHS8I":
            return (self.amplitudes[values["amp"]] * np.exp(2j * np.pi / 256 * values["phase"])).astype(np.complex64)
        joined = np.empty(values.shape, np.complex64)
        joined.real, joined.imag = values["real"], values["imag"]
        return joined


class Sidd(SarImage):
    """A product for the eye: grey values of 8 or 16 bits, or colours, which become luma; each image is a channel."""

    def __init__(self, name: str | Path, file: BinaryIO) -> None:
        super().__init__(name, file)
        try:
            with quiet():
                self.product = sarkit.sidd.NitfReader(file)
        except Exception as error:
            raise FormatError(f"cannot be read as SIDD: {first_line(error)}") from error
        images = self.product.metadata.images
        if not images:
            raise FormatError("cannot be read as SIDD: it has no XML of that kind")
        looks = {look_of(image.xmltree, image.lookup_table) for image in images}
        if len(looks) > 1:
            raise FormatError("holds images of different size or type; save the one to be used on its own")
        self.shape, kind, dtype = looks.pop()
        check_pixels(name, *self.shape)
        self.channels = tuple(f"image{number}" for number in range(1, len(images) + 1))
        self.dtypes = (dtype,) * len(images)
        for number in range(1, len(images) + 1):
            check_segments(self.product.jbp, f"SIDD{number:03d}", self.shape, kind, size_of(file))
        tree = images[0].xmltree
        self.sensor = tree.findtext("{*}ExploitationFeatures/{*}Collection/{*}Information/{*}SensorName")
        place = "Measurement/{}Projection/SampleSpacing"
        self.pixel_spacing = spacing(tree, place.format("Plane")) or spacing(tree, place.format("Cylindrical"))
        self.metadata = facts(tree, product="ProductCreation/ProductName", pixel_type="Display/PixelType")
        self.values: dict[int, Values] = {}

    def band(self, number: int, window: Window) -> Values:
        if number not in self.values:
            with quiet():
                values = self.product.read_image(number)
            table = self.product.metadata.images[number].lookup_table
            if table is not None:
                values = table[values]
            if values.dtype.names:
                values = luma(np.stack([values[colour] for colour in "RGB"], axis=-1))
            self.values[number] = values.astype(self.dtype, copy=False)
        return cut(self.values[number], window)


def look_of(tree: Any, table: Values | None) -> tuple[tuple[int, int], str, np.dtype[Any]]:
    """Give the height and width, the kind of pixel and the type of values of a SIDD image."""
    rows, columns = (int(tree.findtext(path_of(f"Measurement/PixelFootprint/{side}"))) for side in ("Row", "Col"))
    kind = tree.findtext("{*}Display/{*}PixelType")
    if kind not in SIDD_KINDS:
        raise FormatError(f"has pixels of type {kind}, which is none of SIDD")
    is_sixteen = kind == "MONO16I" or (table is not None and table.dtype == np.uint16)
    return (rows, columns), kind, np.dtype(np.uint16 if is_sixteen else np.uint8)


def quiet() -> AbstractContextManager[None]:
    """Keep back sarkit's warnings: of its own age, and of what a schema would have otherwise."""
    return warnings.catch_warnings(action="ignore")


def check_segments(nitf: Any, begins: str, shape: tuple[int, int], kind: str, size: int) -> None:
    """Refuse a product whose image segments are packed, are not those that its XML tells of, or end after the file."""
    rows, width = 0, shape[1] * BYTES.get(kind, 1)
    for segment in nitf["ImageSegments"]:
        head, data = segment["subheader"], segment["Data"]
        if not head["IID1"].value.startswith(begins) or head["ICAT"].value != "SAR":
            continue
        if head["IC"].value != "NC":
            raise FormatError(f"is compressed or masked (IC {head['IC'].value}); save it without either")
        if data.get_offset() + data.size > size:
            raise FormatError("is torn")
        if head["NCOLS"].value != shape[1] or data.size != head["NROWS"].value * width:
            raise FormatError("is damaged: its image segments are not of the size that its XML says")
        rows += head["NROWS"].value
    if rows != shape[0] or min(shape) < 1:
        raise FormatError("is damaged: its image segments are not of the size that its XML says")


def numbers(tree: Any, *paths: str) -> tuple[float, ...] | None:
    """Give numbers of an XML tree; None if one is missing, or none."""
    try:
        found = tuple(float(tree.findtext(path_of(each))) for each in paths)
    except (TypeError, ValueError):
        return None
    return found if np.isfinite(found).all() else None


def spacing(tree: Any, path: str, end: str = "") -> tuple[float, float] | None:
    """Give the metres between rows and between columns."""
    found = numbers(tree, f"{path}/Row{end}", f"{path}/Col{end}")
    return (found[0], found[1]) if found and min(found) > 0 else None


def facts(tree: Any, **paths: str) -> dict[str, Any]:
    """Give the texts of an XML tree that are there."""
    found = {key: tree.findtext(path_of(path)) for key, path in paths.items()}
    return {key: text for key, text in found.items() if text is not None}


def path_of(path: str) -> str:
    """Turn `a/b` into lxml's path in any namespace."""
    return "/".join(f"{{*}}{part}" for part in path.split("/"))
