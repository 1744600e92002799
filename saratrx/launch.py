"""torchrun that leaves the last word to the processes: their sentence and exit code, without a traceback of its own.

python -m saratrx.launch --standalone --nproc_per_node 8 main_pretrain.py --data_path DIR ...
"""

import logging
import sys

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main


def launch() -> int:
    """Run torchrun by the command line; give the exit code of the process that failed first, 0 if none did."""
    logging.disable(logging.ERROR)  # torchrun reports each signal that it sends
    try:
        main()
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode >= 0:
            return int(failure.exitcode)
        print(f"error: process {rank} was ended by signal {-failure.exitcode}", file=sys.stderr, flush=True)
        return 128 - int(failure.exitcode)
    return 0


if __name__ == "__main__":
    sys.exit(launch())
