"""MIM_finetune: the whole encoder is trained further, deep layers faster than shallow ones."""

from typing import Any

import torch
import torch.nn.functional as F

from dassl.engine import TRAINER_REGISTRY
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from hivit_cls.encoder import build_encoder, precision
from hivit_cls.trainers.base import SarTrainer
from saratrx.layer_decay import layer_decay_groups


@TRAINER_REGISTRY.register()
class MIM_finetune(SarTrainer):  # noqa: N801 -- the published name
    """Fine-tuning of masked image modelling, with layer-wise decay of the learning rate (BEiT, MAE)."""

    def build_model(self) -> None:
        options = self.cfg.TRAINER.MIM_FINETUNE
        model = build_encoder(self.cfg, num_classes=self.num_classes, drop_path_rate=options.DROP_PATH)
        self.model = model.to(self.device)
        groups = layer_decay_groups(
            model.named_parameters(),
            model.decay_layer,
            top=model.decay_layer("head.weight"),
            lr=self.cfg.OPTIM.LR,
            weight_decay=self.cfg.OPTIM.WEIGHT_DECAY,
            rate=options.LAYER_DECAY,
        )
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
