"""Read a SAR image file of any common kind to 8-bit amplitude: one reader for all stages.

8-bit files are taken as they are (colours by the ITU-R 601 luma, transparency dropped). Everything else, 16-bit, float
or complex, goes through one documented remap, `grey_scale.GreyScale`. `sar_files` has one parser for each format,
chosen by the file's first bytes. What is larger than `max_pixels` is refused before it is decoded.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np

from saratrx import sar_files
from saratrx.command_line import option
from saratrx.files import is_file
from saratrx.grey_scale import REMAPS, Grey, GreyScale, Remap, strips, to_uint8
from saratrx.sar_files.image import SarImage, refused
from saratrx.sar_files.limits import (
    BYTES_OF_A_PIXEL,
    ImageError,
    check_pixels,
    max_bytes,
    max_pixels,
    too_large,
)

__all__ = [
    "BYTES_OF_A_PIXEL",
    "EXTENSIONS",
    "ImageError",
    "check_file",
    "decode",
    "is_image_name",
    "max_pixels",
    "read",
    "remap_option",
    "scale_of",
    "to_uint8",
]

EXTENSIONS = frozenset(  # compared in lower case
    {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".npy", ".npz", ".mat", ".nitf", ".ntf", ".jp2"}
)
WITH_MSTAR = EXTENSIONS | {f".{number:03d}" for number in range(27)}


def is_image_name(name: str | Path) -> bool:
    """Whether a file is called as images are: by one of EXTENSIONS, or .000 to .026 as MSTAR's raw chips."""
    return os.path.splitext(name)[1].lower() in WITH_MSTAR  # noqa: PTH122 -- for millions of names, ten times faster


def remap_option() -> Any:
    """Declare the option `remap: Remap` of a command, see `command_line.option`."""
    return option(REMAPS[0], help="how amplitudes of more than 8 bits become grey; 8-bit files stay as they are")


def read(path: str | Path, *, remap: Remap = "percentile", channel: str | int | None = None) -> Grey:
    """Read an image file to uint8 [H, W].

    PNG, TIFF, JPEG, BMP and JPEG 2000 of 8 bits, 16 bits or float; `.npy` and `.npz` (real or complex; [H, W],
    [1, H, W] or [H, W, 1]); MATLAB's `.mat`; raw chips of MSTAR; SICD and SIDD. See `sar_files`.

    Args:
        path: the file.
        remap: how values of more than 8 bits become grey, see `GreyScale`.
        channel: the one to use of several, by its name or number from 0, or all as one: "span" or "max", see
            `sar_files.SarImage.read`.

    Raises:
        ImageError: for a file that is missing, torn, empty, too large, of another kind, or that has several channels of
            amplitude where none was chosen.

    """
    path = Path(path)
    check_file(path)
    with sar_files.open(path) as image:
        return to_grey(image, remap, channel)


def decode(name: str | Path, content: bytes, *, remap: Remap = "percentile", channel: str | int | None = None) -> Grey:
    """Decode the content of an image file to uint8 [H, W], as `read` does.

    Args:
        name: names it in errors.
        content: the whole file.
        remap: as for `read`.
        channel: as for `read`.

    Raises:
        ImageError: as `read`.

    """
    with sar_files.open(name, content) as image:
        return to_grey(image, remap, channel)


def to_grey(image: SarImage, remap: Remap = "percentile", channel: str | int | None = None) -> Grey:
    """Bring an open image to uint8 [H, W], strip by strip; raises ImageError."""
    height, width = image.shape
    check_pixels(image.name, height, width)
    scale = scale_of(image, remap, channel)
    grey = np.empty((height, width), np.uint8)
    for rows in strips(height, width, multiple_of=image.block_rows):
        values = image.read(((rows.start, rows.stop), (0, width)), channel)
        grey[rows] = values if scale is None else scale.grey(values)
    return grey


def scale_of(image: SarImage, remap: Remap = "percentile", channel: str | int | None = None) -> GreyScale | None:
    """Find the grey scale of an open image; None if it has grey values already. Raises ImageError."""
    if image.is_eight_bit(channel):
        return None
    with refused(image.name):
        return GreyScale.of(image.sample(channel), is_no_data_declared=image.is_no_data_declared, remap=remap)


def check_file(path: Path) -> None:
    """Refuse what is no file, or has more bytes than an image of `max_pixels` can need.

    Raises:
        ImageError: naming it.

    """
    if not is_file(path):
        raise ImageError(f"{path}: no such file")
    if path.stat().st_size > max_bytes():
        raise ImageError(f"{path} has {path.stat().st_size:,} bytes: {too_large()}")
