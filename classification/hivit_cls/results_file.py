"""The results.json of a run, as `hivit_cls.results` reads it."""

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from yacs.config import CfgNode

import saratrx
from dassl.engine import SimpleTrainer
from dassl.evaluation import Classification
from dassl.utils import write_json
from hivit_cls.results import RESULTS, read_metric
from hivit_cls.settings import settings_hash
from saratrx.errors import InputError
from saratrx.files import refused_if_unwritable
from saratrx.reporting import get_logger

log = get_logger(__name__)


class ResultsFile:
    """Writes what a trainer's test has found, whole or not at all; a trainer's `record`.

    It holds, in full precision: `trained` (false: a test of --eval-only alone), `split` that was tested, `results`
    (accuracy, error_rate, macro_f1, in percent), `images`, `classes` and `confusion` (see `Classification.counts`),
    `data_set`, `trainer`, `shots`, `seed`, `settings` (hash of all that decides the result), `versions`.

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
        content |= {
            "data_set": self.data_set,
            "trainer": self.cfg.TRAINER.NAME,
            "shots": self.cfg.DATASET.NUM_SHOTS,
            "seed": self.cfg.SEED,
            "settings": self.settings(),
            "versions": {
                "saratrx": saratrx.__version__,
                "torch": torch.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
        }
        write_json(content, self.path)

    def settings(self) -> str | None:
        """Give the hash of the settings; None where --eval-only did without the weights that they name."""
        try:
            return settings_hash(self.cfg)
        except InputError:
            if self.trains:
                raise
            return None
