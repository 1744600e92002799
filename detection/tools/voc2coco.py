"""Convert Pascal VOC annotations, an XML file per image, to a COCO annotation file.

python tools/voc2coco.py data/SSDD/Annotations data/SSDD/train.json --list data/SSDD/ImageSets/Main/train.txt
"""

import sys
from collections import Counter

try:
    import coco_annotations  # noqa: F401
except ModuleNotFoundError as error:
    sys.exit(
        f"error: {error.name} is not installed: pip install -r requirements_detection.txt, from the top of the project"
    )
except ImportError as error:  # its text says what does not fit
    sys.exit(f"error: {error}")

from coco_annotations.voc import VocOptions, convert, xml_files
from saratrx.command_line import parse
from saratrx.errors import exit_on_input_error
from saratrx.files import refused_if_unwritable, try_writing, write_json
from saratrx.reporting import get_logger

log = get_logger(__name__)


def main() -> None:
    """Convert as the options say, and print what was found."""
    (options,) = parse([VocOptions], "Convert Pascal VOC annotations to a COCO annotation file.", hyphens=True)
    paths = xml_files(options.xml_folder, options.list)
    try_writing(options.output.parent, "output")
    content = convert(paths, options.images, options.classes, options.from_zero)
    with refused_if_unwritable(options.output):
        write_json(options.output, content)
    boxes = content["annotations"]
    difficult = sum(box["iscrowd"] for box in boxes)
    log.info(
        "%s: %d images, %d boxes, %d of them difficult", options.output, len(content["images"]), len(boxes), difficult
    )
    counts = Counter(box["category_id"] for box in boxes)
    for category in content["categories"]:
        log.info("%8d %s", counts[category["id"]], category["name"])
    log.info("wrote %s; next: python tools/check_coco.py %s", options.output, options.output)


if __name__ == "__main__":
    with exit_on_input_error():
        main()
