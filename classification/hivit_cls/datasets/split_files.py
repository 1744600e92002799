"""Splits that a file lists: split*.json of a data set's folder, and the few shots that Dassl's clients have pickled."""

import pickle
from collections import defaultdict
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

from dassl.data.datasets import Datum
from dassl.utils import read_json
from saratrx.errors import InputError, first_line
from saratrx.files import is_file
from saratrx.reporting import get_logger

log = get_logger(__name__)

PARTS = ("train", "val", "test")
LARGEST_BYTES = 100_000_000  # of a pickle
LONGEST_NAME = 300  # characters that a sentence shows
Split = dict[str, list[Datum]]


def read_split(path: Path) -> Split:
    """Read training, validation and test images as a split file lists them.

    Paths are relative to the file's folder, with slashes or backslashes.

    Raises:
        InputError: if it is no {"train": [[path, label, class name], ...], "val": ..., "test": ...}, names a file that
            is not there, or a label and a class name that do not belong together.

    """
    content = read_json(path)
    try:
        rows = {part: [tuple(row) for row in content.get(part, [])] for part in PARTS}
        split = {part: [as_datum(path.parent, *row) for row in rows[part]] for part in PARTS}
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f'{path} must be {{"train": [[path, label, class name], ...], "val": ..., "test": ...}}, its labels '
            "whole numbers"
        ) from error
    refuse_bad_items([item for part in PARTS for item in split[part]], path)
    log.info("split read from %s", path)
    return split


def as_datum(folder: Path, name: Any, label: Any, classname: Any) -> Datum:
    """Make an image of a row.

    Raises:
        TypeError: for a label that is no whole number, or a path or name that is no text.

    """
    if type(label) is not int or not isinstance(name, str) or not isinstance(classname, str | int):
        raise TypeError("not a path, a label and a class name")
    path = folder / name
    if "\\" in name and not path.exists():
        path = folder / name.replace("\\", "/")
    return Datum(str(path), label, classname=str(classname))


def refuse_bad_items(items: list[Datum], path: Path) -> None:
    """Raise an InputError for labels that cannot be, files that are not there, and names that disagree with labels."""
    for item in items:
        if not 0 <= item.label < len(items):
            what = "is negative" if item.label < 0 else f"is no number of a class, with {len(items)} images in all"
            raise InputError(f"{item.impath}, which {path.name} lists: label {item.label} {what}")
        if not is_file(item.impath):
            raise InputError(f"{item.impath[:LONGEST_NAME]}, which {path.name} lists: no such file")
    refuse_disagreement(items, path)


def refuse_disagreement(items: Iterable[Datum], path: Path) -> None:
    """Raise an InputError if a label has two class names, or a class name two labels."""
    names: defaultdict[int, set[str]] = defaultdict(set)
    labels: defaultdict[str, set[int]] = defaultdict(set)
    for item in items:
        names[item.label].add(item.classname)
        labels[item.classname].add(item.label)
    for label, several in sorted(names.items()):
        if len(several) > 1:
            called = " and ".join(name[:LONGEST_NAME] for name in sorted(several)[:3])
            raise InputError(f"{path}: label {label} is called {called}: correct the one that is wrong")
    for name, numbers in sorted(labels.items()):
        if len(numbers) > 1:
            shown = " and ".join(map(str, sorted(numbers)[:3]))
            raise InputError(f"{path}: {name[:LONGEST_NAME]!r} has the labels {shown}: correct one")


class DatumUnpickler(pickle.Unpickler):
    """Reads lists of `Datum` as Dassl's clients pickle them, and can make nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if name == "Datum" and module.startswith("dassl.data.datasets"):
            return Datum
        if (module, name) in (("copyreg", "_reconstructor"), ("copy_reg", "_reconstructor")):
            return new_datum
        if (module, name) in (("builtins", "object"), ("__builtin__", "object")):
            return object
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which can run code")


def new_datum(cls: Any, *_: Any) -> Datum:
    """Make an empty `Datum`, as pickles of an old protocol ask for."""
    if cls is not Datum:
        raise pickle.UnpicklingError("it holds something else than images")
    return Datum.__new__(Datum)


def read_pickled_shots(path: Path, folder: Path) -> Split:
    """Read the training and validation images of a `split_fewshot/shot_<n>-seed_<seed>.pkl`, without running anything.

    Paths of another machine are taken from where they name the folder of the data set.

    Raises:
        InputError: if it holds anything but images, or images that are not there.

    """
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise ValueError(f"more than {LARGEST_BYTES:,} bytes")
        content = DatumUnpickler(BytesIO(path.read_bytes())).load()
        found = {part: list(content.get(part, [])) for part in ("train", "val")}
        if not all(isinstance(item, Datum) for items in found.values() for item in items):
            raise ValueError("it holds something else than images")
        split = {
            part: [Datum(place_of(item.impath, folder), item.label, item.domain, item.classname) for item in items]
            for part, items in found.items()
        }
    except Exception as error:  # a damaged file makes the unpickler raise anything at all
        raise InputError(f"{path} cannot be read as few shots: {first_line(error)}; remove it to draw them") from error
    refuse_bad_items(split["train"] + split["val"], path)
    log.info("shots read from %s", path)
    return split


def place_of(impath: str, folder: Path) -> str:
    """Give where an image is: where the pickle says, or below the data set's folder here."""
    if is_file(impath):
        return impath
    _, _, below = str(impath).replace("\\", "/").rpartition(f"/{folder.name}/")
    return str(folder / below) if below else impath
