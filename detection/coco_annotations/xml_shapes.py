"""XML annotations with their oriented shapes: Pascal VOC, a file per image, and CVAT's, a file for many images."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PureWindowsPath
from xml.etree.ElementTree import Element

from coco_annotations.coco_json import crowd
from coco_annotations.targets import Annotated, Images, Target, number
from coco_annotations.voc import (
    annotations_of,
    name_of_image,
    oriented,
    parse_xml,
    size_of_image,
    text,
    turned,
    upright,
)
from saratrx.errors import InputError

OTHERS = ("polyline", "points", "ellipse", "cuboid", "skeleton", "mask", "tag")  # shapes of CVAT that are no targets
EDGES = ("xtl", "ytl", "xbr", "ybr")


def read(paths: Sequence[Path], images: Images, *, from_zero: bool) -> Iterator[Annotated]:
    """Read XML files of either kind, told by their roots.

    Raises:
        InputError: naming the file, and of CVAT's the image, that cannot be read.

    """
    for path in paths:
        root = parse_xml(path)
        if root.tag == "annotations" and any(element.tag == "image" for element in root):
            yield from images_of_cvat(path, root)
        else:
            yield from images_of_voc(path, images, from_zero)


def images_of_voc(path: Path, images: Images, from_zero: bool) -> Iterator[Annotated]:
    """Read a file of Pascal VOC; an object with a <robndbox> or <points> is an oriented shape, others are upright.

    Raises:
        InputError: if an object has no name, no shape, or numbers that cannot be meant.

    """
    for _, root, is_alone in annotations_of([path]):
        is_known = images.is_given or images.has(path, PureWindowsPath(text(root, "filename")).name)
        folder = images.folder if is_known else None
        file_name = name_of_image(path, root, folder, images.by_stem, is_alone)
        targets = []
        for position, element in enumerate(root.iter("object"), 1):
            where, name = f"{path}, object {position}", text(element, "name")
            if not name:
                raise InputError(f"{where} has no name; name it")
            points, corners = oriented(path, element), element.find("bndbox")
            if not points:
                if corners is None:
                    raise InputError(f"{where} has no <bndbox>, no <robndbox> and no <points> of three or more")
                left, top, right, bottom = upright(path, corners, from_zero)
                if right < left or bottom < top:
                    raise InputError(f"{where} has a box with its corners swapped; correct it")
                box = [(left, top), (right, bottom)]
            is_difficult = bool(crowd(text(element, "difficult")))
            targets.append(Target(name, points or box, where, not points, is_difficult))
        yield Annotated(path, file_name, size_of_image(path, root, folder, file_name), targets)


def images_of_cvat(path: Path, root: Element) -> Iterator[Annotated]:
    """Read a file of CVAT for images: boxes, turned or not, and polygons; other shapes are left out.

    Raises:
        InputError: if an image has no name or size, or a shape no label or numbers that cannot be meant.

    """
    for image in root.iter("image"):
        name = PureWindowsPath(image.get("name", "")).as_posix()
        where = f"{path}, image {name}"
        width, height = (int(number(where, image.get(side, ""))) for side in ("width", "height"))
        if not name or min(width, height) < 1:
            raise InputError(f"{where}: it has no name, or no size; export it anew")
        counts: Counter[str] = Counter()
        targets, left_out = [], []
        for shape in image:
            counts[shape.tag] += 1
            place = f"{where}, {shape.tag} {counts[shape.tag]}"
            if shape.tag in OTHERS:
                left_out.append((f"{shape.tag}s", place))
            else:
                targets.append(shape_of_cvat(place, shape))
        yield Annotated(path, name, (width, height), targets, left_out)


def shape_of_cvat(where: str, shape: Element) -> Target:
    """Read a <box>, whose `rotation` is in degrees clockwise about its centre, or a <polygon>.

    Raises:
        InputError: if it is neither, or cannot be meant.

    """
    name = shape.get("label", "").strip()
    if shape.tag not in ("box", "polygon") or not name:
        raise InputError(f"{where} is no box or polygon with a label; correct it")
    difficult = [each.text or "" for each in shape.iter("attribute") if each.get("name", "").lower() == "difficult"]
    is_difficult = bool(difficult and crowd(difficult[0]))
    if shape.tag == "polygon":
        words = [point.split(",") for point in shape.get("points", "").split(";")]
        if len(words) < 3 or any(len(point) != 2 for point in words):
            raise InputError(f"{where} has no three points or more, as x,y;x,y;...; correct it")
        corners = [(number(where, x.strip()), number(where, y.strip())) for x, y in words]
        return Target(name, corners, where, is_upright=False, is_difficult=is_difficult)
    left, top, right, bottom = (number(where, shape.get(edge, "")) for edge in EDGES)
    if right < left or bottom < top:
        raise InputError(f"{where} has its corners swapped; correct it")
    angle = number(where, shape.get("rotation", "0"))
    if not angle:
        return Target(name, [(left, top), (right, bottom)], where, is_difficult=is_difficult)
    centre = (left + right) / 2, (top + bottom) / 2
    corners = turned(centre, right - left, bottom - top, math.radians(angle))
    return Target(name, corners, where, is_upright=False, is_difficult=is_difficult)
