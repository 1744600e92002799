"""SAR files of all formats under one interface: `open` gives a `SarImage`, whose reader the content alone chooses.

A reader is a module here, imported when the first file of its kind is opened. It sees nothing but the file: nothing is
unpickled, no link to another file is followed, and a declared size is compared with the file's before memory is taken.
"""

import warnings
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from saratrx.errors import InputError
from saratrx.files import is_file
from saratrx.sar_files.image import SPAN, SarImage, Window, refused
from saratrx.sar_files.limits import FormatError, ImageError

__all__ = ["FORMATS", "READERS", "SPAN", "ImageError", "SarImage", "Window", "open"]

# rasterio's, whose import waits for the first TIFF: chips have no place on a map
warnings.filterwarnings("ignore", message="Dataset has no geotransform")
READERS = (  # what the file begins with, the module, its class
    (b"\x89PNG\r\n\x1a\n", "picture", "Picture"),
    (b"\xff\xd8\xff", "picture", "Picture"),
    (b"BM", "picture", "Picture"),
    (b"II*\0", "raster", "GeoTiff"),
    (b"MM\0*", "raster", "GeoTiff"),
    (b"II+\0", "raster", "GeoTiff"),  # BigTIFF
    (b"MM\0+", "raster", "GeoTiff"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "raster", "Jpeg2000"),
    (b"\xff\x4f\xff\x51", "raster", "Jpeg2000"),  # without the boxes of a .jp2
    (b"\x93NUMPY", "arrays", "Npy"),
    (b"PK\x03\x04", "arrays", "Npz"),
    (b"[PhoenixHeaderVer", "mstar", "MstarChip"),
    (b"MATLAB 7.3 MAT-file", "matlab_hdf5", "MatlabHdf5"),
    (b"MATLAB ", "matlab", "Matlab"),
    (b"NITF02.10", "nitf", "open_nitf"),
    (b"NSIF01.00", "nitf", "open_nitf"),
)
FORMATS = "PNG, JPEG, TIFF, BMP, JPEG 2000, .npy, .npz, MATLAB, MSTAR, SICD or SIDD file"
EXTRA = ("h5py", "sarkit")  # packages that few files need


def open(path: str | Path, content: bytes | None = None) -> SarImage:  # noqa: A001 -- as in rasterio and Pillow
    """Open a SAR file; close it after use, or use it in `with`.

    Args:
        path: the file.
        content: its whole content where that is in memory already; `path` then only names it in errors.

    Raises:
        ImageError: for a file that is missing, torn, hostile, too large or of another kind.
        InputError: that says how to install what reads it, where that is missing.

    """
    path = Path(path)
    if content is None and not is_file(path):
        raise ImageError(f"{path}: no such file")
    try:
        file: BinaryIO = path.open("rb") if content is None else BytesIO(content)
        start = file.read(32)
        file.seek(0)
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}") from error
    try:
        with refused(path):
            return reader(path, start)(path, file)
    except BaseException:
        file.close()
        raise


def reader(path: Path, start: bytes) -> type[SarImage]:
    """Give what reads files that begin like that."""
    found = next((reader for reader in READERS if start.startswith(reader[0])), None)
    if found is None:
        raise FormatError(f"cannot be read as an image: it is empty, or no {FORMATS}")
    _, module, name = found
    try:
        return getattr(import_module(f"{__name__}.{module}"), name)
    except ModuleNotFoundError as error:
        if error.name not in EXTRA:
            raise
        raise InputError(
            f"{path} needs the package {error.name}: pip install -e '.[products]', from the top of the project"
        ) from error
