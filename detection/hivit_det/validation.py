"""An honest validation set: part of the training images, whole scenes at a time.

Published detectors choose their best epoch on the test set, which flatters the figure.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from coco_annotations.hold_out import split_by_scene, write_once
from saratrx.command_line import option
from saratrx.errors import InputError, first_line, raise_problems


@dataclass(frozen=True)
class ValidationOptions:
    """What the best epoch is chosen by."""

    val_from_train: float | None = option(
        None, metavar="SHARE", help="validate on this share of the training set", default_text="the config's set"
    )

    def __post_init__(self) -> None:
        share = self.val_from_train
        if share is not None and not 0 < share < 1:
            raise_problems([f"--val-from-train {share:g}: must be above 0 and below 1"])


def hold_out(cfg: Config, share: float) -> None:
    """Make a config validate on part of its training images, and train on the others.

    The two annotation files are written to `validation-split` in the config's work_dir.

    Raises:
        InputError: if the training images cannot be split so, or the folder holds another split.

    """
    train, val = cfg.train_dataloader.dataset, cfg.val_dataloader.dataset
    source = Path(train.get("data_root", ""), train.ann_file)
    try:
        parts = split_by_scene(json.loads(source.read_text(encoding="utf-8")), share)
    except OSError as error:
        raise InputError(f"{source} cannot be read: {first_line(error)}; set data_root to the data's folder") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{source}: {error}") from error
    val.data_root, val.data_prefix = train.get("data_root", ""), train.data_prefix
    for name, dataset, content in zip(("train", "val"), (train, val), parts, strict=True):
        dataset.ann_file = str(write_once(Path(cfg.work_dir, "validation-split", f"{name}.json").absolute(), content))
    cfg.val_evaluator.ann_file = val.ann_file
