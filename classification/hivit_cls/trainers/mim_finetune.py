"""MIM_finetune: the whole encoder, or a part of it, is trained further, deep layers faster than shallow ones."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from hivit_cls.encoder import build_encoder, precision
from hivit_cls.trainers.base import SarTrainer
from saratrx import tuning
from saratrx.checkpoint import save_checkpoint
from saratrx.errors import InputError
from saratrx.files import refused_if_unwritable
from saratrx.hivit import HiViTClassifier
from saratrx.layer_decay import layer_decay_groups
from saratrx.reporting import get_logger

log = get_logger(__name__)
MERGED = "merged.pth"  # beside the checkpoints of training
NEW = ("fc_norm", "head")  # the layers that pre-training has not trained: always trained here


def freeze(model: HiViTClassifier, options: CfgNode) -> None:
    """Leave that part of a classifier trainable which TRAINER.MIM_FINETUNE.TUNE names; `options` is the section.

    Raises:
        InputError: for more attention blocks than there are, or a larger rank than a matrix can have.

    """
    section, low_rank = "TRAINER.MIM_FINETUNE", options.LORA
    tuning.freeze(
        model,
        NEW,
        options.TUNE,
        last_k=(f"{section}.LAST_K", options.LAST_K),
        rank=(f"{section}.LORA.RANK", low_rank.RANK),
        alpha=low_rank.ALPHA,
        targets=low_rank.TARGETS,
    )


@TRAINER_REGISTRY.register()
class MIM_finetune(SarTrainer):  # noqa: N801 -- the published name
    """Fine-tuning of masked image modelling, with layer-wise decay of the learning rate (BEiT, MAE).

    With TUNE lora, checkpoints hold matrices and their low-rank changes apart, so that training resumes exactly; once
    it has ended, `model/merged.pth` holds the classifier with the changes added, as any other is saved.
    """

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        if cfg.MODEL.POOLING != "mean" or cfg.MODEL.MIRROR:
            given = "MODEL.MIRROR True" if cfg.MODEL.MIRROR else f"MODEL.POOLING {cfg.MODEL.POOLING}"
            raise InputError(f"{given}: MIM_finetune trains a head on the mean token alone; leave it out")

    def build_model(self) -> None:
        options = self.cfg.TRAINER.MIM_FINETUNE
        model = build_encoder(self.cfg, num_classes=self.num_classes, drop_path_rate=options.DROP_PATH)
        if not isinstance(model, HiViTClassifier):
            raise InputError(
                f"MIM_finetune trains hivit_* alone, not {self.cfg.MODEL.BACKBONE.NAME}; choose MIM_linear"
            )
        freeze(model, options)
        self.model = model.to(self.device)
        log.info("TUNE %s: %s of %s parameters are trained", options.TUNE, *(f"{n:,}" for n in tuning.count(model)))
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

    def set_model_mode(self, mode: str = "train", names: str | list[str] | None = None) -> None:
        """Put models into "train" mode, but for blocks that are frozen: no stochastic depth there."""
        super().set_model_mode(mode, names)
        tuning.rest_frozen_blocks(self.model)

    def after_train(self) -> None:
        super().after_train()
        if self.cfg.TRAINER.MIM_FINETUNE.TUNE == "lora":
            path = Path(self.output_dir, "model", MERGED)
            with refused_if_unwritable(path):
                save_checkpoint(path, model=tuning.merged(self.model.state_dict()))
            log.info("wrote %s: the classifier with its low-rank changes added", path)

    def forward_backward(self, batch: dict[str, Any]) -> dict[str, float]:
        images, labels = self.parse_batch_train(batch)
        logits = self.classify(self.pool(images))
        loss = F.cross_entropy(logits, labels, label_smoothing=self.cfg.TRAINER.MIM_FINETUNE.LABEL_SMOOTHING)
        self.model_backward_and_update(loss)
        if self.cfg.TRAINER.MIM_FINETUNE.LR_STEP == "batch" or self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return {"loss": loss.item(), "acc": compute_accuracy(logits, labels)[0].item()}

    def pool(self, images: torch.Tensor) -> torch.Tensor:
        with precision(self.cfg, self.device):
            return self.model.pool(images).float()

    def classify(self, pooled: torch.Tensor) -> torch.Tensor:
        return self.model.classify(pooled)
