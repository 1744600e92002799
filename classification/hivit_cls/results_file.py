"""The results.json of a run, as `hivit_cls.results` reads it."""

import hashlib
import os
import platform
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from yacs.config import CfgNode

import saratrx
from dassl.data.datasets import Datum
from dassl.engine import SimpleTrainer
from dassl.evaluation import Classification
from dassl.utils import write_json
from hivit_cls import conditions
from hivit_cls.encoder import weights_id
from hivit_cls.results import RESULTS, read_metric
from hivit_cls.settings import ADDED_SINCE, flatten, settings_hash
from hivit_cls.trainers.base import SarTrainer
from saratrx.errors import InputError
from saratrx.files import refused_if_unwritable
from saratrx.reporting import get_logger

log = get_logger(__name__)


PROTOCOL = ("DATASET.NUM_SHOTS", "DATASET.SUBSAMPLE_CLASSES", "DATALOADER.TRAIN_X.BATCH_SIZE", "TEST.FINAL_MODEL")
# younger than protocols: said where they are not what they always were before
SINCE_THEN = (
    "DATASET.MEASURED_SHARE",
    "INPUT.CHANNEL",
    "INPUT.MIDDLE",
    "INPUT.REMAP",
    "TRAINER.MIM_FINETUNE.LR_STEP",
)


def protocol_of(cfg: CfgNode, trainer: SimpleTrainer, data_set: str, split: str) -> dict[str, Any]:
    """Give all but the encoder and the seed that decides a result: images, what is trained, transforms, schedule.

    Args:
        cfg: of the run.
        trainer: its trainer.
        data_set: what the data set is called.
        split: what was tested, "test" or "val".

    Returns:
        Keys of the config with their values, the data set, and of the images of training and test their number and a
        hash of their paths below DATASET.ROOT and labels; of sub-tests, the number of images of each. The hash of
        training alone depends on the seed.

    """
    name = cfg.TRAINER.NAME
    sections = ("INPUT.", "OPTIM.", f"TRAINER.{name.upper()}.")
    found: dict[str, Any] = {"data set": data_set, "split": split, "TRAINER.NAME": name}
    dataset = trainer.dm.dataset
    test = (dataset.val if split == "val" else dataset.test) or []
    for part, images in (("training", dataset.train_x), ("test", test)):
        found |= {f"{part} images": len(images), f"{part} hash": hash_of_images(cfg, images)}
    tests = Counter(item.condition for item in test if item.condition)
    if tests:
        found["sub-tests"] = {test: tests[test] for test in sorted(tests, key=conditions.in_order)}
    flat = flatten(cfg)
    chosen = {key: value for key, value in flat.items() if key.startswith(sections) or key in PROTOCOL + SINCE_THEN}
    chosen = {key: value for key, value in chosen.items() if key not in SINCE_THEN or value != ADDED_SINCE[key]}
    return found | {key: list(value) if isinstance(value, tuple) else value for key, value in chosen.items()}


def hash_of_images(cfg: CfgNode, images: Sequence[Datum]) -> str:
    """Give the SHA-256 of images' paths below DATASET.ROOT, and their labels, in any order."""
    root = str(Path(cfg.DATASET.ROOT).expanduser().absolute())
    # a prefix is taken off in a fraction of the time, for thousands of images in every run of a table
    named = sorted(
        (path[len(root) + 1 :] if path.startswith(f"{root}{os.sep}") else os.path.relpath(path, root), image.label)
        for image in images
        for path in [image.impath]
    )
    return hashlib.sha256(os.fsencode(repr(named))).hexdigest()


class ResultsFile:
    """Writes what a trainer's test has found, whole or not at all; a trainer's `record`.

    It holds, in full precision: `trained` (false: a test of --eval-only alone), `split` that was tested, `results`
    (accuracy, error_rate, macro_f1, in percent, and accuracy_<sub-test>), `images`, `classes` and `confusion` (see
    `Classification.counts`), `sub_tests` and `by_angle` where images have conditions and angles (see `conditions`),
    `data_set`, `trainer`, `shots`, `seed`, `encoder` (its name and pooling, and the hash of its weights),
    `trained_parameters` (how many), `protocol` (what two results must share to be compared, see `protocol_of`),
    `settings` (hash of all that decides the result), `versions`. A hash is null where --eval-only did without the
    weights.

    Args:
        cfg: of the run; the file goes into its OUTPUT_DIR.
        trainer: its trainer.
        data_set: what the data set is called.
        trains: false for --eval-only.

    """

    def __init__(self, cfg: CfgNode, trainer: SimpleTrainer, data_set: str, trains: bool) -> None:
        self.cfg, self.trainer, self.data_set, self.trains = cfg, trainer, data_set, trains
        self.path = Path(cfg.OUTPUT_DIR, RESULTS)

    def train(self, epoch: int, max_epoch: int) -> None:
        """Take an earlier result away while training goes on."""
        if not self.path.exists():
            return
        log.info("epoch [%d/%d] comes next: the earlier result no longer counts", epoch + 1, max_epoch)
        with refused_if_unwritable(self.path):
            self.path.unlink(missing_ok=True)

    def test(self, split: str, results: Mapping[str, float], is_trained: bool) -> None:
        """Write the file, unless training is to go on.

        Raises:
            InputError: if it cannot be written.

        """
        if self.trains and not is_trained:
            return
        content: dict[str, Any] = {
            "trained": is_trained or read_metric(self.path.parent) is not None,  # the last test of a run counts
            "split": split,
            "results": {name: float(value) for name, value in results.items()},
        }
        evaluator = self.trainer.evaluator
        if isinstance(evaluator, Classification):
            content |= evaluator.counts()
            if isinstance(self.trainer, SarTrainer):  # others do not say what they tested
                self.add_conditions(content, self.trainer.tested_items(), evaluator)
        content |= {
            "data_set": self.data_set,
            "trainer": self.cfg.TRAINER.NAME,
            "shots": self.cfg.DATASET.NUM_SHOTS,
            "seed": self.cfg.SEED,
            "encoder": {
                "name": self.cfg.MODEL.BACKBONE.NAME,
                "pooling": self.cfg.MODEL.POOLING,
                "mirror": self.cfg.MODEL.MIRROR,
                "weights": self.hash(weights_id),
            },
            "trained_parameters": sum(
                parameter.numel()
                for optimizer in self.trainer.optimizers()
                for group in optimizer.param_groups
                for parameter in group["params"]
            ),
            "protocol": protocol_of(self.cfg, self.trainer, self.data_set, split),
            "settings": self.hash(settings_hash),
            "versions": {
                "saratrx": saratrx.__version__,
                "torch": torch.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
        }
        write_json(content, self.path)

    def add_conditions(self, content: dict[str, Any], items: Sequence[Datum], evaluator: Classification) -> None:
        """Add what was found of each sub-test and against the angles, and say the former."""
        hits = np.equal(evaluator.y_true, evaluator.y_pred)
        tests, angles = conditions.sub_tests(items, hits), conditions.by_angle(items, hits)
        if tests:
            content["sub_tests"] = tests
            content["results"] |= {f"accuracy_{name}": test["accuracy"] for name, test in tests.items()}
            each = ", ".join(f"{name} {test['accuracy']:.1f}% of {test['images']:,}" for name, test in tests.items())
            log.info("accuracy of the sub-tests: %s", each)
        if angles:
            content["by_angle"] = angles

    def hash(self, of: Callable[[CfgNode], str]) -> str | None:
        """Give a hash of the config; None where --eval-only did without the weights that it names."""
        try:
            return of(self.cfg)
        except InputError:
            if self.trains:
                raise
            return None
