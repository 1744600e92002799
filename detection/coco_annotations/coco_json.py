"""Reading COCO annotation files as the wild has them: with byte order marks, and with fields missing or null."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from saratrx.errors import InputError, first_line
from saratrx.reporting import get_logger

log = get_logger(__name__)

CROWD = {"1", "true", "yes"}  # where `iscrowd` is text
IDS_BELOW = 2**53  # larger numbers are not exact in every reader of JSON


def read_json(path: str | Path) -> Any:
    """Read a JSON file in UTF-8, -16 or -32, with or without a byte order mark.

    Raises:
        InputError: if it cannot be read, or is no JSON.

    """
    try:
        return json.loads(Path(path).read_bytes())
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {first_line(error)}; set data_root to the data set's folder"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON: {first_line(error)}; fix it or move it out of the set") from error


def read_coco(path: str | Path) -> dict[str, Any]:
    """Read a COCO annotation file, and fill in what training and evaluation need.

    A box whose `iscrowd` is missing or null is no crowd; where `area` is missing or null it is the box's. Boxes are
    numbered anew from 1, for pycocotools takes the id 0 for no box. Boxes of images or categories that the file does
    not have are left out, and said.

    Raises:
        InputError: naming the first entry that cannot be used, or an id or a class that stands twice.

    """
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("categories"), list):
        raise InputError(f"{path} is no COCO annotation file: it has no categories")
    content = dict[str, Any](annotations=[]) | content
    check_entries(path, content)
    content["categories"] = without_unused_twins(content)
    refuse_ambiguous(path, content)
    images = {image["id"] for image in content["images"]}
    categories = {category["id"] for category in content["categories"]}
    boxes = [with_all_fields(path, number, box) for number, box in enumerate(content["annotations"], 1)]
    known = [box for box in boxes if box["image_id"] in images and box["category_id"] in categories]
    if len(known) < len(boxes):
        log.warning(
            "%s: %d of %d boxes are of images or categories that it does not have, and are left out",
            *(path, len(boxes) - len(known), len(boxes)),
        )
    return content | {"annotations": known}


def check_entries(path: str | Path, content: dict[str, Any]) -> None:
    """See that all entries have what makes them usable.

    Raises:
        InputError: naming the first one that lacks it.

    """
    needed = {"images": ("id", "file_name", "width", "height"), "categories": ("id", "name")}
    needed["annotations"] = ("image_id", "category_id", "bbox")
    for part, fields in needed.items():
        if not isinstance(content.get(part), list):
            raise InputError(f"{path} is no COCO annotation file: its {part} are no list")
        for number, entry in enumerate(content[part]):
            for name in fields:
                if not isinstance(entry, dict) or not is_usable(name, entry.get(name)):
                    raise InputError(
                        f"{path}: {part}[{number}] has no {name} that can be used; tools/check_coco.py lists all"
                    )


def without_unused_twins(content: dict[str, Any]) -> list[dict[str, Any]]:
    """List the categories but for those without boxes that are called as one with boxes: Roboflow's root may be."""
    used = {box["category_id"] for box in content["annotations"]}
    names = {category["name"] for category in content["categories"] if category["id"] in used}
    return [each for each in content["categories"] if each["id"] in used or each["name"] not in names]


def refuse_ambiguous(path: str | Path, content: dict[str, Any]) -> None:
    """Refuse what would give boxes to another image or class than their own, without a word.

    Raises:
        InputError: naming an id or a class that stands twice, or ids of which some are numbers and some text.

    """
    for part, name in (("images", "id"), ("categories", "id"), ("categories", "name")):
        values = [entry[name] for entry in content[part]]
        if len({isinstance(value, str) for value in values}) > 1:
            raise InputError(f"{path}: of its {part}, some have a number as {name} and some text; make them alike")
        twice = [value for value, count in Counter(values).items() if count > 1]
        if twice:
            raise InputError(
                f"{path}: of its {part}, {len(twice)} stand twice by their {name}, such as {str(twice[0])[:60]}; "
                "tools/check_coco.py lists all"
            )


def is_usable(name: str, value: Any) -> bool:
    """Whether a field's value is one that its name promises."""
    if name in ("file_name", "name"):
        return isinstance(value, str)
    if name == "bbox":
        return isinstance(value, list) and len(value) == 4 and all(map(is_finite, value))
    if name in ("width", "height"):
        return is_finite(value) and value >= 1
    return isinstance(value, str) or (is_finite(value) and abs(value) < IDS_BELOW)


def is_finite(value: Any) -> bool:
    """Whether a value is a number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def with_all_fields(path: str | Path, number: int, box: dict[str, Any]) -> dict[str, Any]:
    """Give an annotation whose id is `number`, whose `iscrowd` is 0 or 1 and whose `area` is a number."""
    area = box.get("area")
    if area is None:
        area = box["bbox"][2] * box["bbox"][3]
    if not is_finite(area):
        raise InputError(f"{path}: annotations[{number - 1}] has the area {str(area)[:30]}; correct it")
    return box | {"id": number, "iscrowd": crowd(box.get("iscrowd")), "area": area}


def crowd(value: Any) -> int:
    """Read `iscrowd`: 1 for 1, true and their spellings, else 0."""
    return int(value.strip().lower() in CROWD if isinstance(value, str) else bool(value))


def usable_boxes(content: dict[str, Any], classes: Sequence[str]) -> int:
    """Count the boxes of some classes that MMDetection trains on: no crowds, at least 1 px a side, inside the image."""
    ids = {category["id"] for category in content["categories"] if category["name"] in classes}
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    count = 0
    for box in content["annotations"]:
        x, y, width, height = box["bbox"]
        right, bottom = sizes[box["image_id"]]
        is_inside = x < right and y < bottom and x + width > 0 and y + height > 0
        is_large = width >= 1 and height >= 1 and box["area"] > 0
        count += box["category_id"] in ids and is_inside and is_large and not box["iscrowd"] and not box.get("ignore")
    return count
