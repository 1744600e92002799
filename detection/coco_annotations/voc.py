"""Pascal VOC's annotations, an XML file per image, as one COCO file."""

import codecs
import math
import re
import reprlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DTDForbidden
from defusedxml.ElementTree import fromstring

from coco_annotations.coco_json import crowd
from saratrx import sar_files, sar_image
from saratrx.command_line import option
from saratrx.errors import InputError, first_line, raise_problems
from saratrx.files import is_file, is_folder
from saratrx.reporting import get_logger

log = get_logger(__name__)

MAX_BYTES = 2**24  # of an XML file: 80,000 boxes; its elements need thirty times as much
LONGEST_NAME = 300  # characters that a sentence shows
BELOW = 2**31  # px, and all that is a number
TOLERANCE = 0.5  # px that a box may reach outside: rounding
MARKS = {  # a byte order mark, longer ones first -> encoding
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
DECLARED = re.compile(rb"""<\?xml[^>]{0,100}?\sencoding\s*=\s*["']([\w.:-]{1,40})["']""")
MANY_IMAGES = {"image", "images", "annotation"}  # elements below the roots of tools that write one file for all
MANY_BYTES = {  # encodings with several bytes a sign, which the parser does not know -> what reads them
    **dict.fromkeys(("gb2312", "gbk", "gb18030"), "gb18030"),  # each contains the one before it
    **{name: name for name in ("big5", "big5hkscs", "cp950", "shift_jis", "cp932", "euc_jp", "euc_kr", "cp949")},
}


@dataclass(frozen=True)
class VocOptions:
    """The annotations."""

    xml_folder: Path = option(positional=True, help="folder of the XML files")
    output: Path = option(positional=True, help="the COCO file (.json)")
    list: Path | None = option(None, help="the images to take: a file with a stem per line", default_text="all")
    images: Path | None = option(None, help="folder of the images, where the XML lacks their names or sizes")
    classes: tuple[str, ...] | None = option(None, help="in the order of their ids", default_text="those found, sorted")
    from_zero: bool = option(False, help="corners are edges counted from 0, not pixels counted from 1")

    def __post_init__(self) -> None:
        problems = []
        if not is_folder(self.xml_folder):
            problems.append(f"{self.xml_folder}: no such folder; give the folder of the XML files")
        if self.output.suffix != ".json" or is_folder(self.output):
            problems.append(f"{self.output}: must be a file that ends in .json")
        if self.list is not None and not is_file(self.list):
            problems.append(f"--list {self.list}: no such file; give a file with the stem of an XML file per line")
        if self.images is not None and not is_folder(self.images):
            problems.append(f"--images {self.images}: no such folder; give the folder of the images")
        if self.classes is not None and len(set(self.classes)) != len(self.classes):
            problems.append(f"--classes {' '.join(self.classes)}: a name stands twice; give each once")
        raise_problems(problems)


def xml_files(folder: Path, list_file: Path | None) -> list[Path]:
    """List the XML files of a folder, by name: all, or those whose stem begins a line of `list_file`.

    Raises:
        InputError: if there are none, or a listed one is missing.

    """
    if not is_folder(folder):
        raise InputError(f"{folder}: no such folder; give the folder of the XML files")
    if list_file is None:
        paths = [path for path in listed(folder) if is_xml(path)]
    else:
        try:
            lines = list_file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{list_file} cannot be read as a list of names: {first_line(error)}") from error
        stems = (without_extension(line.split()[0]) for line in lines if line.strip())
        paths = sorted({folder / f"{stem}.xml" for stem in stems})
        missing = [path for path in paths if not is_file(path)]
        if missing:
            shown = f"{str(missing[0])[:LONGEST_NAME]}: no such file"
            raise InputError(f"{shown}, though {list_file} has {missing[0].stem[:LONGEST_NAME]}; correct the list")
    if not paths:
        raise InputError(f"{list_file or folder} names no XML file; give the folder of the XML files, or another list")
    return paths


def listed(folder: Path) -> list[Path]:
    """List what is in a folder, sorted.

    Raises:
        InputError: if it cannot be listed.

    """
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder} cannot be listed: {first_line(error)}") from error


def is_xml(path: Path) -> bool:
    """Whether a path is that of a visible XML file."""
    return path.suffix.lower() == ".xml" and not path.name.startswith(".") and is_file(path)


def without_extension(name: str) -> str:
    """Take the extension of an image or XML file off a name, if it has one."""
    path = Path(name)
    return str(path.with_suffix("")) if path.suffix.lower() in {*sar_image.EXTENSIONS, ".xml"} else name


def convert(
    paths: Sequence[Path], images: Path | None = None, classes: Sequence[str] | None = None, from_zero: bool = False
) -> dict[str, list[dict[str, Any]]]:
    """Read XML files to what a COCO file holds; ids of images, boxes and categories count from 1.

    Args:
        paths: XML files, in the order of the images.
        images: the folder of the images; needed where the XML has no size, or does not name the image of its own name.
        classes: names of the categories in their order; None for those found, sorted.
        from_zero: how corners are counted, see `bounding_box`.

    Raises:
        InputError: if a file cannot be read, or is about an image that another is about.

    """
    if classes is not None and len(set(classes)) != len(classes):
        raise InputError(f"--classes {' '.join(classes)}: a name stands twice; give each once")
    if images is not None and not is_folder(images):
        raise InputError(f"{images}: no such folder; give --images the folder of the images")
    by_stem = image_files(images)
    sources: dict[str, Path] = {}
    coco_images, annotations, names, reach_out = [], [], [], []
    for path, root, is_alone in annotations_of(paths):
        file_name = name_of_image(path, root, images, by_stem, is_alone)
        if file_name in sources:
            raise InputError(f"{path} and {sources[file_name]} are both about {file_name}; remove one")
        sources[file_name] = path
        width, height = size_of_image(path, root, images, file_name)
        coco_images.append({"id": len(sources), "file_name": file_name, "width": width, "height": height})
        for element in root.iter("object"):
            name = text(element, "name")
            if not name or (classes is not None and name not in classes):
                raise InputError(f"{path} has an object called {name!r}; name it, or give its name in --classes")
            box = bounding_box(path, element, from_zero, (width, height))
            beyond = max(-box[0], -box[1], box[0] + box[2] - width, box[1] + box[3] - height)
            if beyond > TOLERANCE:
                reach_out.append(path)
            names.append(name)
            annotations.append(
                {
                    "id": len(names),
                    "image_id": len(sources),
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": crowd(text(element, "difficult")),  # then evaluation neither rewards nor punishes
                }
            )
    if reach_out:
        log.warning(
            "%d boxes reach out of their image, the first in %s; tools/check_coco.py lists them",
            *(len(reach_out), reach_out[0]),
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
    for path in listed(folder) if folder else ():
        if sar_image.is_image_name(path):
            found[path.stem].append(path.name)
    return found


def annotations_of(paths: Sequence[Path]) -> Iterator[tuple[Path, Element, bool]]:
    """Give each image's annotation with the file that it is in, and whether it is alone in it."""
    for path in paths:
        root = read_xml(path)
        inside = [root] if root.tag == "annotation" else list(root)
        for element in inside:
            yield path, element, root.tag == "annotation"


def read_xml(path: Path) -> Element:
    """Read a Pascal VOC file, and give its root: <annotation>, or <annotations> of nothing else.

    Raises:
        InputError: if it is no XML, not VOC's, too large, about several images at once, or has a document type.

    """
    root = parse_xml(path)
    inside = Counter(element.tag for element in root)
    if root.tag == "annotations" and inside.keys() == {"annotation"}:
        return root
    if root.tag != "annotation":
        of_many = ", with its images below it, as other tools write" if inside.keys() & MANY_IMAGES else ""
        raise InputError(
            f"{path} is no Pascal VOC annotation: it begins with <{root.tag}>, not <annotation>{of_many}; "
            "export it as Pascal VOC or COCO"
        )
    if inside["filename"] > 1 or inside["annotation"] or inside["image"] > 1:
        raise InputError(f"{path} is about several images in one <annotation>; split it into a file per image")
    return root


def parse_xml(path: Path) -> Element:
    """Read an XML file, and give its root.

    Names of elements come in lower case and without name spaces, since tools write <Difficult> as well.

    Raises:
        InputError: if it is no XML, too large, or has a document type.

    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {first_line(error)}") from error
    if len(content) > MAX_BYTES:
        raise InputError(f"{path} has more than {MAX_BYTES:,} bytes, too many for the annotation of an image; split it")
    try:
        root = fromstring(decoded(content), forbid_dtd=True)  # entities of a document type can grow to gigabytes
    except DTDForbidden as error:
        raise InputError(
            f"{path} cannot be read as XML: it has a document type (<!DOCTYPE {error.name}), which is not safe to "
            "read; remove that"
        ) from error
    except (ParseError, ValueError, LookupError) as error:  # the latter two: of an encoding
        raise InputError(f"{path} cannot be read as XML: {first_line(error)}") from error
    for element in root.iter():
        element.tag = str(element.tag).rpartition("}")[2].lower()
    return root


def decoded(content: bytes) -> str | bytes:
    """Decode an XML file that has a byte order mark, or an encoding that the parser does not know.

    Raises:
        ValueError: if it is not in the encoding that it names.

    """
    encoding = next((name for mark, name in MARKS.items() if content.startswith(mark)), None)
    declared = DECLARED.match(content.lstrip())
    if encoding is None and declared:
        with suppress(LookupError):
            encoding = MANY_BYTES.get(codecs.lookup(declared[1].decode()).name)
    return content.decode(encoding).lstrip() if encoding else content.lstrip()


def name_of_image(path: Path, root: Element, images: Path | None, by_stem: dict[str, list[str]], is_alone: bool) -> str:
    """Name the image that an annotation is about: a.xml is of a.png, whatever it says, if there is such an image.

    Else, or where a file has several annotations, it is the one that it names.

    Args:
        path: the XML file.
        root: the annotation.
        images: the folder of the images, if it is known.
        by_stem: its images.
        is_alone: no other annotation is in the file.

    Raises:
        InputError: if there is no such image, or if `images`, needed to look for it, is None.

    """
    said = text(root, "filename")
    name = PureWindowsPath(said).name  # tools write the path on their own machine, with either slash
    is_image = sar_image.is_image_name(name)
    if images is None:
        if not is_image:
            raise InputError(f"{path} has no <filename> with the extension of an image; give --images FOLDER")
        if is_alone and Path(name).stem != path.stem:
            raise InputError(
                f"{path} names another image than its own, {name}; give --images FOLDER to tell which it is"
            )
        return name
    own = by_stem.get(path.stem, []) if is_alone else []
    if len(own) > 1 and name not in own:
        raise InputError(f"{images} has {len(own)} images called {path.stem} for {path}; there should be one")
    if own:
        return name if name in own else own[0]
    found = next((each for each in (said, name) if is_image and is_file(images / each)), None)
    found = found or next(iter(by_stem.get(Path(name).stem, [])), None)
    if found is None:
        raise InputError(f"{images} has 0 images called {path.stem} for {path}; there should be one")
    return found


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
    with sar_files.open(images / file_name) as image:
        height, width = image.shape
    return width, height


def bounding_box(path: Path, element: Element, from_zero: bool, size: tuple[int, int]) -> list[float]:
    """Read an object's box: left and upper edge, width and height, in pixels from the image's upper left corner.

    VOC numbers pixels from 1, and (xmax, ymax) is the last one inside: pixel n lies between the edges n - 1 and n, so
    that the box begins at xmin - 1 and ends at xmax. Counted from zero, the numbers are the edges themselves, from 0 to
    the image's width: that is what labelling tools write whose boxes can begin at 0.

    Where there is no upright box, it is the hull, inside the image, of a rotated one or of corner points; both are
    counted from zero.

    Raises:
        InputError: if the object has no box, one outside of the image, or one that does not fit the way of counting.

    """
    corners = element.find("bndbox")
    if corners is not None:
        left, top, right, bottom = upright(path, corners, from_zero)
    else:
        points = oriented(path, element)
        if not points:
            raise InputError(
                f"{path} has an object without <bndbox>; polygons and rotated boxes need upright boxes as well, but "
                "for <robndbox> with cx, cy, w, h, angle and for <points> of three or more"
            )
        columns, rows = zip(*points, strict=True)
        left, right = (min(max(0.0, side(columns)), size[0]) for side in (min, max))
        top, bottom = (min(max(0.0, side(rows)), size[1]) for side in (min, max))
    edges = f"of the edges {left:g} {top:g} {right:g} {bottom:g}"
    if right < left or bottom < top:
        raise InputError(f"{path} has a box with its corners swapped, {edges}; correct it")
    if right == left or bottom == top:
        raise InputError(f"{path} has a box with no area, {edges}; remove it")
    if min(right, bottom) <= 0 or left >= size[0] or top >= size[1]:
        raise InputError(f"{path} has a box outside of its image of {size[0]} x {size[1]} px, {edges}; remove it")
    return [left, top, right - left, bottom - top]


def upright(path: Path, corners: Element, from_zero: bool) -> tuple[float, float, float, float]:
    """Left, upper, right and lower edge of a <bndbox>.

    Raises:
        InputError: if a number is missing, or does not fit the way of counting.

    """
    left, top, right, bottom = (number(path, corners, name) for name in ("xmin", "ymin", "xmax", "ymax"))
    if from_zero:
        return left, top, right, bottom
    if min(left, top) < 1:
        raise InputError(
            f"{path} has a box that begins at {min(left, top):g}, but VOC counts pixels from 1; "
            "if these files count from 0, give --from-zero"
        )
    return left - 1, top - 1, right, bottom


def oriented(path: Path, element: Element) -> list[tuple[float, float]]:
    """Corners of an object's <robndbox> or <points>, counted from zero; none without either.

    Raises:
        InputError: if a number is missing or cannot be meant.

    """
    return rotated_corners(path, element) or corner_points(path, element)


def rotated_corners(path: Path, element: Element) -> list[tuple[float, float]]:
    """Corners of a <robndbox>, which roLabelImg writes: its centre, sides, and angle in radians; none without one.

    Raises:
        InputError: if a number is missing or cannot be meant.

    """
    box = element.find("robndbox")
    if box is None:
        return []
    x, y, width, height, angle = (number(path, box, name) for name in ("cx", "cy", "w", "h", "angle"))
    if min(width, height) <= 0 or abs(angle) > 2 * math.pi:
        raise InputError(
            f"{path} has a <robndbox> of {width:g} x {height:g} px at the angle {angle:g}; sides must be above 0 and "
            "the angle in radians"
        )
    return turned((x, y), width, height, angle)


def turned(centre: tuple[float, float], width: float, height: float, angle: float) -> list[tuple[float, float]]:
    """Give the corners of a box that is turned about its centre by an angle in radians, clockwise as one sees it."""
    across, along = math.cos(angle), math.sin(angle)
    corners = [(x * width / 2, y * height / 2) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    return [(centre[0] + x * across - y * along, centre[1] + x * along + y * across) for x, y in corners]


def corner_points(path: Path, element: Element) -> list[tuple[float, float]]:
    """Give an object's <points>, each "x, y" in a <point>, as sets of satellite images have them; none below three.

    Raises:
        InputError: if one is no pair of numbers.

    """
    found = []
    for point in element.findall("points/point"):
        words = (point.text or "").split(",")
        if len(words) != 2:
            raise InputError(f"{path}: <point> is {reprlib.repr(point.text)}, not two numbers; correct it")
        found.append((numeric(path, "point", words[0]), numeric(path, "point", words[1])))
    return found if len(found) >= 3 else []


def text(element: Element, name: str) -> str:
    """Read what stands in an element below another; empty if there is none."""
    return (element.findtext(name) or "").strip()


def number(path: Path, element: Element, name: str, default: str = "") -> float:
    """Read the number in an element below another.

    Raises:
        InputError: if it is none, or one too large to be meant.

    """
    return numeric(path, name, text(element, name) or default)


def numeric(path: Path, name: str, value: str) -> float:
    """Read a number.

    Raises:
        InputError: if it is none, or one too large to be meant.

    """
    try:
        if abs(float(value)) < BELOW:
            return float(value)
    except ValueError:
        pass
    raise InputError(f"{path}: <{name}> is {reprlib.repr(value)}, not a number below 2^31; correct it")
