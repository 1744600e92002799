"""Convert annotations of YOLO, DOTA, labelme, CVAT or Pascal VOC to a COCO annotation file.

    python tools/to_coco.py --from yolo data/ships/labels/train data/ships/train.json
    python tools/to_coco.py --from dota data/ships/labelTxt data/ships/train.json --images data/ships/images
Oriented shapes keep their corners in `segmentation`; `bbox` is the hull. What is left out is counted, with the reason.
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

from coco_annotations.conversion import ConversionOptions, convert
from saratrx.command_line import parse
from saratrx.errors import exit_on_input_error
from saratrx.files import refused_if_unwritable, try_writing, write_json
from saratrx.reporting import get_logger, print_any_name

log = get_logger(__name__)


def main() -> None:
    """Convert as the options say, and print what was found."""
    (options,) = parse([ConversionOptions], "Convert annotations to a COCO annotation file.", hyphens=True)
    print_any_name()
    try_writing(options.output.parent, "output")
    content = convert(options)
    with refused_if_unwritable(options.output):
        write_json(options.output, content)
    boxes, images = content["annotations"], content["images"]
    empty = len(images) - len({box["image_id"] for box in boxes})
    oriented, difficult = sum("segmentation" in box for box in boxes), sum(box["iscrowd"] for box in boxes)
    log.info(
        "%s: %d images, %d of them without targets; %d boxes, %d of them oriented, %d difficult",
        *(options.output, len(images), empty, len(boxes), oriented, difficult),
    )
    counts = Counter(box["category_id"] for box in boxes)
    for category in content["categories"]:
        log.info("%8d %s", counts[category["id"]], category["name"])
    log.info("wrote %s; next: python tools/check_coco.py %s", options.output, options.output)


if __name__ == "__main__":
    with exit_on_input_error():
        main()
