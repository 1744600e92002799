"""How well oriented boxes are found: COCO's figures and DOTA's, over exact overlaps of the oriented boxes."""

from collections.abc import Mapping, Sequence
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from mmcv.ops import box_iou_rotated
from mmdet.datasets.api_wrappers import COCOeval
from mmdet.evaluation.functional import average_precision
from mmdet.registry import METRICS
from numpy.typing import NDArray

from hivit_det import classes
from hivit_det.classes import CocoMetricByName
from hivit_det.rotated.boxes import oriented_box

DOTA = {"AP50_dota2007": "11points", "AP50_dota2012": "area"}  # and MMDetection's name for its form


class RotatedEval(COCOeval):
    """COCO's evaluation, for boxes x, y, w, h, angle in the place of upright ones; `area` is theirs, too."""

    def _prepare(self) -> None:
        """Read what is annotated."""
        super()._prepare()
        for truth in (each for group in self._gts.values() for each in group):
            truth["oriented"] = oriented_box(truth.get("segmentation"), f"annotation {truth['id']}")
            truth["area"] = truth["oriented"][2] * truth["oriented"][3]

    def computeIoU(self, image: int, category: int) -> NDArray[np.float64]:  # noqa: N802 -- pycocotools' name
        """Overlaps [N, M] of boxes found, by falling score, with those annotated; with crowds the part that is inside.

        All numbers are float64.
        """
        truths, found = self._gts[image, category], self.found(image, category)
        oriented = torch.tensor([each["oriented"] for each in truths], dtype=torch.float64).reshape(-1, 5)
        # where nothing was found in all images, one upright box of no size stands for it
        boxes = torch.tensor([[*each["bbox"], 0][:5] for each in found], dtype=torch.float64).reshape(-1, 5)
        is_crowd = torch.tensor([bool(each["iscrowd"]) for each in truths], dtype=torch.bool)
        inside, overlap = (box_iou_rotated(boxes, oriented, mode=mode) for mode in ("iof", "iou"))
        return torch.where(is_crowd, inside, overlap).numpy()

    def found(self, image: int, category: int) -> list[dict[str, Any]]:
        """Boxes of a class that were found in an image, by falling score."""
        found = sorted(self._dts[image, category], key=lambda each: -each["score"])
        return found[: self.params.maxDets[-1]]

    def dota(self) -> dict[str, float]:
        """Mean over classes of the average precision at an overlap of 0.5, in DOTA's two forms.

        A box found is true if the annotated box that it overlaps most has no better one yet; what overlaps a crowd most
        does not count. 2007: mean of 11 points of recall (VOC 2007); 2012: the area under the curve.
        """
        curves = [curve for curve in map(self.curve, self.params.catIds) if curve is not None]
        return {
            name: float(np.mean([average_precision(*curve, mode=mode) for curve in curves]))
            for name, mode in DOTA.items()
            if curves
        }

    def curve(self, category: int) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Recall and precision of a class by falling score; None if there is nothing to find."""
        scores: list[NDArray[np.float64]] = [np.zeros(0)]
        is_true: list[NDArray[np.bool_]] = [np.zeros(0, bool)]
        count = 0
        for image in self.params.imgIds:
            is_crowd = np.array([bool(each["iscrowd"]) for each in self._gts[image, category]], bool)
            count += int((~is_crowd).sum())
            score = np.array([each["score"] for each in self.found(image, category)])
            overlaps = self.ious[image, category]
            hit = np.zeros(len(score), bool)
            if len(score) and len(is_crowd):
                nearest = overlaps.argmax(axis=1)
                reaches = overlaps.max(axis=1) > 0.5
                counts = ~(reaches & is_crowd[nearest])
                reached = np.flatnonzero(reaches & counts)
                hit[reached[np.unique(nearest[reached], return_index=True)[1]]] = True
                score, hit = score[counts], hit[counts]
            scores.append(score)
            is_true.append(hit)
        if not count:
            return None
        order = np.argsort(-np.concatenate(scores), kind="stable")
        true = np.concatenate(is_true)[order].cumsum()
        return true / count, true / np.arange(1, len(true) + 1)


@METRICS.register_module()
class RotatedMetricByName(CocoMetricByName):
    """CocoMetricByName, for boxes x, y, w, h, angle; its figures begin with `rotated/`, and DOTA's are among them."""

    default_prefix = "rotated"
    dota: dict[str, float]

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Evaluate what was found; runs in the first process alone."""
        self.dota = {}
        with patch.object(classes, "COCOeval", RotatedEval):
            return super().compute_metrics(results) | self.dota

    def note(self, evaluation: RotatedEval) -> None:
        """Keep the figures of an evaluation."""
        super().note(evaluation)
        self.dota = evaluation.dota()

    def boxes_of(self, annotations: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """Give annotated boxes, [N, 5]."""
        boxes = [oriented_box(each.get("segmentation"), f"annotation {each['id']}") for each in annotations]
        return np.reshape(boxes, (-1, 5)).astype(float)

    def xyxy2xywh(self, bbox: NDArray[np.float32]) -> Sequence[float]:
        """Give a box as it goes to the file of boxes: here it stays as it is."""
        return bbox.tolist()
