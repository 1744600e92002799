"""Short progress: a line now and then on the terminal, everything in the log."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import Any, Protocol

from dassl.utils.logger import Logger
from saratrx.reporting import get_logger

log = get_logger(__name__)
SECONDS = 10.0  # between two lines


class Batches(Iterable[Any], Sized, Protocol):
    """What a loader is to `Progress`."""


class Progress:
    """Goes through batches, and says every ten seconds how far it has come; what takes less time says nothing.

    Args:
        batches: a loader.
        what: is done.
        total: number of images.

    """

    def __init__(self, batches: Batches, what: str, total: int) -> None:
        self.batches, self.what, self.total = batches, what, total

    def __iter__(self) -> Iterator[Any]:
        begun = said = time.monotonic()
        for number, batch in enumerate(self.batches):
            yield batch
            now = time.monotonic()
            if now - said >= SECONDS:
                share = (number + 1) / len(self.batches)
                left = (now - begun) / share * (1 - share)
                log.info(f"{self.what}: {share:.0%} of {self.total:,} images, {left:.0f} s left")
                said = now


class Occasional:
    """Lets a line through to the terminal every ten seconds; the log gets all of them."""

    def __init__(self) -> None:
        self.said = time.monotonic()

    def info(self, text: str, *, is_last: bool = False) -> None:
        """Tell something; what is last is always told."""
        now = time.monotonic()
        if not is_last and isinstance(sys.stdout, Logger) and now - self.said < SECONDS:
            sys.stdout.write_to_file(text + "\n")
            return
        self.said = now
        log.info(text)
