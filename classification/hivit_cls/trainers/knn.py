"""kNN: the classes of the nearest training images, without any training."""

from functools import cached_property

import torch

from dassl.data.data_manager import build_data_loader
from dassl.engine import TRAINER_REGISTRY
from hivit_cls.neighbours import nearest
from hivit_cls.trainers.base import FrozenTrainer
from saratrx.errors import InputError


@TRAINER_REGISTRY.register()
class kNN(FrozenTrainer):  # noqa: N801 -- its usual name
    """Votes of the K nearest training images, weighted by exp(cosine similarity / TEMPERATURE).

    That is the protocol of Wu et al. (CVPR 2018) and DINO (ICCV 2021), on features that are first standardised.
    """

    def build_model(self) -> None:
        options = self.cfg.TRAINER.KNN
        if options.K < 1 or options.TEMPERATURE <= 0:
            raise InputError(f"TRAINER.KNN.K {options.K}, TEMPERATURE {options.TEMPERATURE}: must be positive")
        self.max_epoch = 0  # nothing to train: only the test

    @cached_property
    def neighbours(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Features [N, D] and labels [N] of the training images."""
        loader = build_data_loader(
            self.loader_cfg,
            data_source=self.dm.dataset.train_x,
            batch_size=self.cfg.DATALOADER.TEST.BATCH_SIZE,
            tfm=self.dm.tfm_test,
            is_train=False,
            dataset_wrapper=self.wrapper,
        )
        batches = [self.parse_batch_train(batch) for batch in loader]
        pooled, labels = (torch.cat(parts) for parts in zip(*((self.pool(x), y) for x, y in batches), strict=True))
        return pooled, labels

    def classify(self, pooled: torch.Tensor) -> torch.Tensor:
        """Compute, from features [B, D], the logarithms of the classes' shares of the votes [B, C]."""
        memory, labels = self.neighbours
        similarity, places = nearest(memory, pooled, self.cfg.TRAINER.KNN.K)
        weights = (similarity / self.cfg.TRAINER.KNN.TEMPERATURE).softmax(dim=1)
        votes = weights.new_zeros(len(pooled), self.num_classes).scatter_add_(1, labels[places], weights)
        return votes.clamp_min(1e-12).log()
