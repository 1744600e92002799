"""Oriented boxes as COCO files have them: the polygons of `segmentation`."""

from typing import Any

import cv2
import numpy as np

from coco_annotations.coco_json import is_finite
from saratrx.errors import InputError


def oriented_box(segmentation: Any, where: str) -> list[float]:
    """Give the smallest box around a polygon: x, y, w, h, angle, as `hivit_det.rotated` says.

    Args:
        segmentation: COCO's form of one or more polygons, [[x1, y1, x2, y2, ...], ...]; of four corners that are a
            rectangle, this is the box.
        where: it is from, for what is said.

    Raises:
        InputError: if it is no such list.

    """
    if not is_polygons(segmentation):
        raise InputError(
            f"{where} has no oriented box: its segmentation must be a polygon, [[x1, y1, x2, y2, x3, y3, x4, y4]]"
        )
    points = np.concatenate([np.reshape(part, (-1, 2)) for part in segmentation])
    origin = points.mean(axis=0)  # OpenCV computes in float32
    (x, y), (w, h), degrees = cv2.minAreaRect((points - origin).astype(np.float32))
    if w < h:
        w, h, degrees = h, w, degrees + 90
    return [origin[0] + x, origin[1] + y, w, h, np.radians((degrees + 90) % 180 - 90)]


def is_polygons(segmentation: Any) -> bool:
    """Whether a value is a list of polygons of at least three points."""
    return (
        isinstance(segmentation, list)
        and len(segmentation) > 0
        and all(isinstance(part, list) and len(part) >= 6 and len(part) % 2 == 0 for part in segmentation)
        and all(is_finite(value) for part in segmentation for value in part)
    )
