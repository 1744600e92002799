"""Images whose names say what they were taken under."""

import os
import re
from pathlib import Path

from saratrx.errors import InputError
from saratrx.files import visible_files


def images_below(folder: Path, suffix: str) -> list[str]:
    """List the images in a folder and those below it, sorted.

    Args:
        folder: to be searched.
        suffix: of the images, in lower case.

    Raises:
        InputError: if there is none.

    """
    found = [os.path.join(place, name) for place, names in visible_files(folder) for name in names]
    paths = sorted(path for path in found if path.lower().endswith(suffix))
    if not paths:
        raise InputError(f"{folder}: no {suffix} image there or below")
    return paths


def parsed(path: str, scheme: re.Pattern[str], example: str) -> re.Match[str]:
    """Read the name of an image.

    Args:
        path: of the image.
        scheme: of the whole name.
        example: a name that follows it, for the error.

    Raises:
        InputError: if the name does not follow it.

    """
    found = scheme.fullmatch(os.path.basename(path))  # noqa: PTH119 -- asked for every image
    if found is None:
        raise InputError(f"{path}: its name must be of the form {example}; rename it, or take it out of the folder")
    return found
