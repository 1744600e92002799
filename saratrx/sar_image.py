"""Read a SAR image file of any common kind to 8-bit amplitude.

8-bit files are taken as they are (colours by the ITU-R 601 luma, transparency dropped). Everything else, 16-bit, float
or complex, goes through one documented remap, `to_uint8`.
"""

from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from saratrx.errors import InputError, first_line

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".npy"})  # compared in lower case
Grey = NDArray[np.uint8]
Values = NDArray[Any]

CLIPPED_PERCENT = 0.5  # of the pixels are saturated by the remap: amplitude is heavy-tailed
EIGHT_BIT_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"})


class ImageError(InputError):
    """A file that is no readable image with one channel."""


def read(path: str | Path) -> Grey:
    """Read an image file to uint8 [H, W].

    PNG, TIFF, JPEG and BMP of 8 bits, 16 bits or float, and `.npy` (real or complex; [H, W], [1, H, W] or [H, W, 1]).
    What is not 8-bit is remapped by `to_uint8`.

    Raises:
        ImageError: for a file that is missing, torn, empty, of another kind, or that has several channels of more than
            8 bits.

    """
    path = Path(path)
    if not path.is_file():
        raise ImageError(f"{path}: no such file")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}") from error
    return decode(path, content)


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
            values = np.load(BytesIO(content), allow_pickle=False)
        else:
            values = decode_image_file(content)
    except Exception as error:  # a damaged file makes its parser raise anything at all
        raise ImageError(f"{name} cannot be read as an image: {first_line(error)}") from error
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values.squeeze(0 if values.shape[0] == 1 else 2)
    if values.ndim != 2 or values.size == 0 or values.dtype.kind not in "buifc":
        raise ImageError(
            f"{name} holds {values.dtype} values of shape {list(values.shape)}, not one channel [H, W]; "
            "save the channel to be used on its own"
        )
    try:
        return values if values.dtype == np.uint8 else to_uint8(values)
    except ValueError as error:
        raise ImageError(f"{name}: {error}") from error


def to_uint8(values: Values) -> Grey:
    """Remap amplitudes of any scale to uint8, linearly and with the brightest 0.5 % saturated.

    Black is 0 for values that are nowhere negative (amplitude, intensity, counts), else the darkest 0.5 % (decibels).
    Complex values become magnitudes; values that are not finite (no data) become black.

    Args:
        values: real or complex, any shape.

    Raises:
        ValueError: if no value is finite.

    """
    return to_grey(values, *grey_limits(values))


def grey_limits(values: Values) -> tuple[float, float]:
    """Find the amplitudes that `to_uint8` makes black and white; equal if all values are alike.

    Raises:
        ValueError: if no value is finite.

    """
    amplitude = np.abs(values) if values.dtype.kind == "c" else values
    amplitude = amplitude[np.isfinite(amplitude)].astype(np.float64)
    if not amplitude.size:
        raise ValueError("has no finite value")
    black, white = np.percentile(amplitude, (CLIPPED_PERCENT, 100 - CLIPPED_PERCENT))
    if amplitude.min() >= 0:
        black = 0.0
    if white <= black:  # nearly all pixels are alike: what stands out must stay visible
        white = amplitude.max()
    return float(black), float(white)


def to_grey(values: Values, black: float, white: float) -> Grey:
    """Amplitudes between `black` and `white` to uint8, linearly; what is not finite becomes black."""
    amplitude = np.abs(values) if values.dtype.kind == "c" else values
    if white <= black:
        return np.zeros(amplitude.shape, np.uint8)
    scaled = (np.where(np.isfinite(amplitude), amplitude, black).astype(np.float64) - black) / (white - black)
    return np.rint(255 * scaled.clip(0, 1)).astype(np.uint8)


def decode_image_file(content: bytes) -> Values:
    """Decode an image file to uint8 [H, W] if it has 8 bits, else to its own type, [H, W] or [H, W, C]."""
    try:
        image = Image.open(BytesIO(content))
    except UnidentifiedImageError:  # float64 and multi-band TIFF, which Pillow does not know
        return decode_with_opencv(content)
    with image:
        sixteen_bit = ";16" in str(image.tile)  # Pillow would cut 16-bit colours down to 8 in silence
        if image.mode in EIGHT_BIT_MODES and not sixteen_bit:
            return np.array(image.convert("L"))
        if image.mode in EIGHT_BIT_MODES:
            return decode_with_opencv(content)
        return np.array(image)


def decode_with_opencv(content: bytes) -> Values:
    """Decode an image file to its own type, [H, W] or [H, W, C]."""
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED) if content else None
    if image is None:
        raise ValueError("it is empty, torn or of an unknown format")
    return image
