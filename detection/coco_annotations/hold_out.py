"""Hold out part of a training set for validation: whole scenes, with all their tiles and copies, at a time."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from coco_annotations.coco_json import read_json
from saratrx.errors import InputError
from saratrx.files import refused_if_unwritable, write_json
from saratrx.reporting import get_logger

log = get_logger(__name__)

LONGEST_NAME = 255  # what file systems allow
WORDS = "tile|patch|crop|chip|part|sub|slice|block|piece|window|win"
TURNS = "flip|hflip|vflip|fliplr|flipud|mirror|rot|rotate|rotated|aug|augmented|noise|noisy|blur|blurred|bright|dark"
# Of a tile: two or more numbers (P0001_1200_2000_3600_4400, P0001__0.5__600___1200), two numbers with letters
# (r03-c05, x0_y512), or one with a word (tile_3). 12_3 is a tile of 12, and scene_7 an image of its own.
TILE = re.compile(
    r"(?P<scene>.+?)([_-]+\d+(\.\d+)?){2,}"
    r"|(?P<number>\d+)[_-]+\d+"
    r"|(?P<lettered>.+?)[_-]+(?:r|row|x|h|i|left)[_-]?\d+[_-]*(?:c|col|y|w|j|top)[_-]?\d+"
    r"|(?P<turned>.+?)[_-]+(?:c|col|y|w|j|top)[_-]?\d+[_-]*(?:r|row|x|h|i|left)[_-]?\d+"
    rf"|(?P<worded>.+?)[_-]+(?:{WORDS})[_-]?\d+",
    re.IGNORECASE,
)
# Of a copy: Roboflow's a_png.rf.1b2c, a_flip, a_rot90, a_aug_3, a - Copy (2)
COPY = re.compile(
    r"(?P<exported>.+?)([_-](?:jpe?g|png|tiff?|bmp))?\.rf\.\w+"
    rf"|(?P<changed>.+?)[_-]+(?:{TURNS})([_-]?\d+)?"
    r"|(?P<copied>.+?)( - |[ _-])copy([ _-]?\(?\d+\)?)?",
    re.IGNORECASE,
)
# The same if there is an image of the name before it; a series of images can be named so, too
COPY_BESIDE = re.compile(r"(?P<turned>.+?)[_-](?:90|180|270)|(?P<again>.+?) ?\(\d+\)")


def split_by_scene(content: dict[str, Any], share: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a COCO annotation file to one for training and one for validation, with about `share` of the images.

    Tiles of a scene and copies of an image stay together, where names tell them (`scenes_of`). Which scenes are held
    out depends on the names alone: by their hash, as long as they fit into the share.

    Raises:
        ValueError: if nothing would be left for one of the two.

    """
    scenes = defaultdict(list)
    names = [image["file_name"] for image in content["images"]]
    for image, scene in zip(content["images"], scenes_of(names), strict=True):
        scenes[scene].append(image)
    held: set[int] = set()
    total = len(content["images"])
    for scene in sorted(scenes, key=lambda name: hashlib.sha256(name.encode(errors="surrogatepass")).digest()):
        if len(held) + len(scenes[scene]) <= share * total:
            held.update(image["id"] for image in scenes[scene])
    if not held:
        raise ValueError(f"none of its {len(scenes)} scenes is small enough to hold out {share:.0%} of its images")
    if len(held) == total:
        raise ValueError(f"to hold out {share:.0%} of its images leaves nothing to train on")
    log.info("validation: %d of %d training images, of %d scenes; %s", len(held), total, len(scenes), example(scenes))
    return part_of(content, {image["id"] for image in content["images"]} - held), part_of(content, held)


def example(scenes: dict[str, list[dict[str, Any]]]) -> str:
    """Say how many scenes have several images, and which the first one has."""
    several = sorted(scene for scene, images in scenes.items() if len(images) > 1)
    if not several:
        return "no file name tells of tiles or copies, so that each image is one of its own"
    names = [image["file_name"] for image in scenes[several[0]]]
    more = ", ..." if len(names) > 2 else ""
    return f"{len(several)} of them have several, such as {several[0]} with {names[0]}, {names[1]}{more}"


def part_of(content: dict[str, Any], image_ids: set[int]) -> dict[str, Any]:
    """Take the part of a COCO annotation file that is about some of its images."""
    return content | {
        "images": [image for image in content["images"] if image["id"] in image_ids],
        "annotations": [box for box in content["annotations"] if box["image_id"] in image_ids],
    }


def scenes_of(file_names: Sequence[str]) -> list[str]:
    """Tell the scene of each image of a set, as `scene_of`; a_90.png and a (2).png are of a.png if the set has that."""
    scenes = [scene_of(name) for name in file_names]
    known = set(scenes)

    def first(scene: str) -> str:
        copy = COPY_BESIDE.fullmatch(scene) if len(scene) <= LONGEST_NAME else None
        name = next(filter(None, copy.groupdict().values())) if copy else scene
        return name if name in known else scene

    return [first(scene) for scene in scenes]


def scene_of(file_name: str) -> str:
    """Tell the scene of an image by its name: what stands before the marks of a tile or a copy, else all of it."""
    path = PurePosixPath(file_name.replace("\\", "/"))
    name = path.stem
    while len(name) <= LONGEST_NAME:
        found = TILE.fullmatch(name) or COPY.fullmatch(name)
        if found is None:
            break
        name = next(filter(None, found.groupdict().values()))
    return str(path.parent / name)


def write_once(path: Path, content: dict[str, Any]) -> Path:
    """Write a JSON file; every process may do it.

    Raises:
        InputError: if there is one with other content: the run that is there was validated on other images.

    """
    if path.exists() and read_json(path) != content:
        raise InputError(f"{path} is of another split; give this run a --work-dir of its own")
    with refused_if_unwritable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, content)
    return path
