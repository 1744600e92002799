"""Notice that a run has to end: SIGTERM, SIGUSR1 as Slurm sends it ahead of time, or SIGINT, a person's Ctrl-C."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from saratrx.errors import INTERRUPTED

EXIT_CODE = os.EX_TEMPFAIL  # 75: "try again later"; slurm_pretrain.sh requeues the job on it
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class Preempted(Exception):  # noqa: N818 - not an error
    """The run saved its state and ends because a signal asked it to; `code` is then its exit code."""

    def __init__(self, text: str, received: str) -> None:
        super().__init__(text)
        self.code = INTERRUPTED if received == "SIGINT" else EXIT_CODE


class Preemption:
    """Which signal came, if any: `received` is its name, or ""."""

    def __init__(self) -> None:
        self.received = ""

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Note the signals within this context instead of dying of them."""
        before = {number: signal.signal(number, self._note) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and self.received:  # the second Ctrl-C does not wait for the step
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name
