"""A data set of images in one folder per class: finding them, checking them, splitting them.

To add one, write a config file (see `ImageFolders`), or a `Layout` beside those in published.py.
"""

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.data.datasets.base_dataset import shuffled
from dassl.utils import listdir_nohidden, read_json
from saratrx import sar_image
from saratrx.errors import InputError
from saratrx.files import content_hash
from saratrx.reporting import get_logger

log = get_logger(__name__)

VALIDATION_SHARE = 0.2  # of the training images of each class
VALIDATION_SHOTS = 10  # at most
PARTS = ("train", "val", "test")
Split = dict[str, list[Datum]]


@dataclass(frozen=True)
class Layout:
    """Where the images of a data set lie, and what is known of them.

    Args:
        folder: below DATASET.ROOT.
        parts: names of the training and the test folder; of one folder only, for a set without a fixed split.
        classes: folder of each class in the order of the labels, and what the class is called.
        suffixes: of the image files, in lower case.
        centre_crop: see `DatasetBase`.
        train_share: of the images of each class that are for training, for a set without a fixed split.
        is_complete: every part must have every class; otherwise every class must be in one.
        counts: published number of images of each class in each part.

    """

    folder: str
    parts: tuple[str, ...]
    classes: dict[str, str]
    suffixes: tuple[str, ...]
    centre_crop: int = 0
    train_share: float = 1.0
    is_complete: bool = True
    counts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


class FolderDataset(DatasetBase):
    """A data set with a `layout`.

    A file `split*.json` in its folder replaces the split: {"train": [[path, label, class name], ...], "val": [...],
    "test": [...]}, with paths relative to that folder. Otherwise a fifth of the training images of each class is kept
    for validation. Then DATASET.NUM_SHOTS images of each class are drawn. All draws follow from SEED and the sorted
    paths.

    Attributes:
        layout: set by subclasses.

    """

    layout: Layout

    def __init__(self, cfg: CfgNode) -> None:
        layout, name = self.layout, cfg.DATASET.NAME
        self.centre_crop = layout.centre_crop
        root = Path(cfg.DATASET.ROOT).expanduser().absolute()
        folder = root / layout.folder
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; DATASET.ROOT must be the folder that holds {layout.folder}")
        seed = cfg.SEED if cfg.SEED >= 0 else random.getrandbits(32)
        files = sorted(folder.glob("split*.json"))
        if len(files) > 1:
            raise InputError(f"{folder} holds {files[0].name} and {files[1].name}: keep one of them")
        split = read_split(files[0]) if files else make_split(folder, layout, seed)
        refuse_overlap(split, name)

        split = subsample_classes(split, cfg.DATASET.get("SUBSAMPLE_CLASSES", "all"))
        shots = cfg.DATASET.NUM_SHOTS
        train = self.draw_shots(split["train"], shots, seed)
        val = self.draw_shots(split["val"], min(shots, VALIDATION_SHOTS), seed)
        super().__init__(train_x=train, val=val, test=split["test"])


@DATASET_REGISTRY.register()
class ImageFolders(FolderDataset):
    """Any data set of one folder per class, described by a config file.

    For example:
        DATASET:
          NAME: ImageFolders
          FOLDER: MyVehicles        # below DATASET.ROOT
          PARTS: [train, test]      # or one folder, and TRAIN_SHARE: 0.1
          CENTRE_CROP: 128          # only if the size of an image gives its class away

    Classes are the folders there are, sorted, unless CLASSES lists them. All formats that `saratrx.sar_image` knows are
    read.
    """

    def __init__(self, cfg: CfgNode) -> None:
        options = cfg.DATASET
        if len(options.PARTS) not in (1, 2) or not 0 < options.TRAIN_SHARE < 1:
            raise InputError(
                f"DATASET.PARTS {list(options.PARTS)}, TRAIN_SHARE {options.TRAIN_SHARE}: name a training and a test "
                "folder, or one folder and the share of it that is for training, between 0 and 1"
            )
        folder = Path(options.ROOT).expanduser().absolute() / options.FOLDER
        parts = [folder / part for part in options.PARTS if (folder / part).is_dir()]
        found = {name for part in parts for name in listdir_nohidden(part) if (part / name).is_dir()}
        self.layout = Layout(
            folder=options.FOLDER,
            parts=tuple(options.PARTS),
            classes={name: name for name in options.CLASSES or sorted(found)},
            suffixes=tuple(sorted(sar_image.EXTENSIONS)),
            centre_crop=options.CENTRE_CROP,
            train_share=options.TRAIN_SHARE,
            is_complete=False,
        )
        super().__init__(cfg)


def add_config(cfg: CfgNode) -> None:
    """Add the keys of the data sets."""
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"  # or base, the first half of them, or new, the second
    cfg.DATASET.FOLDER = ""  # the rest: of ImageFolders
    cfg.DATASET.PARTS = ["TRAIN", "TEST"]
    cfg.DATASET.CLASSES = []
    cfg.DATASET.TRAIN_SHARE = 0.1
    cfg.DATASET.CENTRE_CROP = 0


def make_split(folder: Path, layout: Layout, seed: int) -> Split:
    """Find the training, validation and test images of a data set without a split file."""
    for part in layout.parts:
        if not (folder / part).is_dir():
            raise InputError(f"{folder / part}: no such folder; {layout.folder} needs {' and '.join(layout.parts)}")
    parts = [find_part(folder / part, layout) for part in layout.parts]
    for part in layout.parts:
        warn_of_unknown(folder / part, layout)
    if not layout.is_complete:
        missing = [name for label, name in enumerate(layout.classes) if not any(part[label] for part in parts)]
        if missing or not layout.classes:
            what = f"no image of {', '.join(missing)}" if missing else "no class folder"
            raise InputError(f"{folder}: {what} in {' or '.join(layout.parts)} ({' '.join(layout.suffixes)})")
    warn_of_counts(parts, layout)
    everything = [item for part in parts for items in part.values() for item in items]
    contested = find_contested(everything)
    warn_of_contested(everything, contested)

    split: Split = {part: [] for part in PARTS}
    for label in range(len(layout.classes)):
        train, *test = (part[label] for part in parts)
        if not test:
            train, rest = divide(train, layout.train_share, random.Random(f"test {seed} {label}"), contested)
            test = [rest]
        val, train = divide(train, VALIDATION_SHARE, random.Random(f"validation {seed} {label}"), contested)
        for name, items in zip(PARTS, (train, val, test[0]), strict=True):
            split[name] += items
    return split


def find_part(folder: Path, layout: Layout) -> dict[int, list[Datum]]:
    """Find the images of each label in the training or the test folder, sorted.

    Raises:
        InputError: for a class without folder or without images, if the layout must be complete.

    """
    found = {}
    for label, (name, classname) in enumerate(layout.classes.items()):
        names = listdir_nohidden(folder / name) if (folder / name).is_dir() else []
        paths = [folder / name / file for file in names if file.lower().endswith(layout.suffixes)]
        if layout.is_complete and not paths:
            what = "holds no image" if (folder / name).is_dir() else "no such folder"
            raise InputError(f"{folder / name}: {what}; {layout.folder} needs {' '.join(layout.suffixes)} files there")
        found[label] = [Datum(impath=str(path), label=label, classname=classname) for path in paths]
    return found


def warn_of_unknown(folder: Path, layout: Layout) -> None:
    """Say which folders are of no class."""
    unknown = [name for name in listdir_nohidden(folder) if (folder / name).is_dir() and name not in layout.classes]
    if unknown:
        log.warning("%s has folders of no class of this set, which are left out: %s", folder, ", ".join(unknown))


def warn_of_counts(parts: list[dict[int, list[Datum]]], layout: Layout) -> None:
    """Say which classes have another number of images than published."""
    differing = [
        f"{part}/{name} {len(images[label])} ({layout.counts[name][place]})"
        for place, (part, images) in enumerate(zip(layout.parts, parts, strict=True))
        for label, name in enumerate(layout.classes)
        if name in layout.counts and len(images[label]) != layout.counts[name][place]
    ]
    if differing:
        log.warning("%s has other numbers of images than published: %s", layout.folder, ", ".join(differing))


def find_contested(items: list[Datum]) -> set[str]:
    """Find the content hashes of images that lie in the folders of several classes."""
    labels: defaultdict[str, set[int]] = defaultdict(set)
    for item in items:
        labels[content_hash(item.impath)].add(item.label)
    return {digest for digest, several in labels.items() if len(several) > 1}


def warn_of_contested(items: list[Datum], contested: set[str]) -> None:
    """Say how many images lie in the folders of several classes, and name one."""
    if contested:
        paths = [item.impath for item in items if content_hash(item.impath) == min(contested)]
        log.warning("%d images lie in several classes' folders, such as %s", len(contested), " and ".join(paths))


def divide(
    items: list[Datum], share: float, generator: random.Random, contested: set[str]
) -> tuple[list[Datum], list[Datum]]:
    """Divide images at random into two parts, the first with round(share * n) images.

    Identical images stay together, for which the first part may have a few less; contested ones are in the second.
    """
    copies: defaultdict[str, list[Datum]] = defaultdict(list)
    for item in shuffled(items, generator):
        copies[content_hash(item.impath)].append(item)
    first: list[Datum] = []
    second: list[Datum] = []
    for digest, same in copies.items():
        fits = digest not in contested and len(first) + len(same) <= round(share * len(items))
        (first if fits else second).extend(same)
    return first, second


def read_split(path: Path) -> Split:
    """Read training, validation and test images as a split file lists them.

    Raises:
        InputError: if it is not as `FolderDataset` says, or names a file that is not there.

    """
    content = read_json(path)
    try:
        split = {
            part: [Datum(str(path.parent / name), int(label), classname=str(word)) for name, label, word in items]
            for part, items in ((part, content.get(part, [])) for part in PARTS)
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f'{path} must be {{"train": [[path, label, class name], ...], "val": ..., "test": ...}}'
        ) from error
    for item in chain(split):
        if item.label < 0 or not Path(item.impath).is_file():
            what = "no such file" if item.label >= 0 else f"label {item.label} is negative"
            raise InputError(f"{item.impath}, which {path.name} lists: {what}")
    log.info("split read from %s", path)
    return split


def refuse_overlap(split: Split, name: str) -> None:
    """Raise if the same image, by its content, is for training (or validation) and for testing."""
    seen = {content_hash(item.impath): item.impath for part in ("train", "val") for item in split[part]}
    both = [(seen[digest], item.impath) for item in split["test"] if (digest := content_hash(item.impath)) in seen]
    if both:
        raise InputError(
            f"data set {name}: {len(both)} test images are training images too, such as {both[0][1]}, which equals "
            f"{both[0][0]}: remove one of each pair"
        )


def subsample_classes(split: Split, which: str) -> Split:
    """Keep all classes, or the first ("base") or second ("new") half of them, with labels from 0."""
    if which not in ("all", "base", "new"):
        raise InputError(f"DATASET.SUBSAMPLE_CLASSES {which}: unknown; choose one of all, base, new")
    if which == "all":
        return split
    labels = sorted({item.label for item in chain(split)})
    half = (len(labels) + 1) // 2
    kept = labels[:half] if which == "base" else labels[half:]
    return {
        part: [
            Datum(item.impath, kept.index(item.label), item.domain, item.classname)
            for item in items
            if item.label in kept
        ]
        for part, items in split.items()
    }


def chain(split: Split) -> Iterator[Datum]:
    """Give the images of all parts."""
    return (item for items in split.values() for item in items)
