"""What it means when a loader's worker process dies, in one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager

from saratrx.errors import InputError, first_line

# What PyTorch says of a worker that was killed, and of shared memory that has no room
SIGNS = ("DataLoader worker", "shared memory(shm)", "unable to open shared memory", "unable to mmap", "</torch_")


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
