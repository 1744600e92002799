"""What the trainers of this stage share: a test that shows its mistakes, and a frozen encoder."""

from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from yacs.config import CfgNode

from dassl.data import DataManager
from dassl.data.data_manager import build_data_loader
from dassl.data.datasets import Datum
from dassl.data.transforms.transforms import Transform
from dassl.engine import TrainerX
from dassl.utils import reading_of
from hivit_cls import conditions, feature_bank, pictures
from hivit_cls.encoder import FrozenEncoder, refuse_bad_encoder
from saratrx.reporting import get_logger

log = get_logger(__name__)


class SarTrainer(TrainerX):
    """Classifies in two steps, `pool` and `classify`, which subclasses give; the test draws what came of it.

    Attributes:
        draws: whether it does.

    """

    draws = True

    def check_cfg(self, cfg: CfgNode) -> None:
        refuse_bad_encoder(cfg)  # before images are looked for

    def pool(self, images: torch.Tensor) -> torch.Tensor:
        """Compute features [B, D] from images as the loader gives them."""
        raise NotImplementedError

    def classify(self, pooled: torch.Tensor) -> torch.Tensor:
        """Compute scores [B, C] from features [B, D]: logits, or logarithms of probabilities."""
        raise NotImplementedError

    @torch.no_grad()
    def features(self, items: list[Datum]) -> torch.Tensor:
        """Compute features [N, D], on the CPU, of images as the test sees them."""
        batch_size = self.cfg.DATALOADER.TEST.BATCH_SIZE
        loader = build_data_loader(self.cfg, "SequentialSampler", items, batch_size, self.dm.tfm_test, is_train=False)
        return torch.cat([self.pool(batch["img"].to(self.device)).float().cpu() for batch in loader])

    def parse_batch_test(self, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        self.tested["impath"] += batch["impath"]
        self.tested["label"].append(batch["label"])
        return super().parse_batch_test(batch)

    def model_inference(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 -- Dassl's name
        pooled = self.pool(input)
        scores = self.classify(pooled).float()
        self.tested["pooled"].append(pooled.float().cpu())
        self.tested["score"].append(scores.cpu())
        return scores

    def test(self, split: str | None = None) -> float:
        """Evaluate, and unless it is a validation during training, draw the result."""
        self.tested: dict[str, list[Any]] = {"impath": [], "label": [], "pooled": [], "score": []}
        result = super().test(split)
        if split is None and self.draws:
            self.draw()
        return result

    def tested_items(self) -> list[Datum]:
        """Give the images of the last test, in the order in which they came."""
        items = {item.impath: item for item in (self.dm.dataset.test or []) + (self.dm.dataset.val or [])}
        return [items.get(path, Datum(path)) for path in self.tested["impath"]]

    def draw(self) -> None:
        """Draw the last test: PNG files in the output folder, and TensorBoard.

        They are confusion, features and mistakes, and accuracy against angles where images have them.
        """
        labels, pooled, scores = (torch.cat(self.tested[name]).numpy() for name in ("label", "pooled", "score"))
        probabilities = torch.from_numpy(scores).softmax(dim=1).numpy()
        predicted = probabilities.argmax(axis=1)
        wrong = np.flatnonzero(predicted != labels)
        surest = wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")][: pictures.MISTAKES]
        names = self.lab2cname
        mistakes = [
            pictures.Mistake(
                path=self.tested["impath"][place],
                true=names[int(labels[place])],
                predicted=names.get(int(predicted[place]), str(predicted[place])),
                probability=float(probabilities[place, predicted[place]]),
            )
            for place in surest
        ]
        figures = {
            "confusion": pictures.confusion(labels, predicted, names),
            "mistakes": pictures.mistakes(mistakes, len(wrong), len(labels), self.dm.centre_crop, reading_of(self.cfg)),
        }
        if len(labels) >= pictures.FEWEST_POINTS:
            figures["features"] = pictures.features(pooled, labels, names)
        for angle, points in conditions.by_angle(self.tested_items(), predicted == labels).items():
            figures[f"accuracy_{angle}"] = pictures.accuracy_against_angle(points, angle)
        for name, figure in figures.items():
            pixels = pictures.save(figure, Path(self.output_dir, f"{name}.png"))
            if self._writer is not None:
                self._writer.add_image(name, pixels, self.epoch, dataformats="HWC")


class FrozenTrainer(SarTrainer):
    """Uses an encoder as it is, by way of the feature bank where that can be."""

    def build_data_loader(self) -> None:
        self.encoder = FrozenEncoder(self.cfg, self.device)
        self.has_bank = feature_bank.is_usable(self.cfg)
        self.loader_cfg, self.wrapper = self.cfg, None
        if self.cfg.FEATURE_BANK and not self.has_bank:
            transforms = self.cfg.INPUT.TRANSFORMS
            log.info("feature bank: off, since INPUT.TRANSFORMS %s changes the images in every epoch", transforms)
        if self.has_bank:
            self.loader_cfg = self.cfg.clone()
            self.loader_cfg.defrost()
            self.loader_cfg.DATALOADER.NUM_WORKERS = 0  # features lie in memory
            self.wrapper = partial(feature_bank.FeatureView, encoder=self.encoder)
        self.take_loaders(DataManager(self.loader_cfg, dataset_wrapper=self.wrapper))

    def features(self, items: list[Datum]) -> torch.Tensor:
        if not self.has_bank:
            return super().features(items)
        return feature_bank.FeatureBank(self.encoder, cast(Transform, self.dm.tfm_test)).features(items)

    def run_epoch(self) -> None:
        """Do one pass; over features of the bank with one thread, since further ones are only waited for."""
        if not self.has_bank:
            super().run_epoch()
            return
        view = self.training_loader(self.train_loader_x, "training image").dataset
        len(cast(feature_bank.FeatureView, view).features)  # computed now, by all threads
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            super().run_epoch()
        finally:
            torch.set_num_threads(threads)

    def pool(self, images: torch.Tensor) -> torch.Tensor:
        """Compute features [B, D] from images [B, 1 or 3, H, W], or pass those of the bank through."""
        return images if self.has_bank else self.encoder(images)
