"""Loader's worker processes: none outlives its run, and what it means when one dies, in one sentence."""

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from saratrx.errors import InputError, first_line

# What PyTorch says of a worker that was killed, and of shared memory that has no room
SIGNS = ("DataLoader worker", "shared memory(shm)", "unable to open shared memory", "unable to mmap", "</torch_")
PR_SET_PDEATHSIG = 1  # of Linux's prctl


def end_with_parent(_worker: int) -> None:
    """Have the system end this worker when its run dies, however it does; for `worker_init_fn`, on Linux.

    PyTorch's workers look for their parent only while they wait for work: one whose results nobody fetches would stay.
    """
    parent = multiprocessing.parent_process()
    if sys.platform == "linux" and parent is not None:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent.pid:  # it died before
            os._exit(1)


@contextmanager
def lost_workers_named(option: str) -> Iterator[None]:
    """Turn what PyTorch says of loader processes that have died into one sentence with what to do.

    Args:
        option: asks for no workers, such as "--num_workers 0".

    Raises:
        InputError: in the place of such an error.

    """
    try:
        yield
    except (RuntimeError, OSError) as error:
        if not any(sign in str(error) for sign in SIGNS):
            raise
        raise InputError(
            f"a loader process was lost ({first_line(error)[:120]}): /dev/shm is too small, or memory ran out; give "
            f"the container more with --shm-size 2g, or set {option}"
        ) from error
