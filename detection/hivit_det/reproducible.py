"""What is random in an epoch follows from the seed and its number: a resumed run goes on with the same numbers."""

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import FUNCTIONS, HOOKS
from mmengine.runner import Runner

from saratrx.loader_workers import end_with_parent
from saratrx.seeds import derived_seed, seed_all


@HOOKS.register_module()
class SeedEachEpoch(Hook):
    """Seeds Python, NumPy and PyTorch at the start of each epoch, every process with other numbers."""

    priority = "VERY_HIGH"

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed by the run's seed, the epoch and the process."""
        seed_all(derived_seed(runner.seed, runner.epoch, get_rank()) % 2**32)


@FUNCTIONS.register_module()
def seed_worker(worker_id: int, **kwargs: object) -> None:
    """Seed a loader's worker by what its process has drawn for it, and let it end with that; for `worker_init_fn`.

    In training without persistent workers, whose numbers would follow from the epoch of the start.
    """
    end_with_parent(worker_id)
    seed_all(torch.initial_seed() % 2**32)
