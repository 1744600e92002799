"""labelme's annotations, and those of tools that write its form (X-AnyLabeling): a JSON file per image."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any, TypeGuard

from coco_annotations.coco_json import crowd
from coco_annotations.targets import Annotated, Images, Points, Target, hull, number, text_of
from coco_annotations.voc import BELOW
from saratrx.errors import InputError, first_line

SHAPES = {"rectangle": (2, 4), "rotation": (4,), "polygon": ()}  # and how many points they have; any number from 3
OTHERS = ("circle", "line", "linestrip", "point", "points", "mask", "cuboid")


def read(paths: Sequence[Path], images: Images) -> Iterator[Annotated]:
    """Read labelme's files: rectangles, polygons and rotated boxes are targets, other shapes are left out.

    Raises:
        InputError: naming the shape that cannot be read, or the file without its image, if it does not state its size.

    """
    for path in paths:
        content = content_of(path)
        said = content.get("imagePath")
        name = PureWindowsPath(said).name if isinstance(said, str) else None
        width, height = content.get("imageWidth"), content.get("imageHeight")
        stated = (width, height) if is_size(width) and is_size(height) else None
        if stated and name and not images.is_given and not images.has(path, name):
            file_name, size = name, stated  # its image is elsewhere
        else:
            file_name = images.named(path, name)
            size = images.size(file_name)
        if stated and stated != size:
            text = " x ".join(map(str, stated))
            raise InputError(f"{path} is of an image of {text} px, and {file_name} has {size[0]} x {size[1]}")
        targets: list[Target] = []
        left_out = []
        for position, shape in enumerate(content["shapes"], 1):
            where = f"{path}, shape {position}"
            kind = (shape.get("shape_type") or "polygon") if isinstance(shape, dict) else None
            if kind in OTHERS:
                left_out.append((f"{kind}s", where))
            else:
                targets.append(target_in(where, shape, kind))
        yield Annotated(path, file_name, size, targets, left_out)


def is_size(value: Any) -> TypeGuard[int]:
    """Whether a value can be a side of an image in pixels."""
    return type(value) is int and 0 < value < BELOW


def content_of(path: Path) -> dict[str, Any]:
    """Read a file.

    Raises:
        InputError: if it is no JSON, or not labelme's.

    """
    try:
        content = json.loads(text_of(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON: {first_line(error)}; save it anew") from error
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise InputError(f"{path} is no annotation of labelme: it has no list of shapes; take it out of the folder")
    return content


def target_in(where: str, shape: Any, kind: Any) -> Target:
    """Read a shape.

    Raises:
        InputError: if it cannot be meant.

    """
    if kind not in SHAPES:
        raise InputError(f"{where}: {str(kind)[:30]!r} is no type of shape of labelme; correct it")
    name, points = shape.get("label"), shape.get("points")
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"{where} has no label; name it")
    if not isinstance(points, list) or not all(isinstance(point, list) and len(point) == 2 for point in points):
        raise InputError(f"{where}: its points are no list of pairs; correct them")
    corners: Points = [(number(where, x), number(where, y)) for x, y in points]
    if len(corners) not in SHAPES[kind] and (SHAPES[kind] or len(corners) < 3):
        wanted = " or ".join(map(str, SHAPES[kind])) or "three or more"
        raise InputError(f"{where} is a {kind} of {len(corners)} points, not {wanted}; correct it")
    is_upright = kind == "rectangle"
    if is_upright:
        left, top, right, bottom = hull(corners)
        corners = [(left, top), (right, bottom)]
    return Target(name.strip(), corners, where, is_upright, bool(crowd(shape.get("difficult"))))
