"""Which images cannot be read, known to all loader workers of a process, and how many are too many."""

import sys
from collections.abc import Callable

import torch

from saratrx.errors import InputError
from saratrx.reporting import get_logger, printable

log = get_logger(__name__)


class BadImages:
    """Flags of the unreadable images.

    Args:
        total: N, images of the data set.
        max_bad: share of unreadable images that is tolerated.

    Attributes:
        flags: bool [N], in shared memory, since loader workers outlive an epoch: what one marks, all see.

    """

    def __init__(self, total: int, max_bad: float) -> None:
        self.max_bad = max_bad
        self.flags = torch.zeros(total, dtype=torch.bool).share_memory_()
        self.named = torch.zeros(total, dtype=torch.bool).share_memory_()

    def is_flagged(self, index: int) -> bool:
        """Whether an image is known to be unreadable."""
        return bool(self.flags.numpy()[index])  # several times faster than through the tensor

    def mark(self, index: int, reason: str) -> None:
        """Flag an image, and say why once in a run; on stderr, since only the main process has a stdout."""
        self.flags[index] = True
        if not self.named[index]:
            self.named[index] = True
            print(printable(f"skipped: {reason}"), file=sys.stderr, flush=True)

    def mark_known(self, reasons: dict[int, str]) -> None:
        """Flag images that every process knows of, by index; the main process says why, on stdout."""
        for index, reason in reasons.items():
            self.flags[index] = self.named[index] = True
            log.info("skipped: %s", reason)

    def check(self, name: Callable[[int], str]) -> None:
        """Refuse to go on with too many unreadable images.

        Args:
            name: gives the name of the image with an index.

        Raises:
            InputError: if they are more than `max_bad` of all.

        """
        count, total = int(self.flags.sum()), len(self.flags)
        if count > self.max_bad * total:
            first = int(self.flags.nonzero()[0])
            raise InputError(
                f"at least {count} of {total} images cannot be read, such as {name(first)}: more than "
                f"--max_bad {self.max_bad:g} allows; fix or remove them"
            )
