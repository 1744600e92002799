"""Pascal VOC's annotations, an XML file per image, as one COCO file."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DTDForbidden
from defusedxml.ElementTree import parse

from saratrx import sar_image
from saratrx.command_line import option
from saratrx.errors import InputError, first_line


@dataclass(frozen=True)
class VocOptions:
    """The annotations."""

    xml_folder: Path = option(positional=True, help="folder of the XML files")
    output: Path = option(positional=True, help="the COCO file (.json)")
    list: Path | None = option(None, help="the images to take: a file with a stem per line", default_text="all")
    images: Path | None = option(None, help="folder of the images, where the XML lacks their names or sizes")
    classes: tuple[str, ...] | None = option(None, help="in the order of their ids", default_text="those found, sorted")
    from_zero: bool = option(False, help="corners are edges counted from 0, not pixels counted from 1")


def xml_files(folder: Path, list_file: Path | None) -> list[Path]:
    """List the XML files of a folder, by name: all, or those whose stem begins a line of `list_file`.

    Raises:
        InputError: if there are none, or a listed one is missing.

    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the folder of the XML files")
    if list_file is None:
        paths = sorted(path for path in folder.glob("*.xml") if not path.name.startswith("."))
    else:
        try:
            lines = list_file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{list_file} cannot be read as a list of names: {error}") from error
        paths = sorted({folder / f"{line.split()[0]}.xml" for line in lines if line.strip()})
        missing = [path for path in paths if not path.is_file()]
        if missing:
            raise InputError(f"{missing[0]}: no such file, though {list_file} has {missing[0].stem}; correct the list")
    if not paths:
        raise InputError(f"{list_file or folder} names no XML file; give the folder of the XML files, or another list")
    return paths


def convert(
    paths: Sequence[Path], images: Path | None = None, classes: Sequence[str] | None = None, from_zero: bool = False
) -> dict[str, list[dict[str, Any]]]:
    """Read XML files to what a COCO file holds; ids of images, boxes and categories count from 1.

    Args:
        paths: XML files, in the order of the images.
        images: the folder of the images; needed where the XML has no size, or no file name with an extension.
        classes: names of the categories in their order; None for those found, sorted.
        from_zero: how corners are counted, see `bounding_box`.

    Raises:
        InputError: if a file cannot be read, or is about an image that another is about.

    """
    if classes is not None and len(set(classes)) != len(classes):
        raise InputError(f"--classes {' '.join(classes)}: a name stands twice; give each once")
    if images is not None and not images.is_dir():
        raise InputError(f"{images}: no such folder; give --images the folder of the images")
    by_stem = image_files(images)
    sources: dict[str, Path] = {}
    coco_images, annotations, names = [], [], []
    for path in paths:
        root = read_xml(path)
        file_name = name_of_image(path, root, images, by_stem)
        if file_name in sources:
            raise InputError(f"{path} and {sources[file_name]} are both about {file_name}; remove one")
        sources[file_name] = path
        width, height = size_of_image(path, root, images, file_name)
        coco_images.append({"id": len(sources), "file_name": file_name, "width": width, "height": height})
        for element in root.iter("object"):
            name = text(element, "name")
            if not name or (classes is not None and name not in classes):
                raise InputError(f"{path} has an object called {name!r}; name it, or give its name in --classes")
            box = bounding_box(path, element, from_zero)
            names.append(name)
            annotations.append(
                {
                    "id": len(names),
                    "image_id": len(sources),
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": int(text(element, "difficult") == "1"),  # then evaluation neither rewards nor punishes
                }
            )
    ids = {name: number for number, name in enumerate(sorted(set(names)) if classes is None else classes, 1)}
    return {
        "images": coco_images,
        "annotations": [box | {"category_id": ids[name]} for box, name in zip(annotations, names, strict=True)],
        "categories": [{"id": number, "name": name} for name, number in ids.items()],
    }


def image_files(folder: Path | None) -> dict[str, list[str]]:
    """For each stem of an image file in a folder, the names of the files that have it."""
    found = defaultdict(list)
    for path in sorted(folder.iterdir()) if folder else ():
        if path.suffix.lower() in sar_image.EXTENSIONS:
            found[path.stem].append(path.name)
    return found


def read_xml(path: Path) -> Element:
    """Read a Pascal VOC file, and give its root.

    Raises:
        InputError: if it is no XML, not VOC's, or has a document type.

    """
    try:
        root = parse(path, forbid_dtd=True).getroot()  # entities of a document type can grow to gigabytes
    except DTDForbidden as error:
        raise InputError(
            f"{path} cannot be read as XML: it has a document type (<!DOCTYPE {error.name}), which is not safe to "
            "read; remove that"
        ) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {first_line(error)}") from error
    except (ParseError, ValueError, LookupError) as error:  # the latter two: of an unknown encoding
        raise InputError(f"{path} cannot be read as XML: {error}") from error
    if root is None or root.tag != "annotation":
        found = "nothing" if root is None else f"<{root.tag}>"
        raise InputError(f"{path} is no Pascal VOC annotation: it begins with {found}, not <annotation>")
    return root


def name_of_image(path: Path, root: Element, images: Path | None, by_stem: dict[str, list[str]]) -> str:
    """Name the image that an XML file is about: the one it names, if that is an image file, else the one with its stem.

    Raises:
        InputError: if there is no such image, or if `images`, needed to look for it, is None.

    """
    name = text(root, "filename")
    if Path(name).suffix.lower() in sar_image.EXTENSIONS and (images is None or (images / name).is_file()):
        return name
    if images is None:
        raise InputError(f"{path} has no <filename> with the extension of an image; give --images FOLDER")
    found = by_stem.get(path.stem, [])
    if len(found) != 1:
        raise InputError(f"{images} has {len(found)} images called {path.stem} for {path}; there should be one")
    return found[0]


def size_of_image(path: Path, root: Element, images: Path | None, file_name: str) -> tuple[int, int]:
    """Width and height in pixels, by the XML, or by the image where the XML says nothing or 0.

    Raises:
        InputError: if the image is needed and cannot be read.

    """
    width, height = (int(number(path, root, f"size/{side}", "0")) for side in ("width", "height"))
    if width > 0 and height > 0:
        return width, height
    if images is None:
        raise InputError(f"{path} does not say the size of its image; give --images FOLDER")
    height, width = sar_image.read(images / file_name).shape
    return width, height


def bounding_box(path: Path, element: Element, from_zero: bool) -> list[float]:
    """Read an object's box: left and upper edge, width and height, in pixels from the image's upper left corner.

    VOC numbers pixels from 1, and (xmax, ymax) is the last one inside: pixel n lies between the edges n - 1 and n, so
    that the box begins at xmin - 1 and ends at xmax. Counted from zero, the numbers are the edges themselves, from 0 to
    the image's width: that is what labelling tools write whose boxes can begin at 0.

    Raises:
        InputError: if the object has no upright box, or one that does not fit the way of counting.

    """
    corners = element.find("bndbox")
    if corners is None:
        raise InputError(
            f"{path} has an object without <bndbox>; polygons and rotated boxes need upright boxes as well"
        )
    left, top, right, bottom = (number(path, corners, name) for name in ("xmin", "ymin", "xmax", "ymax"))
    if not from_zero:
        if min(left, top) < 1:
            raise InputError(
                f"{path} has a box that begins at {min(left, top):g}, but VOC counts pixels from 1; "
                "if these files count from 0, give --from-zero"
            )
        left, top = left - 1, top - 1
    if right <= left or bottom <= top:
        raise InputError(
            f"{path} has a box with no area, of the edges {left:g} {top:g} {right:g} {bottom:g}; remove it"
        )
    return [left, top, right - left, bottom - top]


def text(element: Element, name: str) -> str:
    """Read what stands in an element below another; empty if there is none."""
    return (element.findtext(name) or "").strip()


def number(path: Path, element: Element, name: str, default: str = "") -> float:
    """Read the number in an element below another.

    Raises:
        InputError: if it is no finite number.

    """
    value = text(element, name) or default
    try:
        if math.isfinite(float(value)):
            return float(value)
    except ValueError:
        pass
    raise InputError(f"{path}: <{name}> is {value!r}, not a number; correct it")
