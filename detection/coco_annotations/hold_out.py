"""Hold out part of a training set for validation, whole scenes at a time."""

import hashlib
import json
import re
from collections import defaultdict
from pathlib import Path, PurePosixPath
from typing import Any

from saratrx.errors import InputError
from saratrx.files import refused_if_unwritable, write_json
from saratrx.reporting import get_logger

log = get_logger(__name__)

# P0001_1200_2000_3600_4400 is a tile of P0001, and 12_3 of 12; scene_7 is an image of its own
TILE = re.compile(r"(?P<scene>.+?)([_-]\d+){2,}|(?P<number>\d+)[_-]\d+")


def split_by_scene(content: dict[str, Any], share: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a COCO annotation file to one for training and one for validation, with about `share` of the images.

    Tiles of a scene stay together, where names tell them (`scene_of`). Which scenes are held out depends on the names
    alone: by their hash, as long as they fit into the share.

    Raises:
        ValueError: if nothing would be left for one of the two.

    """
    scenes = defaultdict(list)
    for image in content["images"]:
        scenes[scene_of(image["file_name"])].append(image["id"])
    order = sorted(scenes, key=lambda scene: hashlib.sha256(scene.encode()).digest())
    held: set[int] = set()
    for scene in order:
        if len(held) + len(scenes[scene]) <= share * len(content["images"]):
            held.update(scenes[scene])
    if not held:
        raise ValueError(f"none of its {len(scenes)} scenes is small enough to hold out {share:.0%} of its images")
    if len(held) == len(content["images"]):
        raise ValueError(f"to hold out {share:.0%} of its images leaves nothing to train on")
    total = len(content["images"])
    log.info("validation: %d of %d training images, of %d scenes", len(held), total, len(scenes))
    return part_of(content, {image["id"] for image in content["images"]} - held), part_of(content, held)


def part_of(content: dict[str, Any], image_ids: set[int]) -> dict[str, Any]:
    """Take the part of a COCO annotation file that is about some of its images."""
    return content | {
        "images": [image for image in content["images"] if image["id"] in image_ids],
        "annotations": [box for box in content["annotations"] if box["image_id"] in image_ids],
    }


def scene_of(file_name: str) -> str:
    """Tell the scene of an image by its name: what stands before two or more numbers, else all of it."""
    name = str(PurePosixPath(file_name).with_suffix(""))
    tile = TILE.fullmatch(name)
    return (tile["scene"] or tile["number"]) if tile else name


def write_once(path: Path, content: dict[str, Any]) -> Path:
    """Write a JSON file; every process may do it.

    Raises:
        InputError: if there is one with other content: the run that is there was validated on other images.

    """
    if path.exists() and json.loads(path.read_text(encoding="utf-8")) != content:
        raise InputError(f"{path} is of another split; give this run a --work-dir of its own")
    with refused_if_unwritable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, content)
    return path
