"""Annotations of other tools, as one COCO file: what tools/to_coco.py does."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from coco_annotations import dota, labelme, xml_shapes, yolo
from coco_annotations.targets import Images, to_coco
from coco_annotations.voc import listed
from saratrx.command_line import option
from saratrx.errors import InputError, raise_problems
from saratrx.files import is_file, is_folder

Format = Literal["yolo", "dota", "labelme", "voc"]
EXTENSIONS = {"yolo": ".txt", "dota": ".txt", "labelme": ".json", "voc": ".xml"}


@dataclass(frozen=True)
class ConversionOptions:
    """The annotations."""

    source: tuple[Path, ...] = option(positional=True, help="the folder of the annotation files, or some of these")
    output: Path = option(positional=True, help="the COCO file (.json)")
    format: Format = option(names=("--from",), help="who has written them; voc is CVAT's XML for images, too")
    images: Path | None = option(
        None, help="folder of the images", default_text="images beside labels, labelTxt or annotations, else the same"
    )
    classes: tuple[str, ...] | None = option(
        None, help="in the order of their ids", default_text="of yolo by data.yaml or classes.txt, else those found"
    )
    from_zero: bool = option(False, help="of voc: corners are edges counted from 0, not pixels counted from 1")

    def __post_init__(self) -> None:
        problems = [
            f"{path}: no such file{' or folder' if len(self.source) == 1 else ''}; give the annotation files"
            for path in self.source
            if not is_file(path) and not (len(self.source) == 1 and is_folder(path))
        ]
        if self.output.suffix != ".json" or is_folder(self.output):
            problems.append(f"{self.output}: must be a file that ends in .json")
        if self.images is not None and not is_folder(self.images):
            problems.append(f"--images {self.images}: no such folder; give the folder of the images")
        if self.classes is not None and len(set(self.classes)) != len(self.classes):
            problems.append(f"--classes {' '.join(self.classes)}: a name stands twice; give each once")
        if self.from_zero and self.format != "voc":
            problems.append(f"--from-zero is of voc alone, and this is --from {self.format}; leave it out")
        raise_problems(problems)


def annotation_files(options: ConversionOptions) -> list[Path]:
    """List the annotation files: those that are named, or all of a folder, by name.

    Raises:
        InputError: if there are none, or the output is one of them.

    """
    first = options.source[0]
    paths = sorted(set(options.source))
    if is_folder(first):
        extension = EXTENSIONS[options.format]
        paths = [
            path
            for path in listed(first)
            if path.suffix.lower() == extension and not path.name.startswith(".") and path.name not in yolo.NAMES
        ]
    if len({path.parent for path in paths}) > 1:
        raise InputError(f"{first} and other files are of several folders; convert one folder after another")
    if not paths:
        raise InputError(f"{first} has no {EXTENSIONS[options.format]} file; give the folder of the annotations")
    if options.output.absolute() in [path.absolute() for path in paths]:
        raise InputError(f"{options.output}: is one of the annotation files; name another output")
    return paths


def convert(options: ConversionOptions) -> dict[str, Any]:
    """Read the annotations as the options say; gives what a COCO file holds.

    Raises:
        InputError: naming the file, and where there are lines the line, that cannot be read.

    """
    paths = annotation_files(options)
    images, classes = Images(paths[0].parent, options.images), options.classes
    if options.format == "yolo":
        classes = classes or tuple(yolo.class_names(paths[0].parent))
        found = yolo.read(paths, images, classes)
    elif options.format == "dota":
        found = dota.read(paths, images)
    elif options.format == "labelme":
        found = labelme.read(paths, images)
    else:
        found = xml_shapes.read(paths, images, from_zero=options.from_zero)
    content = to_coco(found, classes)
    if is_folder(options.source[0]):
        images.say_unused(image["file_name"] for image in content["images"])
    return content
