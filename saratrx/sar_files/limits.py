"""How large an image may be, and the error of a file that is no image."""

import os
from pathlib import Path

from saratrx.errors import InputError

MAX_PIXELS = 2**29  # of an image in memory: 5e8, enough for scenes of 24,000 x 16,000
BYTES_OF_A_PIXEL = 16  # at most, of complex128


class ImageError(InputError):
    """A file that is no readable image with one channel."""


class FormatError(ValueError):
    """A file that cannot be read; the text goes on from the file's name."""


def max_pixels() -> int:
    """Give the largest number of pixels that an image in memory may have: SARATRX_MAX_PIXELS, or 2^29.

    Raises:
        InputError: if the variable is no number above 0.

    """
    said = os.environ.get("SARATRX_MAX_PIXELS", str(MAX_PIXELS))
    if not said.isascii() or not said.isdigit() or int(said) == 0:
        raise InputError(f"SARATRX_MAX_PIXELS={said}: must be a number of pixels")
    return int(said)


def max_bytes() -> int:
    """Give the bytes of the largest image that may be in memory."""
    return BYTES_OF_A_PIXEL * max_pixels()


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
