"""Convert Pascal VOC annotations, an XML file for each image, to a COCO annotation file.

python tools/voc2coco.py data/SSDD/Annotations data/SSDD/train.json --list data/SSDD/ImageSets/Main/train.txt
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

try:
    import hivit_det  # noqa: F401
except ImportError as error:  # its text says what does not fit
    sys.exit(f"error: {error}")

from coco_annotations.voc import convert, xml_files
from hivit_det.json_file import write_json
from saratrx.errors import exit_on_input_error


def main() -> None:
    """Convert as the options say, and print what was found."""
    parser = argparse.ArgumentParser(description="Convert Pascal VOC annotations to a COCO annotation file.")
    parser.add_argument("xml_folder", type=Path)
    parser.add_argument("output", type=Path, help="the COCO file (.json)")
    parser.add_argument("--list", type=Path, help="the images to take: a file with a stem a line (default: all)")
    parser.add_argument("--images", type=Path, help="folder of the images, where the XML lacks their names or sizes")
    parser.add_argument("--classes", nargs="+", help="in the order of their ids (default: those found, sorted)")
    parser.add_argument(
        "--from-zero", action="store_true", help="corners are edges counted from 0, not pixels counted from 1"
    )
    args = parser.parse_args()

    content = convert(xml_files(args.xml_folder, args.list), args.images, args.classes, args.from_zero)
    write_json(args.output, content)
    boxes = content["annotations"]
    difficult = sum(box["iscrowd"] for box in boxes)
    print(f"{args.output}: {len(content['images'])} images, {len(boxes)} boxes, {difficult} of them difficult")
    counts = Counter(box["category_id"] for box in boxes)
    for category in content["categories"]:
        print(f"{counts[category['id']]:8} {category['name']}")


if __name__ == "__main__":
    with exit_on_input_error():
        main()
