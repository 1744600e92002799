"""A config's data sets against their annotation files, and its heads against its classes, before anything starts."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmdet.models.dense_heads import RPNHead
from mmdet.models.roi_heads.mask_heads import FusedSemanticHead
from mmengine.config import ConfigDict
from torch import nn

from coco_annotations.coco_json import read_coco, usable_boxes
from coco_annotations.sources import check_sources
from hivit_det.loading import loading_steps, reading_of
from saratrx import sar_files
from saratrx.errors import InputError
from saratrx.files import is_file
from saratrx.reporting import get_logger

log = get_logger(__name__)


def annotation_sets(dataset: ConfigDict) -> Iterator[ConfigDict]:
    """Give the data sets with an annotation file inside of wrappers (repeated, balanced, joined), or the set itself.

    Raises:
        InputError: for what is no data set.

    """
    if not isinstance(dataset, ConfigDict):
        raise InputError(f"a data set of the config is a {type(dataset).__name__}, not dict(type=...)")
    inner = dataset.get("datasets") or ([dataset["dataset"]] if "dataset" in dataset else [])
    for each in inner:
        yield from annotation_sets(each)
    if not inner:
        yield dataset


def annotation_file(dataset: ConfigDict) -> Path:
    """Where the annotation file of a data set is.

    Raises:
        InputError: if it names none, or one that is no JSON, or a file of proposals.

    """
    name = dataset.get("ann_file")
    if not isinstance(name, str) or not name:
        raise InputError(f"the data set {dataset.get('type', '')} of the config names no ann_file")
    if Path(name).suffix != ".json":  # MMEngine would unpickle a .pkl
        raise InputError(f"{name}: annotations are read from COCO JSON (.json) alone; tools/to_coco.py makes it")
    if dataset.get("proposal_file"):  # the same
        raise InputError(f"{name}: proposal_file is not supported: it is a pickle, which can run code")
    return Path(dataset.get("data_root") or "", name)


def classes_of(dataset: ConfigDict) -> list[str]:
    """Give the classes that a config names for a data set, inside of wrappers the first one's.

    Raises:
        InputError: if it names none.

    """
    inner = next(annotation_sets(dataset))
    about = inner.get("metainfo")
    classes = about.get("classes") if isinstance(about, dict) else None
    if not isinstance(classes, list | tuple) or not classes or not all(isinstance(name, str) for name in classes):
        raise InputError(
            f"the data set of {inner.get('ann_file')} names no classes: "
            'write metainfo=dict(classes=("ship",)), with the comma'
        )
    if len(set(classes)) != len(classes):
        raise InputError(f"the classes of {inner.get('ann_file')} have a name twice: {', '.join(classes)}")
    return list(classes)


def check_data(dataset: ConfigDict, is_for_training: bool = False) -> list[Path]:
    """Compare the classes of a config with those of its annotation files, by name.

    A config may name some of a file's classes, as MMDetection allows: boxes of the others are left out, and said.

    Args:
        dataset: of the config, in any wrappers.
        is_for_training: it needs boxes.

    Returns:
        The files that list these classes in another order than the config.

    Raises:
        InputError: if a file is missing, lacks a class of the config, has no box to train on, or does not fit the
            sources that the config tells.
        ImageError: if the first image has not the channel that is to be read.

    """
    boxes, reordered = 0, []
    for each in annotation_sets(dataset):
        path, classes = annotation_file(each), classes_of(each)
        content = read_coco(path)
        found = [category["name"] for category in content["categories"]]
        if not set(classes) <= set(found):
            raise InputError(f"{path} has the classes {', '.join(found)}, and the config {', '.join(classes)}")
        say_left_out(path, classes, content)
        if each.get("annotated") is not None:
            check_sources(path, content, each.annotated, classes)
        check_first_image(each, content)
        if [name for name in found if name in classes] != classes:
            reordered.append(path)
        boxes += usable_boxes(content, classes)
    if is_for_training and not boxes:
        raise InputError(
            f"{path} has no box of the config's classes to train on; tools/check_coco.py lists what it has"
        )
    return reordered


def check_first_image(dataset: ConfigDict, content: dict[str, list[dict[str, Any]]]) -> None:
    """See that the first image of a data set, if it is there, has the channel that its pipeline reads.

    Raises:
        ImageError: naming the channels that there are.

    """
    prefix = (dataset.get("data_prefix") or {}).get("img", "")
    for image, step in zip(content["images"][:1], loading_steps(dataset), strict=False):  # the first of either
        path = Path(dataset.get("data_root") or "", prefix, image["file_name"])
        if is_file(path):
            with sar_files.open(path) as opened:
                opened.is_eight_bit(step.get("channel"))


def note_reading(dataset: ConfigDict) -> None:
    """Make the checkpoints of a training on a data set say how its images are read, beside its classes."""
    reading = tuple(reading_of(dataset).values())
    for each in annotation_sets(dataset):
        each.metainfo.reading = reading


def say_reordered(paths: Sequence[Path]) -> None:
    """Say once which annotation files list their classes in another order than the config."""
    if paths:
        names = ", ".join(map(str, dict.fromkeys(paths)))
        log.info("another order of classes than the config's, which is taken: %s", names)


def say_left_out(path: Path, classes: Sequence[str], content: dict[str, list[dict[str, object]]]) -> None:
    """Say which classes of a file the config leaves out, if they have boxes."""
    with_boxes = {box["category_id"] for box in content["annotations"]}
    left_out = [
        str(category["name"])
        for category in content["categories"]
        if category["name"] not in classes and category["id"] in with_boxes
    ]
    if left_out:
        log.info("%s: boxes of %s are left out, which the config does not name", path, ", ".join(left_out))


def wrong_heads(model: nn.Module, classes: Sequence[str]) -> list[str]:
    """Say which heads of a built model have an output for another number of classes, if any do."""
    return [
        f"{name}.num_classes is {module.num_classes}, and the data set has {len(classes)} classes: {', '.join(classes)}"
        for name, module in model.named_modules()
        if isinstance(getattr(module, "num_classes", None), int)
        and "head" in name
        and not isinstance(module, RPNHead | FusedSemanticHead)
        and not name.endswith("rpn_head")
        and module.num_classes != len(classes)
    ]


def check_heads(model: nn.Module, classes: Sequence[str]) -> None:
    """Compare the heads of a built model with the classes of its data.

    Raises:
        InputError: naming the heads: one with too many outputs learns a class that is not there, one with too few ends
            in the middle of training.

    """
    wrong = wrong_heads(model, classes)
    if wrong:
        raise InputError(f"model.{'; model.'.join(wrong)}; set it to {len(classes)}")
