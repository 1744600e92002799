"""Images without labels, as they are given on a command line."""

from collections.abc import Sequence

from saratrx.errors import InputError, first_line
from saratrx.files import find_images, is_file, is_folder
from saratrx.reading import Reading
from saratrx.sar_image import ImageError


def find_all(paths: Sequence[str]) -> list[str]:
    """List images: files as they are given, and all in folders; each once.

    Raises:
        InputError: for a path that is not there, or a folder without images.

    """
    found: dict[str, None] = {}
    for path in paths:
        if not is_folder(path) and not is_file(path):
            raise InputError(f"images {path}: no such file or folder")
        found |= dict.fromkeys(find_images(path, "images") if is_folder(path) else [path])
    return list(found)


def split_readable(paths: Sequence[str], reading: Reading) -> tuple[list[str], dict[str, str]]:
    """Try to read images; give those that can be read, and what is wrong with the others."""
    readable: list[str] = []
    wrong: dict[str, str] = {}
    for path in paths:
        try:
            reading.read(path)
            readable.append(path)
        except ImageError as error:
            wrong[path] = first_line(error)
    return readable, wrong
