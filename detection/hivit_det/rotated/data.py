"""Data with oriented boxes, and how they are augmented."""

from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmdet.registry import DATASETS, TRANSFORMS
from mmrotate.structures import RotatedBoxes

from hivit_det.classes import CocoByName
from hivit_det.rotated.boxes import oriented_box


@DATASETS.register_module()
class RotatedCocoByName(CocoByName):
    """COCO data whose boxes are those around the polygons of `segmentation`, with labels by name.

    Its pipelines need dict(type="LoadAnnotations", with_bbox=True, box_type="rbox").

    Raises:
        InputError: if an annotation has no polygon.

    """

    def parse_data_info(self, raw_data_info: dict[str, Any]) -> dict[str, Any]:
        """Give an image with its boxes, each x, y, w, h, angle."""
        info = super().parse_data_info(raw_data_info)
        where = f"{self.ann_file}: an annotation of {raw_data_info['raw_img_info']['file_name']}"
        for instance in info["instances"]:
            instance["bbox"] = oriented_box(instance.pop("mask", None), where)
        return info


@TRANSFORMS.register_module()
class RandomQuarterTurn(BaseTransform):
    """Turns an image and its oriented boxes by 0, 90, 180 or 270 degrees, without interpolation."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Turn `img` uint8 [H, W, C] and `gt_bboxes` counterclockwise."""
        for _ in range(np.random.randint(4)):  # seeded for each epoch, as MMDetection's own transforms are
            x, y, w, h, angle = results["gt_bboxes"].tensor.unbind(-1)
            turned = torch.stack([y, results["img"].shape[1] - x, w, h, angle - torch.pi / 2], dim=-1)
            results["gt_bboxes"] = RotatedBoxes(RotatedBoxes(turned).regularize_boxes("le90"))
            results["img"] = np.ascontiguousarray(np.rot90(results["img"]))
            results["img_shape"] = results["img"].shape[:2]
        return results
