"""MIM_finetune: the whole encoder is trained further, deep layers faster than shallow ones."""

from typing import Any

import torch
import torch.nn.functional as F

from dassl.engine import TRAINER_REGISTRY
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from hivit_cls.encoder import Classifier, build_encoder, precision
from hivit_cls.trainers.base import SarTrainer


@TRAINER_REGISTRY.register()
class MIM_finetune(SarTrainer):  # noqa: N801 -- the published name
    """Fine-tuning of masked image modelling, with layer-wise decay of the learning rate (BEiT, MAE)."""

    def build_model(self) -> None:
        options = self.cfg.TRAINER.MIM_FINETUNE
        self.model = build_encoder(self.cfg, num_classes=self.num_classes, drop_path_rate=options.DROP_PATH)
        self.model.to(self.device)
        groups = layer_decay_groups(self.model, self.cfg.OPTIM.LR, self.cfg.OPTIM.WEIGHT_DECAY, options.LAYER_DECAY)
        self.optim = build_optimizer(self.model, self.cfg.OPTIM, groups)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
        self.register_model("model", self.model, self.optim, self.sched)

    def forward_backward(self, batch: dict[str, Any]) -> dict[str, float]:
        images, labels = self.parse_batch_train(batch)
        logits = self.classify(self.pool(images))
        loss = F.cross_entropy(logits, labels, label_smoothing=self.cfg.TRAINER.MIM_FINETUNE.LABEL_SMOOTHING)
        self.model_backward_and_update(loss)
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return {"loss": loss.item(), "acc": compute_accuracy(logits, labels)[0].item()}

    def pool(self, images: torch.Tensor) -> torch.Tensor:
        with precision(self.cfg, self.device):
            return self.model.pool(images).float()

    def classify(self, pooled: torch.Tensor) -> torch.Tensor:
        return self.model.classify(pooled)


def layer_decay_groups(model: Classifier, lr: float, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
    """Parameter groups whose rate is lr * layer_decay ** (layers above); vectors are not decayed towards 0."""
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    top = model.decay_layer("head.weight")
    for name, parameter in model.named_parameters():
        layer, is_matrix = model.decay_layer(name), parameter.ndim > 1
        scaled = {"lr": lr * layer_decay ** (top - layer), "weight_decay": weight_decay if is_matrix else 0.0}
        groups.setdefault((layer, is_matrix), {"params": [], **scaled})["params"].append(parameter)
    return [groups[key] for key in sorted(groups)]
