"""Checks of a detection set in COCO form: its annotation files, its images, and whether they fit each other."""

import hashlib
import math
import re
import reprlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate
from tqdm import tqdm

from coco_annotations.coco_json import crowd, is_finite, is_usable, read_json
from coco_annotations.likeness import SAME, Sketch, candidates, likeness, sketch
from saratrx import sar_image
from saratrx.cores import available
from saratrx.errors import InputError
from saratrx.files import is_file, is_folder, visible_files
from saratrx.grey_scale import Remap

# Kinds of findings, in the order of the table. Those before MISSING are for information: nothing is wrong with them.
WITHOUT_BOXES = "images without boxes"
TWICE = "images that a file has under two names"
NEARLY = "images that are nearly another"
GREY = "grey levels unlike the others"
UNUSED = "classes without boxes"  # such as the root category that Roboflow writes
LEFT_OUT = "classes that the config leaves out"
INFORMATION = (WITHOUT_BOXES, TWICE, NEARLY, GREY, UNUSED, LEFT_OUT)
MISSING = "images missing"
UNREADABLE = "images unreadable"
OTHER_SIZE = "images of another size than stated"
SHARED = "images that two annotation files have"
IMAGE_IDS = "image ids that stand twice"
FILE_NAMES = "file names that stand twice"
ANNOTATION_IDS = "annotation ids that stand twice"
BAD_IDS = "ids that are no numbers below 2^53"
NO_BOXES = "files without a box to train on"
ID_ZERO = "boxes with the id 0"  # pycocotools takes the id of a matched box for true or false
NO_IMAGE = "boxes of an unknown image"
NO_CATEGORY = "boxes of an unknown category"
NO_AREA = "boxes without area (under 1 px)"
DOUBLED = "boxes that stand twice"
OUTSIDE = "boxes more than 0.5 px outside"
CROWD = "boxes without iscrowd of 0 or 1"
CATEGORIES = "category ids, names that stand twice"
CLASSES = "classes that only other files have"
CONFIG = "classes that only the config has"
PROBLEMS = (
    *(MISSING, UNREADABLE, OTHER_SIZE, SHARED, IMAGE_IDS, FILE_NAMES, ANNOTATION_IDS, BAD_IDS, NO_BOXES),
    *(ID_ZERO, NO_IMAGE, NO_CATEGORY, NO_AREA, DOUBLED, OUTSIDE, CROWD, CATEGORIES, CLASSES, CONFIG),
)
OF_CONFIG = (LEFT_OUT, CONFIG)

ID = (int, float, str)
FIELDS: dict[str, dict[str, type | tuple[type, ...]]] = {  # what an entry must have to be told from others
    "images": {"id": ID, "file_name": str},
    "annotations": {"id": ID, "image_id": ID, "category_id": ID},
    "categories": {"id": ID, "name": str},
}
TOLERANCE = 0.5  # px that a box may reach outside: rounding
OVERLAP = 0.95  # intersection over union from which on two boxes of a class are one
MOST_LOOKS = 10  # at images that may be like one: where borders are black alike, there are thousands
LEAST, MOST = 0.25, 4.0  # of a spread of grey levels in that which is expected
EXAMPLES = 5  # shown of each kind of finding
Folder = tuple[str, ...]  # its path relative to the set's folder


@dataclass
class AnnotationFile:
    """A COCO annotation file. `findings` holds, for each kind that was looked for, a line per one found."""

    root: Path  # the set's folder
    name: str  # relative to it, as the next
    folder: Path | None  # of the images; None if none of them was found
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    categories: list[dict[str, Any]]
    findings: dict[str, list[str]] = field(default_factory=dict)
    grey: tuple[float, float] | None = None  # mean and standard deviation of its grey levels, see `check`

    def path(self, image: dict[str, Any]) -> Path:
        """Where an image should be."""
        return self.root / (self.folder or "") / image["file_name"]

    def classes(self) -> set[str]:
        """Names of its categories, as a set."""
        return {category["name"] for category in self.categories}

    def problems(self) -> int:
        """How many problems were found in it."""
        return sum(len(self.findings[kind]) for kind in PROBLEMS if kind in self.findings)


@dataclass(frozen=True)
class Picture:
    """What was seen of an image file."""

    wrong: str = ""  # MISSING or UNREADABLE
    reason: str = ""
    size: tuple[int, int] | None = None  # width, height in pixels
    digest: bytes | None = None  # of the pixels and their shape; None if all pixels are alike
    sketch: Sketch | None = None  # likewise; see `likeness`
    grey: tuple[float, float] = (0.0, 0.0)  # mean and standard deviation of the levels, in [0, 255]


def find(data: Path) -> tuple[list[AnnotationFile], list[str]]:
    """Find the annotation files of a set, sorted by name, and the names of its other JSON files.

    Args:
        data: the set's folder, or one annotation file, whose images lie below its folder (below the folder above, if
            its own is called annotations).

    Raises:
        InputError: if there is no annotation file, or one cannot be used.

    """
    if not is_file(data) and not is_folder(data):
        raise InputError(f"{data}: no such file or folder; give a data set's folder or an annotation file")
    if is_file(data):
        data = data.absolute()
        root = data.parent.parent if data.parent.name.lower() == "annotations" else data.parent
        folders, names = folders_of_files(root), [data.relative_to(root)]
    else:
        root, folders = data, folders_of_files(data)
        names = [Path(*folder, name) for name in folders if name.endswith(".json") for folder in folders[name]]
    files, others = [], []
    for name in sorted(names):
        content = read_annotations(root / name)
        if content is None:
            others.append(name.as_posix())
            continue
        folder = image_folder((image["file_name"] for image in content["images"]), name.stem, folders)
        parts = content["images"], content["annotations"], content["categories"]
        files.append(AnnotationFile(root, name.as_posix(), None if folder is None else Path(*folder), *parts))
    if not files:
        raise InputError(
            f"{data} is or holds no COCO annotation file, JSON with images, annotations and categories; "
            "give a data set's folder or such a file"
        )
    return files, others


def folders_of_files(root: Path) -> dict[str, list[Folder]]:
    """Map each name of a visible file below a folder to the folders that have it."""
    found = defaultdict(list)
    for path, names in visible_files(root):
        for name in names:
            found[name].append(Path(path).relative_to(root).parts)
    return found


def read_annotations(path: Path) -> dict[str, list[dict[str, Any]]] | None:
    """Read the images, annotations and categories of a COCO annotation file; None for JSON of another kind.

    Raises:
        InputError: if it is no JSON, or an entry lacks what all checks need.

    """
    content = read_json(path)
    if not isinstance(content, dict) or not {"images", "categories"} <= content.keys():
        return None
    content = dict[str, Any](annotations=[]) | content
    for part, fields in FIELDS.items():
        if not isinstance(content[part], list):
            raise InputError(f"{path}: {part} is no list; fix the file")
        for number, entry in enumerate(content[part]):
            for name, kinds in fields.items():
                if not isinstance(entry, dict) or not isinstance(entry.get(name), kinds):
                    raise InputError(f"{path}: {part}[{number}] has no {name} that can be used; fix the file")
    return {part: content[part] for part in FIELDS}


def image_folder(file_names: Iterable[str], stem: str, folders: dict[str, list[Folder]]) -> Folder | None:
    """Choose the folder that has the most of some files, whose names may begin with subfolders; None if none has any.

    Of several, one with a word of the annotation file's stem in its path is taken: images/train for instances_train;
    of these the highest, and then the first.
    """
    votes: Counter[Folder] = Counter()
    for file_name in file_names:
        *subfolders, name = PurePosixPath(file_name).parts or ("",)
        for folder in folders.get(name, ()):
            above = len(folder) - len(subfolders)
            if list(folder[above:]) == subfolders:
                votes[folder[:above]] += 1
    words = {stem.lower(), *re.split(r"[\W_]+", stem.lower())}

    def merit(folder: Folder) -> tuple[int, bool, int]:
        return votes[folder], not words.isdisjoint(part.lower() for part in folder), -len(folder)

    return max(sorted(votes), key=merit, default=None)


def check(
    files: list[AnnotationFile],
    config_classes: set[str] | None = None,
    remap: Remap = "percentile",
    channel: str | int | None = None,
    normalisation: tuple[float, float] | None = None,
) -> None:
    """Look for every kind of problem, and note what is found in the files' `findings`.

    Args:
        files: of one set.
        config_classes: names that a config has for the categories, all or some; None: there is no config.
        remap: how images are read, see `sar_image.read`.
        channel: likewise.
        normalisation: the mean that a config takes off the grey levels, and the deviation that it divides them by.

    """
    kinds = [kind for kind in (*INFORMATION, *PROBLEMS) if kind not in OF_CONFIG or config_classes is not None]
    for file in files:
        file.findings = {kind: [] for kind in kinds}
    pictures = look_at_all({file.path(image) for file in files for image in file.images}, remap, channel)
    for file in files:
        check_repetitions(file)
        check_ids(file)
        check_classes(file, config_classes)
        check_images(file, pictures)
        check_boxes(file, pictures)
        check_doubled_boxes(file)
        check_grey(file, pictures, normalisation)
    check_likeness(files, pictures, remap, channel)
    check_shared_images(files, pictures)
    every_class = set().union(*(file.classes() for file in files))
    for file in files:
        file.findings[CLASSES] += [f"{name!r} is missing" for name in sorted(every_class - file.classes())]


def look_at_all(paths: set[Path], remap: Remap, channel: str | int | None) -> dict[Path, Picture]:
    """Read images, several at a time."""
    ordered, look = sorted(paths), partial(look_at, remap=remap, channel=channel)
    with ThreadPoolExecutor(available()) as pool:
        seen = tqdm(pool.map(look, ordered), total=len(ordered), desc="images", unit="", leave=False)
        return dict(zip(ordered, seen, strict=True))


def look_at(path: Path, remap: Remap, channel: str | int | None) -> Picture:
    """Read one image."""
    try:
        if not is_file(path):
            return Picture(MISSING)
        pixels = sar_image.read(path, remap=remap, channel=channel)
    except (sar_image.ImageError, OSError) as error:
        return Picture(UNREADABLE, str(error))
    height, width = pixels.shape
    grey = float(pixels.mean()), float(pixels.std())
    if pixels.min() == pixels.max():  # black tiles at the border of scenes are alike, and nothing leaks by them
        return Picture(size=(width, height), grey=grey)
    digest = hashlib.sha256(f"{width} {height} ".encode() + pixels.tobytes()).digest()
    return Picture(size=(width, height), digest=digest, sketch=sketch(pixels), grey=grey)


def check_repetitions(file: AnnotationFile) -> None:
    """Look for what should be unique."""
    for kind, entries, name in (
        (IMAGE_IDS, file.images, "id"),
        (FILE_NAMES, file.images, "file_name"),
        (ANNOTATION_IDS, file.annotations, "id"),
        (CATEGORIES, file.categories, "id"),
        (CATEGORIES, file.categories, "name"),
    ):
        counts = Counter(entry[name] for entry in entries)
        file.findings[kind] += [f"{name} {value!r} stands {n} times" for value, n in counts.items() if n > 1]


def check_ids(file: AnnotationFile) -> None:
    """Look for ids that not every reader of JSON can tell apart, or that the evaluation cannot compute with."""
    entries: dict[str, list[dict[str, Any]]]
    entries = {"images": file.images, "annotations": file.annotations, "categories": file.categories}
    for part, fields in FIELDS.items():
        for number, entry in enumerate(entries[part]):
            for name in fields:
                is_text = isinstance(entry[name], str) and (part, name) == ("annotations", "id")
                if is_text or not is_usable(name, entry[name]):
                    file.findings[BAD_IDS].append(f"{part}[{number}]: {name} is {reprlib.repr(entry[name])}")


def check_classes(file: AnnotationFile, config_classes: set[str] | None) -> None:
    """Count the boxes of each class, and compare the classes with a config's."""
    boxes = Counter(annotation["category_id"] for annotation in file.annotations)
    counts = {category["name"]: boxes[category["id"]] for category in file.categories}
    file.findings[UNUSED] += [
        f"{category['name']!r}, id {category['id']!r}" for category in file.categories if not boxes[category["id"]]
    ]
    if not any(has_area(annotation) and not crowd(annotation.get("iscrowd")) for annotation in file.annotations):
        file.findings[NO_BOXES].append(f"{file.name}: none of its {len(file.annotations)} boxes can be trained on")
    if config_classes is not None:
        file.findings[CONFIG] += [f"{name!r} is missing" for name in sorted(config_classes - counts.keys())]
        file.findings[LEFT_OUT] += [
            f"{name!r} is not in the config: its boxes, {counts[name]}, are left out"
            for name in sorted(counts.keys() - config_classes)
        ]


def check_images(file: AnnotationFile, pictures: dict[Path, Picture]) -> None:
    """Compare what a file says of its images with what they are."""
    with_boxes = {annotation["image_id"] for annotation in file.annotations}
    for image in file.images:
        picture, where = pictures[file.path(image)], f"image {image['id']}, {image['file_name']}"
        stated = image.get("width"), image.get("height")
        if image["id"] not in with_boxes:
            file.findings[WITHOUT_BOXES].append(where)
        if picture.wrong:
            file.findings[picture.wrong].append(f"{where}: {picture.reason}" if picture.reason else where)
        elif picture.size is not None and stated != picture.size:
            said = " x ".join(map(reprlib.repr, stated))
            file.findings[OTHER_SIZE].append(f"{where}: stated {said}, it has {picture.size[0]} x {picture.size[1]}")


def check_boxes(file: AnnotationFile, pictures: dict[Path, Picture]) -> None:
    """Check boxes against the size of their image (as stated, if it cannot be read) and the ids that there are."""
    images = {image["id"]: image for image in file.images}
    categories = {category["id"] for category in file.categories}
    for annotation in file.annotations:
        image, where = images.get(annotation["image_id"]), f"annotation {annotation['id']}"
        if image is None:
            file.findings[NO_IMAGE].append(f"{where}: there is no image {annotation['image_id']!r}")
        else:
            where += f" of image {image['id']}, {image['file_name']}"
        if annotation["id"] == 0:
            file.findings[ID_ZERO].append(f"{where}: what finds it counts as a false alarm; number boxes from 1")
        if annotation["category_id"] not in categories:
            file.findings[NO_CATEGORY].append(f"{where}: there is no category {annotation['category_id']!r}")
        value = annotation.get("iscrowd", "missing")
        if isinstance(value, bool) or value not in (0, 1):
            line = f"{where}: iscrowd is {reprlib.repr(value)}; training here takes it for {crowd(value)}"
            file.findings[CROWD].append(line)
        if not has_area(annotation):
            box, area = reprlib.repr(annotation.get("bbox")), reprlib.repr(annotation.get("area"))
            file.findings[NO_AREA].append(f"{where}: bbox {box}, area {area}")
        elif image is not None:
            size: tuple[Any, Any] = pictures[file.path(image)].size or (image.get("width"), image.get("height"))
            x, y, width, height = map(float, annotation["bbox"])
            if all(map(is_finite, size)):
                beyond = max(-x, -y, x + width - size[0], y + height - size[1])
                if beyond > TOLERANCE:
                    line = f"{where}: bbox {annotation['bbox']} reaches {beyond:g} px out of {size[0]} x {size[1]}"
                    file.findings[OUTSIDE].append(line)


def check_doubled_boxes(file: AnnotationFile) -> None:
    """Look for boxes of one class at one place, of which one is taken for a target that was not found."""
    groups: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for annotation in file.annotations:
        if has_area(annotation):
            groups[annotation["image_id"], annotation["category_id"]].append(annotation)
    names = {image["id"]: image["file_name"] for image in file.images}
    for (image, _), group in groups.items():
        boxes = np.array([annotation["bbox"] for annotation in group], float)
        for i in range(1, len(group)):
            found = np.flatnonzero(overlaps(boxes[i], boxes[:i]) > OVERLAP)
            if found.size:
                first = group[found[0]]
                line = f"annotation {group[i]['id']} of image {image}, {names.get(image)}: is annotation {first['id']}"
                file.findings[DOUBLED].append(line)


def overlaps(box: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of a box [4] (left, top, width, height) with others [N, 4]: [N]."""
    with np.errstate(over="ignore", invalid="ignore"):  # of sides that a file may state, but no image has
        corner = np.maximum(box[:2], others[:, :2])
        sides = np.minimum(box[:2] + box[2:], others[:, :2] + others[:, 2:]) - corner
        common = sides.clip(0).prod(axis=1)
        return common / (box[2:].prod() + others[:, 2:].prod(axis=1) - common)


def check_grey(file: AnnotationFile, pictures: dict[Path, Picture], normalisation: tuple[float, float] | None) -> None:
    """Compare the grey levels of a file with its config's mean and deviation, and its sources' means with its own.

    A source is what images say in a field `source`. A config whose mean is 0 scales alone, and expects nothing.
    """
    seen = [(str(image.get("source", "")), pictures[file.path(image)]) for image in file.images]
    whole = grey_of(picture for _, picture in seen)
    file.grey = whole
    if whole is None:
        return
    said = f"mean {whole[0]:.0f}, deviation {whole[1]:.0f}"
    if normalisation and normalisation[0]:
        mean, deviation = normalisation
        if abs(whole[0] - mean) > deviation or not LEAST < whole[1] / deviation < MOST:
            line = f"{file.name}: {said}; the config normalises by the mean {mean:g} and the deviation {deviation:g}"
            file.findings[GREY].append(line)
    for source in sorted({name for name, _ in seen} - {""}):
        own = grey_of(picture for name, picture in seen if name == source)
        if own and abs(own[0] - whole[0]) > whole[1]:
            line = f"source {source}: mean {own[0]:.0f}, deviation {own[1]:.0f}; all images: {said}"
            file.findings[GREY].append(line)


def grey_of(pictures: Iterable[Picture]) -> tuple[float, float] | None:
    """Mean and standard deviation of the grey levels of all pixels of some images; None if none could be read."""
    counts, sums, squares = 0, 0.0, 0.0
    for picture in pictures:
        if picture.size is not None:
            pixels, (mean, deviation) = math.prod(picture.size), picture.grey
            counts, sums = counts + pixels, sums + pixels * mean
            squares += pixels * (mean**2 + deviation**2)
    if not counts:
        return None
    return sums / counts, math.sqrt(max(squares / counts - (sums / counts) ** 2, 0.0))


def check_likeness(
    files: list[AnnotationFile], pictures: dict[Path, Picture], remap: Remap, channel: str | int | None
) -> None:
    """Look for images that are nearly another, as one that was saved anew or scaled, but are not equal."""
    places = {file.path(image): (file, image["file_name"]) for file in files for image in file.images}
    paths = sorted(path for path in places if pictures[path].sketch is not None)
    known: set[Path] = set()
    looks: Counter[Path] = Counter()
    for earlier, later in candidates([each for path in paths if (each := pictures[path].sketch) is not None]):
        first, second = paths[earlier], paths[later]
        if second in known or looks[second] == MOST_LOOKS or pictures[first].digest == pictures[second].digest:
            continue
        looks[second] += 1
        found = likeness(*(sar_image.read(path, remap=remap, channel=channel) for path in (first, second)))
        if found > SAME:
            known.add(second)
            (file, name), (other, before) = places[second], places[first]
            where = "" if other is file else f" of {other.name}"
            file.findings[NEARLY].append(f"{name} is like {before}{where}, rank correlation {found:.2f}")


def has_area(annotation: dict[str, Any]) -> bool:
    """Whether an annotation has a box of at least 1 x 1 px and an area above 0: MMDetection takes no other to train."""
    box: Any = annotation.get("bbox")
    area: Any = annotation.get("area")
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_finite, [*box, area])):
        return False
    return box[2] >= 1 and box[3] >= 1 and area > 0


def check_shared_images(files: list[AnnotationFile], pictures: dict[Path, Picture]) -> None:
    """Look for images with the same pixels: in two files, as in a training and a test set, or twice in one."""
    alike: dict[bytes, list[tuple[AnnotationFile, str]]] = defaultdict(list)
    for file in files:
        for path, name in {file.path(image): image["file_name"] for image in file.images}.items():
            digest = pictures[path].digest
            if digest is not None:
                alike[digest].append((file, name))
    for group in alike.values():
        first: dict[str, str] = {}  # name of each annotation file -> the first such image in it
        for file, name in group:
            if file.name in first:
                file.findings[TWICE].append(f"{name} is {first[file.name]}")
            first.setdefault(file.name, name)
        for file, name in group:
            others = [f"{other} of {other_file}" for other_file, other in first.items() if other_file != file.name]
            if others:
                file.findings[SHARED].append(f"{name} is {others[0]}")


def table(files: list[AnnotationFile]) -> str:
    """Make the table: a row per number and kind of finding, a column per annotation file."""
    kinds = files[0].findings
    rows = [
        ["", *(file.name for file in files)],
        ["folder of the images", *("none found" if file.folder is None else file.folder.as_posix() for file in files)],
        ["images", *(str(len(file.images)) for file in files)],
        ["boxes", *(str(len(file.annotations)) for file in files)],
        ["classes", *(str(len(file.classes())) for file in files)],
        ["grey levels, mean and deviation", *("{:.0f}, {:.0f}".format(*file.grey or (0, 0)) for file in files)],
        *([kind, *(str(len(file.findings[kind])) for file in files)] for kind in kinds if kind in INFORMATION),
        *([kind, *(str(len(file.findings[kind]) or "ok") for file in files)] for kind in kinds if kind in PROBLEMS),
    ]
    alignment = ["left", *["right"] * len(files)]
    return tabulate(rows, tablefmt="plain", colalign=alignment, disable_numparse=True)


def examples(files: list[AnnotationFile]) -> str:
    """List what goes below the table: the first findings of each kind in each annotation file, if there are any."""
    lines = []
    for kind in files[0].findings:
        for file in files:
            found = file.findings[kind]
            if found:
                lines += ["", f"{kind}, {file.name}" + (" (for information)" if kind in INFORMATION else "")]
                lines += [f"  {line}" for line in found[:EXAMPLES]]
                lines += [f"  and {len(found) - EXAMPLES} more"] * (len(found) > EXAMPLES)
    return "".join(f"\n{line}" for line in lines)
