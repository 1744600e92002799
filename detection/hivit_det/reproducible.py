"""What is random in an epoch follows from the seed and its number: a resumed run goes on with the same numbers."""

import random

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import FUNCTIONS, HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class SeedEachEpoch(Hook):
    """Seeds Python, NumPy and PyTorch at the start of each epoch, every process with other numbers."""

    priority = "VERY_HIGH"

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed by the run's seed, the epoch and the process."""
        parts = (runner.seed, runner.epoch, get_rank())
        seed_all(int(np.random.SeedSequence(parts).generate_state(1)[0]))


@FUNCTIONS.register_module()
def seed_worker(worker_id: int, **kwargs: object) -> None:
    """Seed a loader's worker by what its process has drawn for it; for `worker_init_fn`, without persistent workers."""
    seed_all(torch.initial_seed() % 2**32)


def seed_all(seed: int) -> None:
    """Seed all generators; 0 <= seed < 2 ** 32."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
