"""Which of several channels is read, and what makes the values of images doubtful."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from saratrx import sar_files
from saratrx.command_line import option
from saratrx.grey_scale import Values, doubts
from saratrx.reading import Reading
from saratrx.reporting import get_logger
from saratrx.sar_files import SPAN, SarImage
from saratrx.sar_image import ImageError

log = get_logger(__name__)

SAMPLE = 8  # images of a folder whose values are looked at for doubts


def channel_option(more: str = "") -> Any:
    """Declare the option `channel: str` of a command, "" for the only one; see `command_line.option`."""
    return option(
        "",
        help=f"of images with several: its name, its number from 0, or {SPAN}, all of them as one{more}",
        metavar="NAME",
        default_text="the only one",
    )


def warn_of_doubts(where: str, paths: Sequence[str], reading: Reading) -> None:
    """Warn, in one line, if some of SAMPLE images of a folder hold what may be no amplitudes.

    Args:
        where: names the folder.
        paths: of all its images, of which evenly spread ones are looked at; unreadable ones do not count.
        reading: how they are read.

    """
    looked_at, doubtful = 0, []
    for place in np.linspace(0, len(paths) - 1, min(len(paths), SAMPLE)).round().astype(int):
        with suppress(ImageError), sar_files.open(paths[place]) as image:
            found = doubts_of(image, reading.channel, image.sample(reading.channel))
            looked_at += 1
            if found:
                doubtful.append(f"{paths[place]}: {'; '.join(found)}")
    if doubtful:
        log.warning(
            "%s: %d of %d images looked at are doubtful, such as %s", where, len(doubtful), looked_at, doubtful[0]
        )


def doubts_of(image: SarImage, channel: str | None, values: Values) -> list[str]:
    """Say what makes it doubtful that the values of a channel, some or all, are amplitudes; see `doubts`."""
    return doubts(values, None if image.takes_all(channel) else image.dtypes[image.number_of(channel)])
