"""YOLO's annotations: a text file per image, with a class by its number, and places in shares of the image's sides."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from coco_annotations.targets import Annotated, Images, Target, lines_of, number, pairs, text_of
from saratrx.errors import InputError, first_line
from saratrx.files import is_file

NAMES = ("data.yaml", "dataset.yaml", "classes.txt", "obj.names")  # files with the names of the classes
LEVELS = 3  # folders above that of the files, in which these may be
HIGHEST = 2.0  # of a share: a corner may lie outside of its image, a number of pixels is larger


def class_names(folder: Path) -> list[str]:
    """Read the names of the classes, in the order of their numbers, from the file next to or above a folder.

    Raises:
        InputError: if there is no such file, it cannot be read, or two in one folder differ.

    """
    for place in (folder.absolute(), *list(folder.absolute().parents)[:LEVELS]):
        found = {place / name: names_in(place / name) for name in NAMES if is_file(place / name)}
        if len({tuple(names) for names in found.values()}) > 1:
            raise InputError(f"{' and '.join(map(str, found))} name other classes; give --classes, or remove one")
        if found:
            return next(iter(found.values()))
    raise InputError(
        f"{folder} and the folders above it have no {' or '.join(NAMES)}; give the names of the classes by --classes"
    )


def names_in(path: Path) -> list[str]:
    """Read the names of classes in a file: `names` of a YAML file, a list or a dict by number, or a name per line.

    Raises:
        InputError: if it has none, one is empty or stands twice, or their number is not the file's `nc`.

    """
    content: Any = None
    if path.suffix == ".yaml":
        try:
            content = yaml.safe_load(text_of(path))
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise InputError(f"{path} cannot be read as YAML: {first_line(error)}") from error
        names = content.get("names") if isinstance(content, dict) else None
        if isinstance(names, dict) and list(names) == list(range(len(names))):
            names = list(names.values())
        if not isinstance(names, list) or not names or not all(type(each) in (str, int) for each in names):
            raise InputError(f"{path} has no names that are a list, or numbered from 0; correct it, or give --classes")
        if "nc" in content and content["nc"] != len(names):
            raise InputError(f"{path} has {len(names)} names, and nc is {str(content['nc'])[:30]}; correct it")
    else:
        names = text_of(path).splitlines()
        while names and not names[-1].strip():
            names.pop()
    names = [str(name).strip() for name in names]
    if not names or not all(names) or len(set(names)) != len(names):
        raise InputError(f"{path}: a name of a class is empty or stands twice; correct it, or give --classes")
    return names


def read(paths: Sequence[Path], images: Images, classes: Sequence[str]) -> Iterator[Annotated]:
    """Read YOLO's files: a line is a class, and a box (centre, sides), or the corners of a shape, as YOLO-OBB has four.

    Raises:
        InputError: naming the line that is none of these, or the file without its image.

    """
    for path in paths:
        file_name = images.named(path)
        size = images.size(file_name)
        targets = [target_in(where, words, classes, size) for where, words in lines_of(path)]
        yield Annotated(path, file_name, size, targets)


def target_in(where: str, words: Sequence[str], classes: Sequence[str], size: tuple[int, int]) -> Target:
    """Read a line.

    Raises:
        InputError: if it cannot be meant.

    """
    if not (words[0].isascii() and words[0].isdecimal()) or len(words[0]) > 9 or int(words[0]) >= len(classes):
        raise InputError(
            f"{where}: {words[0][:30]!r} is not the number of a class, from 0 to {len(classes) - 1}; "
            "correct it, or the names of the classes"
        )
    values = [number(where, word) for word in words[1:]]
    if len(values) == 5:
        raise InputError(
            f"{where} has five numbers after the class, as found boxes with a score have; give annotations"
        )
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise InputError(
            f"{where} has {len(values)} numbers after the class: four are a box, eight an oriented one, and an even "
            "number from six on a polygon"
        )
    if max(map(abs, values)) > HIGHEST:
        raise InputError(
            f"{where} has {max(values, key=abs):g}, which is no share of the image's side; divide pixels by the sides"
        )
    if len(values) > 4:
        corners = [(x * size[0], y * size[1]) for x, y in pairs(values)]
        return Target(classes[int(words[0])], corners, where, is_upright=False)
    x, y, width, height = (value * size[i % 2] for i, value in enumerate(values))
    if min(width, height) < 0:
        raise InputError(f"{where} has a side below 0; correct it")
    corners = [(x - width / 2, y - height / 2), (x + width / 2, y + height / 2)]
    return Target(classes[int(words[0])], corners, where)
