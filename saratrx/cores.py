"""The cores that a process may use, and how its threads share them with other processes.

Threads that have done their part of a parallel loop spin for a while, since the next loop mostly comes at once. Alone
that is fastest; where another process wants the core, it is taken from the thread that all wait for. GNU's OpenMP, by
which PyTorch computes, reads how long to spin once, from GOMP_SPINCOUNT; but it hardly spins while a process has more
threads in its teams than cores. So the spin is made short, and while threads of this process wait for cores, a further
team is kept, which does nothing. The number of threads that compute stays as it is, and with it every result.
"""

import atexit
import math
import os
import sys
import threading
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

SPINS = "10000"  # about a tenth of a millisecond; GNU's default is 300,000
CHECK_SECONDS = 0.5
CONTENDED, QUIET = 0.1, 0.03  # cores waited for, on average, from which a further team is kept, and below which not
COMPUTING = threading.Lock()  # by a thread that is aborted, and the process with it, if Python ends meanwhile
PROCESS, LIMITS = Path("/proc/self"), Path("/sys/fs/cgroup")  # where Linux tells of a process, and of a container


def available() -> int:
    """Count the cores that this process may use: those it may run on, or fewer where a container limits its time."""
    return min([len(os.sched_getaffinity(0)), *map(math.ceil, time_limits(PROCESS, LIMITS))])


def time_limits(process: Path, limits: Path) -> Iterator[float]:
    """Give the seconds a second that control groups of either version leave a process; nothing where there are none."""
    try:
        groups = (process / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            top, read = limits, version_2
        elif "cpu" in controllers.split(","):
            top, read = limits / "cpu", version_1
        else:
            continue
        lowest = top / path.lstrip("/")
        for folder in (lowest, *lowest.parents):
            try:
                quota, period = read(folder)
            except (OSError, ValueError):  # none here, as in a container, which sees its own group as the top
                pass
            else:
                if quota > 0:
                    yield quota / period
            if folder == top:
                break


def version_2(folder: Path) -> tuple[int, int]:
    """Read quota and period; raises ValueError for "max", which is none."""
    quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
    return int(quota), int(period)


def version_1(folder: Path) -> tuple[int, int]:
    """Read quota, -1 for none, and period."""
    quota, period = (int((folder / f"cpu.cfs_{name}_us").read_text(encoding="utf-8")) for name in ("quota", "period"))
    return quota, period


def share_cores() -> None:
    """Use the cores that are given, and leave them to others while threads only wait; before PyTorch is imported.

    OMP_NUM_THREADS, GOMP_SPINCOUNT and OMP_WAIT_POLICY stay as the user has set them.
    """
    if available() < len(os.sched_getaffinity(0)):
        os.environ.setdefault("OMP_NUM_THREADS", str(available()))
    if "OMP_WAIT_POLICY" not in os.environ and os.environ.setdefault("GOMP_SPINCOUNT", SPINS) == SPINS:
        start_watching()


@cache  # once in a process
def start_watching() -> None:
    """Let a thread `watch`."""
    atexit.register(COMPUTING.acquire)
    threading.Thread(target=watch, name="watch of cores", daemon=True).start()


def watch() -> None:
    """Keep a further team while threads of this process wait for cores."""
    kept: threading.Event | None = None
    before, then = seconds_waited(PROCESS), time.monotonic()
    while True:
        time.sleep(CHECK_SECONDS)
        waited, now = seconds_waited(PROCESS), time.monotonic()
        share = sum(seconds - before.get(thread, 0) for thread, seconds in waited.items()) / (now - then)
        before, then = waited, now
        if kept is None and share > CONTENDED and "torch" in sys.modules:
            kept = threading.Event()
            threading.Thread(target=keep_team, args=(kept,), daemon=True).start()
        elif kept is not None and share < QUIET:
            kept.set()
            kept = None


def seconds_waited(process: Path) -> dict[str, float]:
    """Give the seconds that each thread of a process was ready and had no core; nothing where Linux does not tell."""
    waited = {}
    for task in process.glob("task/*"):
        try:
            waited[task.name] = int((task / "schedstat").read_text(encoding="utf-8").split()[1]) / 1e9
        except (OSError, IndexError):  # it has ended meanwhile
            continue
    return waited


def keep_team(released: threading.Event) -> None:
    """Make this thread the head of a team of its own until it is released."""
    with COMPUTING:
        import torch  # noqa: PLC0415 -- somebody has imported it, or is about to be done

        torch.zeros(2**20).add_(1)  # long enough for all threads
    released.wait()
