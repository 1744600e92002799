"""MIM_linear: a linear probe on a frozen encoder, as published."""

from collections import OrderedDict
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import trunc_normal_
from torch import nn

from dassl.engine import TRAINER_REGISTRY
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from hivit_cls.trainers.base import FrozenTrainer
from saratrx.errors import InputError
from saratrx.hivit import layer_norm


class Probe(nn.Module):
    """What is trained: LayerNorm, BatchNorm without weights, linear layer; keys as in published classifiers.

    Args:
        width: D of the features.
        num_classes: C.

    """

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        linear = nn.Linear(width, num_classes)
        trunc_normal_(linear.weight, std=0.01)
        nn.init.zeros_(linear.bias)
        self.fc_norm = layer_norm(width)
        self.head = nn.Sequential(OrderedDict({"0": nn.BatchNorm1d(width, affine=False, eps=1e-6), "1": linear}))

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """Features [B, D] -> logits [B, C]."""
        return self.head(self.fc_norm(pooled))


@TRAINER_REGISTRY.register()
class MIM_linear(FrozenTrainer):  # noqa: N801 -- the published name
    """Linear probe of masked image modelling."""

    def build_model(self) -> None:
        if min(len(self.dm.dataset.train_x), self.cfg.DATALOADER.TRAIN_X.BATCH_SIZE) < 2:
            raise InputError("MIM_linear normalises over a batch: it needs two training images, and batches of two")
        self.probe = Probe(self.encoder.width, self.num_classes).to(self.device)
        self.optim = build_optimizer(self.probe, self.cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
        self.register_model("probe", self.probe, self.optim, self.sched)

    def forward_backward(self, batch: dict[str, Any]) -> dict[str, float]:
        images, labels = self.parse_batch_train(batch)
        logits = self.classify(self.pool(images))
        loss = F.cross_entropy(logits, labels)
        self.model_backward_and_update(loss)
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return {"loss": loss.item(), "acc": compute_accuracy(logits, labels)[0].item()}

    def classify(self, pooled: torch.Tensor) -> torch.Tensor:
        return self.probe(pooled)
