"""Notice that the cluster wants its machine back: SIGTERM, or SIGUSR1 as Slurm sends it ahead of time."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODE = os.EX_TEMPFAIL  # 75: "try again later"; slurm_pretrain.sh requeues the job on it
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Preempted(Exception):  # noqa: N818 - not an error
    """The run saved its state and ends because a signal asked it to."""


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
        self.received = signal.Signals(number).name
