"""The end of the groups by which processes share their work."""

import gc

# its functions have the group as a default, for ever if they are defined while there is one, as when DDP imports them
import torch.distributed.nn.functional  # noqa: F401
from torch import distributed


def end_groups() -> None:
    """End all groups, if there are any, and their threads.

    A thread of Gloo gives up the tensors of its last work after it has told that this is done. If it does so while
    Python ends, the process is aborted (SIGABRT), so the threads must be gone by then. They end with the last that
    holds the group, mostly a model that is wrapped for several processes: no function that still runs may keep one.
    """
    if distributed.is_initialized():
        distributed.destroy_process_group()
        gc.collect()
