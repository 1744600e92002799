"""Read a SAR image file of any common kind to 8-bit amplitude: one reader for all stages.

8-bit files are taken as they are (colours by the ITU-R 601 luma, transparency dropped). Everything else, 16-bit, float
or complex, goes through one documented remap, `grey_scale.GreyScale`. Each format has one parser, chosen by the file's
first bytes, and sees nothing but the file. What is larger than `max_pixels` is refused before it is decoded.
"""

import os
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from saratrx.errors import InputError, first_line
from saratrx.files import is_file
from saratrx.grey_scale import Grey, Values, strips, to_uint8

if TYPE_CHECKING:
    from saratrx.tiff import Tiff

# rasterio's, whose import waits for the first TIFF: chips have no place on a map
warnings.filterwarnings("ignore", message="Dataset has no geotransform")
EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".npy"})  # compared in lower case
MAX_PIXELS = 2**29  # of an image in memory: 5e8, enough for scenes of 24,000 x 16,000
BYTES_OF_A_PIXEL = 16  # at most, of complex128
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two of BigTIFF
PILLOWS: dict[bytes, Callable[[BytesIO], ImageFile]] = {
    b"\x89PNG\r\n\x1a\n": PngImageFile,
    b"\xff\xd8\xff": JpegImageFile,
    b"BM": BmpImageFile,
}
EIGHT_BIT_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})


class ImageError(InputError):
    """A file that is no readable image with one channel."""


def read(path: str | Path) -> Grey:
    """Read an image file to uint8 [H, W].

    PNG, TIFF, JPEG and BMP of 8 bits, 16 bits or float, and `.npy` (real or complex; [H, W], [1, H, W] or [H, W, 1]).
    What is not 8-bit is remapped by `GreyScale`.

    Raises:
        ImageError: for a file that is missing, torn, empty, too large, of another kind, or that has several channels of
            amplitude.

    """
    path = Path(path)
    check_file(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}") from error
    return decode(path, content)


def check_file(path: Path) -> None:
    """Refuse what is no file, or has more bytes than an image of `max_pixels` can need.

    Raises:
        ImageError: naming it.

    """
    if not is_file(path):
        raise ImageError(f"{path}: no such file")
    if path.stat().st_size > BYTES_OF_A_PIXEL * max_pixels():
        raise ImageError(f"{path} has {path.stat().st_size:,} bytes: {too_large()}")


def decode(name: str | Path, content: bytes) -> Grey:
    """Decode the content of an image file to uint8 [H, W], as `read` does.

    Args:
        name: names it in errors; its extension tells `.npy` from the rest.
        content: the whole file.

    Raises:
        ImageError: as `read`.

    """
    try:
        if Path(name).suffix.lower() == ".npy":
            return grey_array(name, parse_array(name, content))
        if content.startswith(TIFF_STARTS):
            return decode_tiff(name, content)
        return decode_by_pillow(name, content)
    except ImageError:
        raise
    except Exception as error:  # a damaged file makes its parser raise anything at all
        raise ImageError(f"{name} cannot be read as an image: {first_line(error)}") from error


def max_pixels() -> int:
    """Give the largest number of pixels that an image in memory may have: SARATRX_MAX_PIXELS, or 2^29.

    Raises:
        InputError: if the variable is no number above 0.

    """
    said = os.environ.get("SARATRX_MAX_PIXELS", str(MAX_PIXELS))
    if not said.isascii() or not said.isdigit() or int(said) == 0:
        raise InputError(f"SARATRX_MAX_PIXELS={said}: must be a number of pixels")
    return int(said)


def too_large() -> str:
    """Say what to do about an image that is too large."""
    return f"more than SARATRX_MAX_PIXELS={max_pixels()} allows; cut it into parts, or set that variable"


def check_pixels(name: str | Path, height: int, width: int) -> None:
    """Refuse an image that is too large for the memory.

    Raises:
        ImageError: naming it and the limit.

    """
    if height * width > max_pixels():
        raise ImageError(f"{name} has {height:,} x {width:,} pixels: {too_large()}")


def decode_tiff(name: str | Path, content: bytes) -> Grey:
    """Decode the content of a TIFF to uint8 [H, W]; raises ImageError."""
    from saratrx.tiff import TiffError  # noqa: PLC0415 -- as below

    with open_tiff(name, content) as tiff:
        check_pixels(name, tiff.height, tiff.width)
        try:
            return tiff.whole()
        except TiffError as error:
            raise ImageError(f"{name} {error}") from error


def open_tiff(name: str | Path, source: Path | bytes) -> "Tiff":
    """Open a TIFF for reading in windows.

    Args:
        name: names it in errors.
        source: the file's path, or its content.

    Raises:
        ImageError: if it is no TIFF, torn, has several bands of amplitude, or blocks larger than `max_pixels`.

    """
    from saratrx.tiff import Tiff, TiffError  # noqa: PLC0415 -- with GDAL, which other images can do without

    try:
        tiff = Tiff(source)
    except TiffError as error:
        raise ImageError(f"{name} {error}") from error
    try:
        check_pixels(f"{name}: a block of it", *tiff.file.block_shapes[0])
    except ImageError:
        tiff.close()
        raise
    return tiff


def parse_array(name: str | Path, content: bytes) -> Values:
    """Give the array of a `.npy` file, a view of its content, without unpickling.

    Raises:
        ImageError: if it is no such file, of other things than numbers, or not as long as its head says.

    """
    file = BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        read_head = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, kind = read_head(file)
    except Exception as error:
        raise ImageError(f"{name} cannot be read as an array: {first_line(error)}") from error
    values = int(np.prod(shape, dtype=object))
    if kind.kind not in "buifc" or values == 0:
        raise ImageError(not_one_channel(name, kind, shape))
    if min(shape, default=0) < 0 or len(content) - file.tell() < values * kind.itemsize:
        raise ImageError(f"{name} cannot be read as an array: it is torn")
    array = np.frombuffer(content, kind, values, file.tell())
    return array.reshape(shape, order="F" if is_fortran else "C")


def one_channel(name: str | Path, values: Values) -> Values:
    """Give an array as [H, W].

    Raises:
        ImageError: if it is no single channel of numbers.

    """
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values.squeeze(0 if values.shape[0] == 1 else 2)
    if values.ndim != 2 or values.size == 0 or values.dtype.kind not in "buifc":
        raise ImageError(not_one_channel(name, values.dtype, values.shape))
    return values


def not_one_channel(name: str | Path, kind: np.dtype[Any], shape: tuple[int, ...]) -> str:
    """Say what an array is instead of one channel."""
    return (
        f"{name} holds {kind} values of shape {list(shape)}, not one channel [H, W]; save the channel to be used on "
        "its own"
    )


def grey_array(name: str | Path, values: Values) -> Grey:
    """Bring an array to uint8 [H, W]."""
    values = one_channel(name, values)
    check_pixels(name, *values.shape)
    return np.array(values) if values.dtype == np.uint8 else to_uint8(values)


def decode_by_pillow(name: str | Path, content: bytes) -> Grey:
    """Decode PNG, JPEG or BMP to uint8 [H, W]; without Pillow's own limit, which scenes exceed.

    Raises:
        ImageError: if it is none of them, too large, or has several channels of 16 bits.

    """
    opener = next((kind for start, kind in PILLOWS.items() if content.startswith(start)), None)
    if opener is None:
        raise ImageError(f"{name} cannot be read as an image: it is empty, or no PNG, JPEG, TIFF, BMP or .npy file")
    with opener(BytesIO(content)) as image:
        check_pixels(name, image.height, image.width)
        is_eight_bit = image.mode in EIGHT_BIT_MODES
        if is_eight_bit and ";16" in str(image.tile):  # Pillow would cut 16-bit colours down to 8 in silence
            raise ImageError(
                f"{name} has {len(image.getbands())} channels of 16 bits, not one; save the one to be used on its own"
            )
        image.load()
        if not is_eight_bit:
            return to_uint8(np.asarray(image))
        grey = np.empty((image.height, image.width), np.uint8)
        for rows in strips(image.height, image.width):
            strip = image.crop((0, rows.start, image.width, rows.stop)) if len(grey) > rows.stop - rows.start else image
            grey[rows] = np.asarray(strip.convert("L"))
        return grey
