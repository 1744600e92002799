"""End all processes of a run, with a message, when one of them has died or hangs.

A process that waits for a dead one in a collective operation would wait for as long as the operation may take, which is
hours where one process may be saving to a slow disk. So each process has a thread that tells the others, through the
store by which they met, that it lives and what it is doing. The main process judges; the others look at its verdict.
"""

import atexit
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, NoReturn

import torch.distributed as dist
from torch._C._distributed_c10d import Store

from saratrx.errors import first_line

BUSY_SECONDS = 7200.0  # limit of work that is known to take long: compiling, saving, building a cache
PATIENCE = 5  # a step may take this many times the longest one so far
LATENESS = 3  # a process may start later than the first one by this many times what it may be silent for
QUIET = 3  # intervals without a word, after which a process may be about to count as gone
VERDICT = "watchdog/verdict"


class Watchdog:
    """The thread, and what it tells about this process.

    Args:
        store: by which the processes met; None for a single process, which nobody waits for.
        rank, world_size: this process among all.
        seconds: without progress, after which a process counts as hung; 0 disables the thread.

    """

    def __init__(self, store: Store | None, rank: int, world_size: int, seconds: float) -> None:
        self.rank, self.world_size, self.seconds = rank, world_size, seconds
        self.doing, self.is_busy = "starting", False
        self.beats, self.longest, self.last_beat = 0, 0.0, time.monotonic()
        self.verdict = ""  # why all processes end, once the main process has judged
        self.thread: threading.Thread | None = None
        self.asking = threading.Lock()  # while the store is asked: Python must not end in it, which aborts the process
        if store is not None and seconds:
            self.store = store.clone()  # type: ignore[attr-defined]  # PyTorch's stub lacks it; a connection beside the main thread's
            self.store.set_timeout(timedelta(seconds=seconds))
            self.interval = min(5.0, seconds / 10)
            self.parent = os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else None
            self.published = 0
            self.others: dict[int, tuple[str, float]] = {}  # what each process published last, and when it was new
            self.closing = threading.Event()
            self.thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self.thread.start()
            atexit.register(self.asking.acquire)

    def beat(self, doing: str) -> None:
        """Tell that there was progress, and what comes next; all processes beat alike."""
        now = time.monotonic()
        if not self.is_busy:
            self.longest = max(self.longest, now - self.last_beat)
            self.doing = doing
        self.beats, self.last_beat = self.beats + 1, now

    @contextmanager
    def busy(self, doing: str) -> Iterator[None]:
        """Within this context much time may pass without progress."""
        self.doing, self.is_busy, self.last_beat = doing, True, time.monotonic()
        yield
        self.doing, self.is_busy, self.last_beat = f"after {doing}", False, time.monotonic()

    def close(self) -> None:
        """Tell that this process has done its part, and stop watching."""
        if self.thread is not None:
            self.closing.set()
            self.thread.join()
            self.thread = None

    def end_after_lost_connection(self, error: Exception) -> NoReturn:
        """End this process since a collective operation failed, and say which process is the cause if that is known.

        A hung process that has read the verdict ends, and closes its connections: others may notice that before they
        have read the verdict themselves.
        """
        if self.verdict and self.thread is not None:
            self.thread.join()  # it gives the others time to read the verdict, and then ends this process
        if self.thread is not None and self.rank and not self.verdict:
            with suppress(dist.DistError, RuntimeError), self._deadline():  # the store may be gone with its host
                if self.store.check([VERDICT]):
                    self.verdict = self.store.get(VERDICT).decode()
        end(self.verdict or f"another process has ended or cannot be reached ({first_line(error)})")

    def _watch(self) -> None:
        try:
            while not self.closing.wait(self.interval):
                if self.parent is not None and os.getppid() != self.parent:
                    end("the launcher of this process is gone")
                with self._deadline():
                    self._publish()
                    self._judge() if self.rank == 0 else self._obey()
            with self._deadline():
                self._publish(is_done=True)
        except (dist.DistError, RuntimeError) as error:  # of the store: a RuntimeError in some of its parts
            if not self.closing.is_set():
                end(f"the process or launcher by which all processes met is gone ({first_line(error)})")

    @contextmanager
    def _deadline(self) -> Iterator[None]:
        """End this process if the store does not answer: some of its operations wait for ever."""
        reason = f"the process by which all processes met has not answered for {self.seconds:.0f} s"
        timer = threading.Timer(self.seconds, end, [reason])
        timer.daemon = True
        timer.start()
        try:
            with self.asking:
                yield
        finally:
            timer.cancel()

    def _publish(self, is_done: bool = False) -> None:
        idle = time.monotonic() - self.last_beat
        limit = BUSY_SECONDS if self.is_busy else max(self.seconds, PATIENCE * self.longest)
        self.published += 1
        state = {
            "published": self.published,
            "host": socket.gethostname(),
            "doing": self.doing,
            "beats": self.beats,
            "idle": idle,
            "is_busy": self.is_busy,
            "is_stuck": idle > limit,
            "is_done": is_done,
        }
        self.store.set(f"watchdog/{self.rank}", json.dumps(state))

    def _state(self, rank: int) -> tuple[dict[str, Any], float]:
        """Read what a process published last, and the seconds since that was new."""
        key, now = f"watchdog/{rank}", time.monotonic()
        text = self.store.get(key).decode() if self.store.check([key]) else "{}"
        if text != self.others.get(rank, ("", 0.0))[0]:
            self.others[rank] = (text, now)
        return json.loads(text), now - self.others[rank][1]

    def _judge(self) -> None:
        states = {rank: self._state(rank) for rank in range(self.world_size)}
        running = {rank: state for rank, (state, _) in states.items() if not state.get("is_done")}
        for rank, state in running.items():
            silent = states[rank][1]
            if state and silent > self.seconds:
                self._sentence(f"process {rank} on {state['host']} has given no sign of life for {silent:.0f} s")
            if not state and silent > LATENESS * self.seconds:
                self._sentence(f"process {rank} has not come for {silent:.0f} s")
        if not running or any(state.get("is_busy", True) for state in running.values()):
            return
        if any(states[rank][1] > QUIET * self.interval for rank in running):
            return  # it is the one that stands still, or speaks again: a moment will tell
        if any(state["is_stuck"] for state in running.values()):
            # The culprit is behind: the others have told of their next step, and wait for it
            behind = min(state["beats"] for state in running.values())
            culprits = [rank for rank, state in running.items() if state["beats"] == behind]
            what = "; ".join(
                f"process {rank} on {running[rank]['host']}: {running[rank]['doing']}" for rank in culprits
            )
            idle = max(running[rank]["idle"] for rank in culprits)
            self._sentence(f"no progress for {idle:.0f} s ({what})")

    def _sentence(self, reason: str) -> NoReturn:
        self.verdict = reason  # first: the others end as soon as they read it, and the main thread must not be faster
        self.store.set(VERDICT, reason)
        time.sleep(2 * self.interval)  # for the others to read it, should this process hold the store
        end(reason)

    def _obey(self) -> None:
        if self.store.check([VERDICT]):
            end(self.store.get(VERDICT).decode())
        state, silent = self._state(0)
        if silent > self.seconds and not state.get("is_done"):
            end(f"process 0 has given no sign of life for {silent:.0f} s")


def end(reason: str) -> NoReturn:
    """End this process at once: its main thread may never come back."""
    print(f"error: {reason}: this process ends; start the run again with --resume auto", file=sys.stderr, flush=True)
    os._exit(1)
