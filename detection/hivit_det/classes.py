"""COCO data whose labels follow the names in the config: label k is its k-th class, whatever the order in a file.

MMDetection numbers labels in the annotation file's order, so that one model would mean different things to two files.
"""

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO, COCOeval
from mmdet.evaluation import CocoMetric
from mmdet.evaluation.metrics import coco_metric
from mmdet.registry import DATASETS, METRICS
from mmengine.logging import MMLogger

from coco_annotations.coco_json import read_coco
from hivit_det.temporary_folder import temporary_folder_named

FIGURES = ("mAP", "mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l")  # the first six of pycocotools' statistics


def category_ids(coco: COCO, names: Sequence[str]) -> list[int]:
    """Give the ids of categories of an annotation file, in the order of `names`."""
    ids = {category["name"]: category["id"] for category in coco.dataset["categories"]}
    return [ids[name] for name in names]


class CocoInOrder(COCO):
    """An annotation file as `read_coco` reads it, which lists categories in the order in which they are asked for.

    Raises:
        InputError: if the file cannot be used.

    """

    def __init__(self, annotation_file: str | Path | None = None) -> None:
        super().__init__()
        if annotation_file is not None:
            self.dataset = read_coco(annotation_file)
            with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
                self.createIndex()
            self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs

    def get_cat_ids(self, cat_names: Sequence[str] = (), **kwargs: Any) -> list[int]:
        """Ids by name, as CocoDataset asks for them."""
        return category_ids(self, cat_names) if cat_names else super().get_cat_ids(**kwargs)


@DATASETS.register_module()
class CocoByName(CocoDataset):
    """CocoDataset, with labels in the order of `metainfo["classes"]`."""

    COCOAPI = CocoInOrder


def valid_mean(values: Any) -> float | None:
    """Mean of the values that are not -1, which is pycocotools' mark of nothing to find; None if there are none."""
    values = np.asarray(values)
    valid = values[values > -1]
    return float(valid.mean()) if valid.size else None


@METRICS.register_module()
class CocoMetricByName(CocoMetric):
    """CocoMetric, with labels in the order of the data set's classes.

    After an evaluation of boxes, `figures` holds COCO's in full precision (the log has three digits), and `per_class`
    the mAP and the mAP_50 of each class; both in [0, 1], None where there is nothing to find.
    """

    figures: dict[str, float | None]
    per_class: dict[str, dict[str, float | None]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        with patch.object(coco_metric, "COCO", CocoInOrder):  # it would read the file in its own way
            super().__init__(*args, **kwargs)

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Evaluate what was found; runs in the first process alone."""
        self.figures, self.per_class = {}, {}
        kept = []

        def keep(*args: Any) -> COCOeval:
            kept.append(COCOeval(*args))  # pycocotools' class; nothing is evaluated as code
            return kept[-1]

        printed = io.StringIO()
        # the metric would throw the evaluation away, and print its table at every validation
        with (
            temporary_folder_named(),
            patch.object(coco_metric, "COCOeval", keep),
            contextlib.redirect_stdout(printed),
        ):
            rounded = super().compute_metrics(results)
        MMLogger.get_current_instance().info("COCO's table:\n%s", printed.getvalue())
        for evaluation in kept:
            if evaluation.params.iouType == "bbox" and evaluation.params.useCats:
                self.note(evaluation)
        return rounded

    def note(self, evaluation: COCOeval) -> None:
        """Keep the figures of an evaluation."""
        self.figures = {name: valid_mean(evaluation.stats[i]) for i, name in enumerate(FIGURES)}
        # of all areas, and with the most boxes per image: [thresholds, recalls, classes]
        precision = evaluation.eval["precision"][..., 0, -1]
        half = np.isclose(evaluation.params.iouThrs, 0.5)
        names = {category["id"]: category["name"] for category in self._coco_api.dataset["categories"]}
        for i, number in enumerate(evaluation.params.catIds):
            of_class = precision[:, :, i]
            self.per_class[names[number]] = {"mAP": valid_mean(of_class), "mAP_50": valid_mean(of_class[half])}

    def results2json(self, results: Sequence[dict[str, Any]], outfile_prefix: str) -> dict[str, str]:
        """Write what was found, with the ids of the annotation file."""
        if not self._coco_api:
            return super().results2json(results, outfile_prefix)
        self.cat_ids = category_ids(self._coco_api, self.dataset_meta["classes"])
        files = super().results2json(results, outfile_prefix)
        found = Path(files["bbox"])
        if found.read_text(encoding="utf-8") == "[]":  # MMDetection would give no figure; one box of no size gives 0
            image = min(self._coco_api.get_img_ids())
            nothing = {"image_id": image, "category_id": self.cat_ids[0], "bbox": [0, 0, 0, 0], "score": 0.0}
            found.write_text(json.dumps([nothing]), encoding="utf-8")
        self.cat_ids = sorted(self.cat_ids)  # pycocotools' order, in which the figures of single classes come back
        return files
