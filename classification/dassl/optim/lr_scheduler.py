"""Learning rates by epoch, from the OPTIM section of a config."""

from typing import Any

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR, StepLR
from yacs.config import CfgNode

from saratrx.errors import InputError

NAMES = ("single_step", "multi_step", "cosine")
WARMUP_TYPES = ("constant", "linear")


class Warmup(LRScheduler):
    """A few epochs of warm-up, then another schedule.

    Args:
        optimizer: whose rates are set.
        successor: the schedule that follows.
        epochs: of warm-up.
        kind: "constant", at `first_lr`; or "linear", from `first_lr` in the first epoch by k / epochs of the base rate.
        first_lr: see `kind`.

    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, successor: LRScheduler, epochs: int, kind: str, first_lr: float
    ) -> None:
        self.successor, self.epochs, self.kind, self.first_lr = successor, epochs, kind, first_lr
        super().__init__(optimizer)

    def get_lr(self) -> list[float | torch.Tensor]:
        if self.last_epoch >= self.epochs:
            return self.successor.get_last_lr()
        if self.kind == "constant" or self.last_epoch == 0:
            return [self.first_lr] * len(self.base_lrs)
        return [lr * self.last_epoch / self.epochs for lr in self.base_lrs]

    def step(self, epoch: int | None = None) -> None:
        """Go on by an epoch."""
        if self.last_epoch >= self.epochs:
            self.successor.step(epoch)
            self._last_lr = self.successor.get_last_lr()
        else:
            super().step(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, the successor's included."""
        return super().state_dict() | {"successor": self.successor.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        state_dict = dict(state_dict)
        self.successor.load_state_dict(state_dict.pop("successor"))
        super().load_state_dict(state_dict)


def build_lr_scheduler(optimizer: torch.optim.Optimizer, optim_cfg: CfgNode) -> LRScheduler:
    """Make the schedule; its `step` is called after each epoch.

    With WARMUP_RECOUNT the schedule proper begins at its beginning after the warm-up, else WARMUP_EPOCH epochs into it.

    Raises:
        InputError: for a schedule or warm-up that does not exist.

    """
    steps = optim_cfg.STEPSIZE
    steps = list(steps) if isinstance(steps, (list, tuple)) else [steps]
    scheduler: LRScheduler
    if optim_cfg.LR_SCHEDULER == "single_step":
        every = steps[-1] if steps[-1] > 0 else optim_cfg.MAX_EPOCH
        scheduler = StepLR(optimizer, step_size=every, gamma=optim_cfg.GAMMA)
    elif optim_cfg.LR_SCHEDULER == "multi_step":
        scheduler = MultiStepLR(optimizer, milestones=steps, gamma=optim_cfg.GAMMA)
    elif optim_cfg.LR_SCHEDULER == "cosine":
        scheduler = CosineAnnealingLR(optimizer, optim_cfg.MAX_EPOCH)
    else:
        raise InputError(f"OPTIM.LR_SCHEDULER {optim_cfg.LR_SCHEDULER}: unknown; choose one of {', '.join(NAMES)}")
    if optim_cfg.WARMUP_EPOCH <= 0:
        return scheduler
    if optim_cfg.WARMUP_TYPE not in WARMUP_TYPES:
        kinds = ", ".join(WARMUP_TYPES)
        raise InputError(f"OPTIM.WARMUP_TYPE {optim_cfg.WARMUP_TYPE}: unknown; choose one of {kinds}")
    if not optim_cfg.WARMUP_RECOUNT:
        scheduler.last_epoch = optim_cfg.WARMUP_EPOCH
    is_constant = optim_cfg.WARMUP_TYPE == "constant"
    first_lr = optim_cfg.WARMUP_CONS_LR if is_constant else optim_cfg.WARMUP_MIN_LR
    return Warmup(optimizer, scheduler, optim_cfg.WARMUP_EPOCH, optim_cfg.WARMUP_TYPE, first_lr)
