"""Optimizers and learning rates."""

from dassl.optim.lr_scheduler import build_lr_scheduler as build_lr_scheduler
from dassl.optim.optimizer import build_optimizer as build_optimizer
