"""PNG, JPEG and BMP by Pillow: grey values of 8 bits, or one channel of 16; turned as an EXIF orientation says."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from saratrx.grey_scale import Values, strips
from saratrx.sar_files.image import SarImage, Window, cut
from saratrx.sar_files.limits import FormatError, check_pixels

KINDS: dict[bytes, Callable[[BinaryIO], ImageFile]] = {
    b"\x89P": PngImageFile,
    b"\xff\xd8": JpegImageFile,
    b"BM": BmpImageFile,
}
EIGHT_BIT_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})
ORIENTATION = 0x0112  # EXIF's tag
TURNS = {number: Image.Transpose(turn) for number, turn in ((2, 0), (3, 3), (4, 1), (5, 5), (6, 4), (7, 6), (8, 2))}


class Picture(SarImage):
    """A picture: colours become luma (ITU-R 601), transparency is dropped; scenes may exceed Pillow's own limit."""

    channels = ("grey",)

    def __init__(self, name: str | Path, file: BinaryIO) -> None:
        super().__init__(name, file)
        start = file.read(2)
        file.seek(0)
        picture = KINDS[start](file)
        check_pixels(name, picture.height, picture.width)
        self.has_grey_values = picture.mode in EIGHT_BIT_MODES
        if self.has_grey_values and ";16" in str(picture.tile):  # Pillow would cut them down to 8 in silence
            raise FormatError(
                f"has {len(picture.getbands())} channels of 16 bits, not one; save the one to be used on its own"
            )
        turn = turn_of(picture)
        picture.load()
        self.picture: Image.Image = picture if turn is None else picture.transpose(turn)
        self.shape = self.picture.height, self.picture.width
        self.dtypes = (np.dtype(np.uint8) if self.has_grey_values else np.asarray(self.picture).dtype,)

    def band(self, number: int, window: Window) -> Values:
        (top, bottom), (left, right) = window
        if not self.has_grey_values:
            return cut(np.asarray(self.picture), window)
        grey = np.empty((bottom - top, right - left), np.uint8)
        is_whole = window == ((0, self.shape[0]), (0, self.shape[1]))
        for rows in strips(*grey.shape):  # converted at once, a scene of colours would take four times its bytes
            if is_whole and len(grey) == rows.stop - rows.start:
                part = self.picture
            else:
                part = self.picture.crop((left, top + rows.start, right, top + rows.stop))
            grey[rows] = np.asarray(part.convert("L"))
        return grey


def turn_of(picture: Image.Image) -> Image.Transpose | None:
    """Give what brings a picture upright; None if it is, or if its EXIF is damaged."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return TURNS.get(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # of a part that nothing else needs
        return None
