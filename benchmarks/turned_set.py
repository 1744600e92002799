"""Make a real set of oriented boxes from one of upright boxes: each image is turned by an angle that is known.

    python benchmarks/turned_set.py MSTAR_DET/annotations/test.json MSTAR_DET/images/test OUTPUT_DIR/test --seed 1

The boxes turn with the image, so their angles are exact, but they are as wide as the upright ones were: how well a box
fits its target is not better than there. Nothing is cut off; the corners that come into an image are 0, as outside a
scene. Writes images/ (PNG) and boxes.json, whose `segmentation` is the oriented box.
"""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from coco_annotations.coco_json import read_coco
from machine import parsed
from saratrx import sar_image
from saratrx.command_line import Parser
from saratrx.errors import InputError, exit_on_input_error
from saratrx.files import refused_if_unwritable, write_json


def turn(image: NDArray[np.uint8], degrees: float) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Turn an image [H, W] clockwise by bilinear interpolation, on a canvas that holds all of it.

    Returns the image and the map of its points, [2, 3], in the frame whose origin is the corner of the first pixel.
    """
    height, width = image.shape
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    new_width = int(np.ceil(width * abs(cos) + height * abs(sin)))
    new_height = int(np.ceil(width * abs(sin) + height * abs(cos)))
    turning = np.array([[cos, -sin], [sin, cos]])
    shift = np.array([new_width, new_height]) / 2 - turning @ [width / 2, height / 2]
    at_centres = shift - 0.5 + turning @ [0.5, 0.5]  # OpenCV counts from the centre of the first pixel
    turned = cv2.warpAffine(image, np.column_stack([turning, at_centres]), (new_width, new_height))
    return turned, np.column_stack([turning, shift])


def turned_box(box: dict[str, Any], move: NDArray[np.float64]) -> dict[str, Any]:
    """Give an annotation with its box [x, y, w, h] moved: `segmentation`, and `bbox` around it."""
    x, y, w, h = box["bbox"]
    corners = np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]]) @ move[:, :2].T + move[:, 2]
    low, high = corners.min(axis=0), corners.max(axis=0)
    return box | {"bbox": [*low, *(high - low)], "segmentation": [corners.flatten().tolist()]}


def main() -> None:
    """Turn all images of a set."""
    parser = Parser(description="Turn each image of a set by an angle that is known.")
    parser.add_argument("annotations", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--seed", type=int, default=0, help="of the angles, each from 0 to 360 degrees")
    args = parsed(parser)
    content = read_coco(args.annotations)
    folder = args.output / "images"
    if folder.exists():
        raise InputError(f"{folder} is there; name a new folder")
    angles = np.random.default_rng(args.seed).uniform(0, 360, len(content["images"]))
    images, boxes = [], []
    with refused_if_unwritable(args.output):
        folder.mkdir(parents=True)
        for number, (image, angle) in enumerate(zip(content["images"], angles, strict=True)):
            turned, move = turn(sar_image.read(args.images / image["file_name"]), angle)
            name = f"{number:05}.png"
            Image.fromarray(turned).save(folder / name)
            height, width = turned.shape
            about = {"id": image["id"], "file_name": name, "height": height, "width": width, "degrees": float(angle)}
            images.append(about)
            boxes += [turned_box(each, move) for each in content["annotations"] if each["image_id"] == image["id"]]
        write_json(args.output / "boxes.json", content | {"images": images, "annotations": boxes})
    print(f"wrote {len(images)} images with {len(boxes)} boxes, and {args.output / 'boxes.json'}")


if __name__ == "__main__":
    with exit_on_input_error():
        main()
