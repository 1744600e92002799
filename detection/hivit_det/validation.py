"""An honest validation set: part of the training images, whole scenes at a time.

Published detectors choose their best epoch on the test set, which flatters the figure.
"""

from pathlib import Path

from mmengine.config import Config

from coco_annotations.coco_json import read_coco
from coco_annotations.hold_out import split_by_scene, write_once
from hivit_det.data_sets import annotation_file, annotation_sets
from hivit_det.running import set_evaluated_file
from saratrx.errors import InputError


def hold_out(cfg: Config, share: float) -> None:
    """Make a config validate on part of its training images, and train on the others.

    The two annotation files are written to `validation-split` in the config's work_dir.

    Raises:
        InputError: if the training images cannot be split so, or the folder holds another split.

    """
    if not cfg.get("val_dataloader") or not cfg.get("val_evaluator"):
        raise InputError(f"--val-from-train: {cfg.filename} has no val_dataloader and val_evaluator to validate with")
    sets = [list(annotation_sets(cfg[f"{part}_dataloader"].dataset)) for part in ("train", "val")]
    if len({str(annotation_file(each)) for each in sets[0]}) != 1 or len(sets[1]) != 1:
        raise InputError("--val-from-train: the config trains or validates on several annotation files; it needs one")
    trains, (val,) = sets
    source = annotation_file(trains[0])
    try:
        parts = split_by_scene(read_coco(source), share)
    except ValueError as error:
        raise InputError(f"{source}: {error}") from error
    val.data_root, val.data_prefix = trains[0].get("data_root", ""), trains[0].get("data_prefix") or {"img": ""}
    for name, datasets, content in zip(("train", "val"), (trains, [val]), parts, strict=True):
        path = write_once(Path(cfg.work_dir, "validation-split", f"{name}.json").absolute(), content)
        for dataset in datasets:
            dataset.ann_file = str(path)
    set_evaluated_file(cfg, "val", val.ann_file)
