"""What annotation formats other than COCO share: texts, numbers, the images that files are about, the way to COCO."""

import re
import reprlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coco_annotations.voc import BELOW, LONGEST_NAME, MARKS, TOLERANCE, image_files
from saratrx import sar_files
from saratrx.errors import InputError, first_line
from saratrx.files import is_folder
from saratrx.reporting import get_logger

log = get_logger(__name__)

Points = list[tuple[float, float]]
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
LABELS = ("labels", "labeltxt", "annotations")  # folders beside one called images
TWICE = "that stand twice"
NO_AREA = "without area"
OUTSIDE = "outside of their image"


@dataclass(frozen=True)
class Target:
    """A target: its corners in pixels from the image's upper left corner; of an upright box, two opposite ones."""

    name: str
    points: Points
    where: str  # it stands: the file and the line, for what is said
    is_upright: bool = True
    is_difficult: bool = False


@dataclass(frozen=True)
class Annotated:
    """An image, `size` is (width, height), and its targets."""

    source: Path  # the annotation file
    file_name: str
    size: tuple[int, int]
    targets: list[Target]
    left_out: list[tuple[str, str]] = field(default_factory=list)  # shapes that are no targets: what, and where
    facts: dict[str, Any] = field(default_factory=dict)  # kept in COCO's entry of the image


def text_of(path: Path) -> str:
    """Read a text file in UTF-8, in UTF-16 or -32 with a byte order mark, or in GB18030, which GBK and GB2312 are in.

    Raises:
        InputError: if it cannot be read, or is in none of these.

    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {first_line(error)}") from error
    marked = next((name for mark, name in MARKS.items() if content.startswith(mark)), None)
    for encoding in (marked,) if marked else ("utf-8", "gb18030"):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise InputError(f"{path} is no text in {marked or 'UTF-8 or GBK'}; save it in UTF-8")


def lines_of(path: Path) -> list[tuple[str, list[str]]]:
    """Give the words of each line that has any, with the place of the line."""
    lines = enumerate(text_of(path).replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1)
    split = ((f"{path}, line {number}", line.strip("\0\x1a").split()) for number, line in lines)  # padding of old tools
    return [(where, words) for where, words in split if words]


def number(where: str, word: Any) -> float:
    """Read a number, which stands in a text or in JSON.

    Raises:
        InputError: if it is none, not finite, or too large to be meant.

    """
    is_number = NUMBER.fullmatch(word) if isinstance(word, str) else type(word) in (int, float)
    try:
        if is_number and abs(float(word)) < BELOW:
            return float(word)
    except OverflowError:
        pass
    hint = ", and has a comma: write it with a point" if isinstance(word, str) and "," in word else "; correct it"
    raise InputError(f"{where}: {reprlib.repr(word)} is not a number below 2^31{hint}")


def pairs(values: Sequence[float]) -> Points:
    """Give x, y, x, y, ... as points."""
    return list(zip(values[::2], values[1::2], strict=True))


class Images:
    """The images that annotation files are about.

    Args:
        annotations: the folder of the files. Where `given` is None, images are looked for in the folder `images`
            beside it, if it is called labels, labelTxt or annotations or lies in such a one, else in the folder itself.
        given: the folder of the images.

    """

    def __init__(self, annotations: Path, given: Path | None) -> None:
        self.is_given = given is not None
        self.folder = given or beside(annotations.absolute())
        self.by_stem = image_files(self.folder)

    def named(self, path: Path, said: str | None = None) -> str:
        """Give the image of an annotation file: of its name, else `said`.

        Raises:
            InputError: if there is none, or several.

        """
        found = self.by_stem.get(path.stem, [])
        if len(found) > 1 and said in found:
            found = [said]
        if not found and said:
            found = self.by_stem.get(Path(said).stem, [])
        if len(found) != 1:
            shown = path.stem[:LONGEST_NAME]
            raise InputError(
                f"{self.folder} has {len(found)} images called {shown} for {path}; there should be one: "
                "give --images FOLDER, or take the file out"
            )
        return found[0]

    def has(self, *names: str | Path | None) -> bool:
        """Whether there is an image of one of some names, whatever their extension."""
        return any(name is not None and Path(name).stem in self.by_stem for name in names)

    def say_unused(self, used: Iterable[str]) -> None:
        """Say which images no annotation file is about."""
        unused = sorted({name for names in self.by_stem.values() for name in names} - set(used))
        if unused:
            log.warning(
                "%d images of %s have no annotation file, the first is %s; an empty file says that there is no target",
                *(len(unused), self.folder, unused[0]),
            )

    def size(self, file_name: str) -> tuple[int, int]:
        """Give an image's width and height in pixels, by its file.

        Raises:
            InputError: if it cannot be read.

        """
        with sar_files.open(self.folder / file_name) as image:
            height, width = image.shape
        return width, height


def beside(folder: Path) -> Path:
    """Give the folder of the images that belongs to one of annotations, by its name; itself if there is none."""
    for place in reversed(range(len(folder.parts))):
        if folder.parts[place].lower() in LABELS:
            found = Path(*folder.parts[:place], "images", *folder.parts[place + 1 :])
            if is_folder(found):
                return found
    return folder


def to_coco(images: Iterable[Annotated], classes: Sequence[str] | None) -> dict[str, Any]:
    """Give what a COCO file holds, and say in one sentence what was left out and why.

    Ids count from 1. The box of a shape that is not upright is its hull, inside of the image, and its corners stand in
    `segmentation`; `area` is the box's. What is difficult is a crowd: evaluation neither rewards nor punishes it.
    Targets that stand twice, have no area or are outside of their image are left out.

    Args:
        images: as a reader gives them.
        classes: names of the categories in their order; None for those found, sorted.

    Raises:
        InputError: if two files are about one image, or a target's class is not among `classes`.

    """
    content: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
    sources: dict[str, Path] = {}
    left_out: list[tuple[str, str]] = []
    names, reach_out = [], []
    for image in images:
        if image.file_name in sources:
            raise InputError(f"{image.source} and {sources[image.file_name]} are both about {image.file_name}")
        sources[image.file_name] = image.source
        width, height = image.size
        facts = {"id": len(sources), "file_name": image.file_name, "width": width, "height": height}
        content["images"].append(facts | image.facts)
        left_out += image.left_out
        seen = set()
        for target in image.targets:
            if classes is not None and target.name not in classes:
                raise InputError(f"{target.where}: the class {target.name!r} is not in --classes; add it there")
            reason = why_left_out(target, image.size)
            if (target.name, *target.points) in seen:
                reason = TWICE
            if reason:
                left_out.append((reason, target.where))
                continue
            seen.add((target.name, *target.points))
            box = hull(target.points)
            if not target.is_upright:
                box = max(box[0], 0.0), max(box[1], 0.0), min(box[2], width), min(box[3], height)
            elif max(-box[0], -box[1], box[2] - width, box[3] - height) > TOLERANCE:
                reach_out.append(target.where)
            names.append(target.name)
            sides = box[2] - box[0], box[3] - box[1]
            entry = {
                "id": len(names),
                "image_id": len(sources),
                "bbox": [*box[:2], *sides],
                "area": sides[0] * sides[1],
            }
            if not target.is_upright:
                entry["segmentation"] = [[value for point in target.points for value in point]]
            content["annotations"].append(entry | {"iscrowd": int(target.is_difficult)})
    say(left_out, reach_out)
    ids = {name: number for number, name in enumerate(sorted(set(names)) if classes is None else classes, 1)}
    for entry, name in zip(content["annotations"], names, strict=True):
        entry["category_id"] = ids[name]
    return content | {"categories": [{"id": number, "name": name} for name, number in ids.items()]}


def why_left_out(target: Target, size: tuple[int, int]) -> str:
    """Say why a target cannot be used; empty if it can."""
    left, top, right, bottom = hull(target.points)
    if right <= left or bottom <= top or not (target.is_upright or area(target.points)):
        return NO_AREA
    return OUTSIDE if right <= 0 or bottom <= 0 or left >= size[0] or top >= size[1] else ""


def hull(points: Points) -> tuple[float, float, float, float]:
    """Left, upper, right and lower edge of points."""
    columns, rows = zip(*points, strict=True)
    return min(columns), min(rows), max(columns), max(rows)


def area(points: Points) -> float:
    """Area of a polygon (the shoelace formula)."""
    following = [*points[1:], points[0]]
    return abs(sum(x * b - a * y for (x, y), (a, b) in zip(points, following, strict=True))) / 2


def say(left_out: Sequence[tuple[str, str]], reach_out: Sequence[str]) -> None:
    """Say what was left out and why, and which boxes reach out of their image."""
    first: dict[str, str] = {}
    for reason, where in left_out:
        first.setdefault(reason, where)
    counts = Counter(reason for reason, _ in left_out)
    parts = [f"{count} {reason} (the first in {first[reason]})" for reason, count in counts.items()]
    if parts:
        log.warning("left out: %s", ", ".join(parts))
    if reach_out:
        log.warning(
            "%d boxes reach out of their image, the first in %s; tools/check_coco.py lists them",
            *(len(reach_out), reach_out[0]),
        )
