"""What a trained classifier says of images without labels."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from yacs.config import CfgNode

import hivit_cls.datasets
import hivit_cls.trainers  # noqa: F401 -- registers them
from dassl.data.datasets import Datum
from dassl.engine import build_trainer
from dassl.utils import reading_of, set_random_seed
from hivit_cls import pictures
from hivit_cls.neighbours import nearest
from hivit_cls.pictures import short, shown
from hivit_cls.results import RESULTS, read_results
from hivit_cls.trainers.base import FrozenTrainer, SarTrainer
from saratrx.errors import InputError

LOOKED_AT = 3  # of the nearest training images
DRAWN = 8  # images, at most


@dataclass(frozen=True)
class Neighbour:
    """A training image.

    Args:
        image: its file.
        classname: its class.
        similarity: cosine of the features, standardised; from -1 to 1.

    """

    image: str
    classname: str
    similarity: float


@dataclass(frozen=True)
class Prediction:
    """What is said of an image.

    Args:
        image: its file.
        probabilities: of all classes, by name, the most probable first.
        neighbours: the nearest training images, the nearest first.

    """

    image: str
    probabilities: dict[str, float]
    neighbours: list[Neighbour]

    @property
    def classname(self) -> str:
        """The most probable class."""
        return next(iter(self.probabilities))


def load_trained(cfg: CfgNode, run: str | Path) -> SarTrainer:
    """Build the trainer of a finished run with what it has learnt.

    Raises:
        InputError: if its data set or its model is not there, or the data set has other classes now.

    """
    set_random_seed(max(cfg.SEED, 0))
    trainer = build_trainer(cfg)
    if not isinstance(trainer, SarTrainer):
        raise InputError(f"{run}: was trained by {cfg.TRAINER.NAME}, which is none of this project's trainers")
    refuse_other_classes(trainer.lab2cname, run)
    trainer.load_model(str(run))
    return trainer


def refuse_other_classes(names: dict[int, str], run: str | Path) -> None:
    """Raise an InputError if the classes of a data set, by label, are not those that a run was tested on."""
    path = Path(run, RESULTS)
    results = read_results(path) or {"classes": []}
    try:
        for each in results["classes"]:
            if names.get(each["label"], "") != each["name"]:
                raise InputError(
                    f"{path} names class {each['label']} {each['name']}; the data set has changed: train again"
                )
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged: train again, or take another run") from error


class Whole(nn.Module):
    """A classifier from images [B, 1, H, W], amplitude in [0, 1], to probabilities [B, C]."""

    def __init__(self, trainer: SarTrainer) -> None:
        super().__init__()
        trainer.set_model_mode("eval")
        self.trained = nn.ModuleList(getattr(trainer, name) for name in trainer.get_model_names())
        self.pool, self.scores = trainer.pool, trainer.classify
        if isinstance(trainer, FrozenTrainer):
            self.encoder, self.pool = trainer.encoder.encoder(), trainer.encoder.pooled

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.scores(self.pool(images)).softmax(dim=1)


@torch.no_grad()
def predict(trainer: SarTrainer, paths: Sequence[str]) -> list[Prediction]:
    """Classify images that can be read, in their order."""
    trainer.set_model_mode("eval")
    known = trainer.dm.dataset.train_x
    memory, asked = trainer.features(known), trainer.features([Datum(path) for path in paths])
    scores = trainer.classify(asked.to(trainer.device)).float().cpu()
    similarity, places = nearest(memory, asked, LOOKED_AT)
    made = []
    for path, shares, near, where in zip(paths, scores.softmax(dim=1), similarity, places, strict=True):
        order = shares.argsort(descending=True, stable=True).tolist()
        made.append(
            Prediction(
                path,
                {trainer.lab2cname[label]: float(shares[label]) for label in order},
                [
                    Neighbour(known[place].impath, trainer.lab2cname[known[place].label], float(value))
                    for value, place in zip(near, where.tolist(), strict=True)
                ],
            )
        )
    return made


def as_csv(predictions: Sequence[Prediction], wrong: dict[str, str]) -> str:
    """Set predictions as a table, one row an image; of those that cannot be read, it says why."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    near = [f"nearest_{place}{part}" for place in range(1, LOOKED_AT + 1) for part in ("", "_class", "_similarity")]
    writer.writerow(["image", "class", "probability", *near, "error"])
    for one in predictions:
        cells = [f"{one.probabilities[one.classname]:.4f}"]
        for each in one.neighbours:
            cells += [each.image, each.classname, f"{each.similarity:.4f}"]
        cells += [""] * (1 + len(near) - len(cells))
        writer.writerow([one.image, one.classname, *cells, ""])
    for path, reason in wrong.items():
        writer.writerow([path, *[""] * (2 + len(near)), reason])
    return text.getvalue()


def as_json(predictions: Sequence[Prediction], wrong: dict[str, str], about: dict[str, Any]) -> dict[str, Any]:
    """Give all that is known of predictions, with what they were made by."""
    images = [
        {
            "image": one.image,
            "class": one.classname,
            "probabilities": one.probabilities,
            "nearest": [
                {"image": each.image, "class": each.classname, "similarity": each.similarity} for each in one.neighbours
            ],
        }
        for one in predictions
    ]
    return about | {"images": images, "unreadable": wrong}


def draw(trainer: SarTrainer, predictions: Sequence[Prediction], path: Path) -> None:
    """Draw some of the images, evenly taken, with their class and probability, beside their nearest training images."""
    taken = np.linspace(0, len(predictions) - 1, min(DRAWN, len(predictions))).round().astype(int)
    rows = []
    for one in (predictions[place] for place in taken):
        row = [(one.image, f"{short(shown(one.classname))}\n{one.probabilities[one.classname]:.0%}")]
        rows.append(
            row + [(each.image, f"{short(shown(each.classname))}\n{each.similarity:.2f}") for each in one.neighbours]
        )
    title = f"{len(rows)} of {len(predictions):,} images, and the nearest training images (cosine)"
    pictures.save(pictures.beside(rows, title, reading_of(trainer.cfg), trainer.dm.centre_crop), path)
