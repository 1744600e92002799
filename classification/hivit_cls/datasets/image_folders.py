"""A data set of images in one folder per class: finding them, checking them, splitting them.

To add one, write a config file (see `ImageFolders`), or a `Layout` beside those in published.py.
"""

import os
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.data.datasets.base_dataset import shuffled
from dassl.utils import listdir_nohidden, reading_of
from hivit_cls.datasets import likeness
from hivit_cls.datasets.split_files import PARTS, Split, read_pickled_shots, read_split, refuse_disagreement
from saratrx import sar_image
from saratrx.errors import InputError
from saratrx.files import visible_files
from saratrx.names import readable
from saratrx.reading import AS_DEFAULT, Reading
from saratrx.reporting import get_logger

log = get_logger(__name__)

VALIDATION_SHARE = 0.2  # of the training images of each class
VALIDATION_SHOTS = 10  # at most
NAMED_AT_MOST = 10  # pairs of equal images that an error names


@dataclass(frozen=True)
class Layout:
    """Where the images of a data set lie, and what is known of them.

    Args:
        folder: below DATASET.ROOT.
        parts: names of the training and the test folder; of one folder only, for a set without a fixed split.
        classes: folder of each class in the order of the labels, and what the class is called.
        suffixes: of the image files, in lower case; none for images of all kinds.
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
    for validation. Then DATASET.NUM_SHOTS images of each class are drawn, unless Dassl's clients have left theirs in
    `split_fewshot/`. All draws follow from SEED and the sorted paths. Images are compared by their pixels: with
    DATASET.DUPLICATES error, none may be for training and for testing.

    Attributes:
        layout: set by subclasses.
        reading: how images are read.

    """

    layout: Layout

    def __init__(self, cfg: CfgNode) -> None:
        layout, name = self.layout, cfg.DATASET.NAME
        self.centre_crop, self.reading = layout.centre_crop, reading_of(cfg)
        root = Path(cfg.DATASET.ROOT).expanduser().absolute()
        folder = root / layout.folder
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; DATASET.ROOT must be the folder that holds {layout.folder}")
        seed = cfg.SEED if cfg.SEED >= 0 else random.getrandbits(32)
        files = sorted(folder.glob("split*.json"))
        if len(files) > 1:
            raise InputError(f"{folder} holds {files[0].name} and {files[1].name}: keep one of them")
        groups = cfg.DATASET.get("SPLIT_BY", "images") == "groups"
        split = read_split(files[0]) if files else self.make_split(folder, seed, groups)
        duplicates = cfg.DATASET.get("DUPLICATES", "error")
        split = without_duplicates(split, name, duplicates, self.reading)
        has_remedy = len(layout.parts) == 1 and not files and not groups
        warn_of_near_copies(split, name, has_remedy, self.reading)

        shots = cfg.DATASET.NUM_SHOTS
        pickled = folder / "split_fewshot" / f"shot_{shots}-seed_{seed}.pkl"
        if pickled.is_file():
            drawn = read_pickled_shots(pickled, folder) | {"test": split["test"]}
            refuse_disagreement(chain(drawn), pickled)
            split = without_duplicates(drawn, name, duplicates, self.reading)
        split = subsample_classes(split, cfg.DATASET.get("SUBSAMPLE_CLASSES", "all"))
        train = self.draw_shots(split["train"], shots, seed)
        val = self.draw_shots(split["val"], min(shots, VALIDATION_SHOTS), seed)
        super().__init__(train_x=train, val=val, test=[self.described(item) for item in split["test"]])

    def make_split(self, folder: Path, seed: int, by_groups: bool) -> Split:
        """Find the images of each part where no file lists them; see the function of that name."""
        return make_split(folder, self.layout, seed, by_groups, self.reading)

    def described(self, item: Datum) -> Datum:
        """Give a test image with its condition and angles, where a subclass knows them."""
        return item


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
    read, in folders below those of the classes too: MSTAR's raw chips end in .000 to .026.
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
            classes={name: readable(name) for name in options.CLASSES or sorted(found)},
            suffixes=(),
            centre_crop=options.CENTRE_CROP,
            train_share=options.TRAIN_SHARE,
            is_complete=False,
        )
        super().__init__(cfg)


def make_split(
    folder: Path, layout: Layout, seed: int, by_groups: bool = False, reading: Reading = AS_DEFAULT
) -> Split:
    """Find the training, validation and test images of a data set without a split file.

    Args:
        folder: of the data set.
        layout: of its folders.
        seed: of what is drawn.
        by_groups: near copies stay on one side, for a set without a fixed split.
        reading: how images are read.

    """
    for part in layout.parts:
        if not (folder / part).is_dir():
            raise InputError(f"{folder / part}: no such folder; {layout.folder} needs {' and '.join(layout.parts)}")
    parts = [find_part(folder / part, layout) for part in layout.parts]
    for part in layout.parts:
        warn_of_unknown(folder / part, layout)
    if not layout.is_complete:
        missing = [name for label, name in enumerate(layout.classes) if not any(part[label] for part in parts)]
        if missing or not layout.classes:
            what = f"no image of {', '.join(map(readable, missing))}" if missing else "no class folder"
            raise InputError(
                f"{folder}: {what} in {' or '.join(layout.parts)} ({' '.join(layout.suffixes) or 'of any kind'})"
            )
    warn_of_counts(parts, layout)
    everything = [item for part in parts for items in part.values() for item in items]
    digests = digests_of(everything, reading)
    contested = find_contested(everything, digests)
    warn_of_contested(everything, contested, digests)
    group_of = dict(zip(everything, likeness.groups(everything, reading), strict=True)) if by_groups else {}

    def divided(items: list[Datum], share: float, drawn: str) -> tuple[list[Datum], list[Datum]]:
        return divide(items, share, random.Random(drawn), contested, digests, group_of)

    split: Split = {part: [] for part in PARTS}
    for label in range(len(layout.classes)):
        train, *test = (part[label] for part in parts)
        if not test:
            train, rest = divided(train, layout.train_share, f"test {seed} {label}")
            test = [rest]
        val, train = divided(train, VALIDATION_SHARE, f"validation {seed} {label}")
        for name, items in zip(PARTS, (train, val, test[0]), strict=True):
            split[name] += items
    if by_groups:
        keep_groups_apart(split, group_of)
    return split


def find_part(folder: Path, layout: Layout) -> dict[int, list[Datum]]:
    """Find the images of each label in the training or the test folder, sorted.

    Folders below a class's, such as those of serial numbers, belong to the class.

    Raises:
        InputError: for a class without folder or without images, if the layout must be complete.

    """
    found = {}
    for label, (name, classname) in enumerate(layout.classes.items()):
        top = str(folder / name)  # and text from here on: every run of a table lists thousands of files again
        files = [os.path.join(place, file) for place, names in visible_files(top) for file in names]
        paths = sorted((file for file in files if is_of_kind(file, layout)), key=parts_of)
        if layout.is_complete and not paths:
            what = "holds no image" if (folder / name).is_dir() else "no such folder"
            raise InputError(f"{top}: {what}; {layout.folder} needs {' '.join(layout.suffixes)} files there")
        deeper = [parts for path in paths if len(parts := parts_of(path[len(top) + 1 :])) > 1]
        if deeper:
            below = ", ".join(sorted({parts[0] for parts in deeper}))
            log.warning(
                "%s: %d of its %d images lie in folders below it and are taken for the same class: %s",
                *(top, len(deeper), len(paths), below),
            )
        others = [path for path in files if not is_of_kind(path, layout) and is_image(path)]
        if others:
            log.warning(
                "%s: %d images of other kinds than %s are left out, such as %s",
                *(top, len(others), " ".join(layout.suffixes), parts_of(others[0])[-1]),
            )
        found[label] = [Datum(impath=path, label=label, classname=classname) for path in paths]
    return found


def parts_of(path: str) -> list[str]:
    """Give the names of the folders and the file of a path: what paths are sorted by."""
    return path.split(os.sep)  # noqa: PTH206 -- many times faster


def is_image(path: str) -> bool:
    """Tell whether a file's name is that of an image."""
    return sar_image.is_image_name(parts_of(path)[-1])


def is_of_kind(path: str, layout: Layout) -> bool:
    """Tell whether a file's name is that of an image of a set."""
    return path.lower().endswith(layout.suffixes) if layout.suffixes else is_image(path)


def digests_of(items: Sequence[Datum], reading: Reading) -> dict[str, str]:
    """Give the hash of each image's pixels, by its path."""
    alike = likeness.read_all(items, reading)
    return {item.impath: each.digest for item, each in zip(items, alike, strict=True)}


def warn_of_unknown(folder: Path, layout: Layout) -> None:
    """Say which folders are of no class, and how many images lie in none."""
    names = listdir_nohidden(folder)
    unknown = [name for name in names if (folder / name).is_dir() and name not in layout.classes]
    if unknown:
        log.warning("%s has folders of no class of this set, which are left out: %s", folder, ", ".join(unknown))
    loose = [name for name in names if is_image(name) and not (folder / name).is_dir()]
    if loose:
        log.warning("%s: %d images lie in no class's folder and are left out, such as %s", folder, len(loose), loose[0])


def warn_of_counts(parts: list[dict[int, list[Datum]]], layout: Layout) -> None:
    """Say which classes have another number of images than published, or none where that is not known."""
    differing = [
        f"{part}/{name} {len(images[label])} ({layout.counts[name][place]})"
        for place, (part, images) in enumerate(zip(layout.parts, parts, strict=True))
        for label, name in enumerate(layout.classes)
        if name in layout.counts and len(images[label]) != layout.counts[name][place]
    ]
    if differing:
        log.warning(
            "%s has other numbers of images than published (in brackets): %s", layout.folder, ", ".join(differing)
        )
    empty = [
        f"{part}/{name}"
        for part, images in zip(layout.parts, parts, strict=True)
        for label, name in enumerate(layout.classes)
        if name not in layout.counts and not images[label]
    ]
    if empty:
        log.warning("%s has no image in %s", layout.folder, ", ".join(empty))


def find_contested(items: list[Datum], digests: Mapping[str, str]) -> set[str]:
    """Find the hashes of images that lie in the folders of several classes."""
    labels: defaultdict[str, set[int]] = defaultdict(set)
    for item in items:
        labels[digests[item.impath]].add(item.label)
    return {digest for digest, several in labels.items() if len(several) > 1}


def warn_of_contested(items: list[Datum], contested: set[str], digests: Mapping[str, str]) -> None:
    """Say how many images lie in the folders of several classes, and name one."""
    if contested:
        paths = [item.impath for item in items if digests[item.impath] == min(contested)]
        log.warning("%d images lie in several classes' folders, such as %s", len(contested), " and ".join(paths))


def divide(
    items: list[Datum],
    share: float,
    generator: random.Random,
    contested: set[str],
    digests: Mapping[str, str],
    group_of: Mapping[Datum, int],
) -> tuple[list[Datum], list[Datum]]:
    """Divide images at random into two parts, the first with round(share * n) images.

    Identical images, and those of a group, stay together, for which the first part may have a few less; contested ones
    are in the second.
    """
    copies: defaultdict[int | str, list[Datum]] = defaultdict(list)
    for item in shuffled(items, generator):
        copies[group_of.get(item, digests[item.impath])].append(item)
    first: list[Datum] = []
    second: list[Datum] = []
    for same in copies.values():
        is_contested = any(digests[item.impath] in contested for item in same)
        fits = not is_contested and len(first) + len(same) <= round(share * len(items))
        (first if fits else second).extend(same)
    return first, second


def keep_groups_apart(split: Split, group_of: Mapping[Datum, int]) -> None:
    """Move to the test part what has a near copy there, of another class: within a class groups are on one side."""
    tested = {group_of[item] for item in split["test"]}
    for part in ("train", "val"):
        split["test"] += [item for item in split[part] if group_of[item] in tested]
        split[part] = [item for item in split[part] if group_of[item] not in tested]
    validated = {group_of[item] for item in split["val"]}
    split["train"] = [item for item in split["train"] if group_of[item] not in validated]


def without_duplicates(split: Split, name: str, choice: str, reading: Reading) -> Split:
    """Look for images that are, pixel for pixel, for training (or validation) and for testing.

    Args:
        split: the parts.
        name: of the data set.
        choice: "error"; "drop" leaves them out of training and validation; "warn" leaves them in.
        reading: how images are read.

    Raises:
        InputError: that names them, if there are any.

    """
    digests = digests_of(list(chain(split)), reading)
    tested = {digests[item.impath]: item.impath for item in split["test"]}
    both = [
        (item, tested[digests[item.impath]])
        for part in ("train", "val")
        for item in split[part]
        if digests[item.impath] in tested
    ]
    if not both:
        return split
    pairs = "; ".join(f"{item.impath} equals {other}" for item, other in both[:NAMED_AT_MOST])
    more = f"; and {len(both) - NAMED_AT_MOST} more" if len(both) > NAMED_AT_MOST else ""
    found = f"data set {name}: {len(both)} training images are test images too: {pairs}{more}"
    if choice == "error":
        raise InputError(f"{found}; DATASET.DUPLICATES drop leaves them out of training, DATASET.DUPLICATES warn in it")
    log.warning("%s; %s", found, "left out of training" if choice == "drop" else "left in it")
    if choice == "warn":
        return split
    dropped = {item for item, _ in both}
    return split | {part: [item for item in split[part] if item not in dropped] for part in ("train", "val")}


def warn_of_near_copies(split: Split, name: str, has_remedy: bool, reading: Reading) -> None:
    """Say how many test images have a near copy in training or validation, and name some."""
    near = likeness.near_copies(split["test"], split["train"] + split["val"], reading)
    if near:
        examples = "; ".join(f"{test.impath} and {train.impath}" for test, train in near[:2])
        share = f"{len(near):,} of {len(split['test']):,} test images ({len(near) / len(split['test']):.1%})"
        log.warning(
            f"data set {name}: {share} have a near copy in training (correlation above {likeness.NEAR} at "
            f"{likeness.SIDE} px), such as {examples}"
            + ("; DATASET.SPLIT_BY groups keeps near copies on one side" if has_remedy else "")
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
        part: [replace(item, label=kept.index(item.label)) for item in items if item.label in kept]
        for part, items in split.items()
    }


def chain(split: Split) -> Iterator[Datum]:
    """Give the images of all parts."""
    return (item for items in split.values() for item in items)
