"""COCO data whose labels follow the names in the config: label k is its k-th class, whatever the order in a file.

MMDetection numbers labels in the annotation file's order, so that one model would mean different things to two files.
"""

import contextlib
import io
import json
from collections.abc import Mapping, Sequence
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
from mmengine.structures import BaseDataElement
from numpy.typing import NDArray

from coco_annotations.coco_json import read_coco
from coco_annotations.sources import source_of
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
    """CocoDataset, with labels in the order of `metainfo["classes"]`.

    Args:
        annotated: of a set merged from several sources, the classes that each annotates: {source: [class, ...]}. A
            source is what an image's field `source` says, or a regular expression that its file name begins with.
            Images then say it: `annotated` of their metainfo has True or False for each class; that of the data set
            has the table, by which `CocoMetricByName` evaluates each class on the images that annotate it.
        args, kwargs: of CocoDataset.

    Raises:
        InputError: if `annotated` does not fit the classes or the images.

    """

    COCOAPI = CocoInOrder

    def __init__(self, *args: Any, annotated: Mapping[str, Sequence[str]] | None = None, **kwargs: Any) -> None:
        self.annotated = annotated
        super().__init__(*args, **kwargs)
        if annotated is not None:
            self._metainfo["annotated"] = {source: list(names) for source, names in annotated.items()}

    def parse_data_info(self, raw_data_info: dict[str, Any]) -> Any:
        """Give what is known of an image."""
        found = super().parse_data_info(raw_data_info)
        if self.annotated is not None:
            names = self.annotated[source_of(raw_data_info["raw_img_info"], self.annotated)]
            found["annotated"] = [name in names for name in self.metainfo["classes"]]
        return found

    def prepare_data(self, idx: int) -> Any:
        """Give an image through the pipeline, of which the last transform leaves out what it does not know."""
        data = super().prepare_data(idx)
        sample = data.get("data_samples") if isinstance(data, dict) else None
        if self.annotated is not None and isinstance(sample, BaseDataElement):
            sample.set_metainfo({"annotated": self.get_data_info(idx)["annotated"]})
        return data


def valid_mean(values: Any) -> float | None:
    """Mean of the values that are not -1, which is pycocotools' mark of nothing to find; None if there are none."""
    values = np.asarray(values)
    valid = values[values > -1]
    return float(valid.mean()) if valid.size else None


def evaluate_annotated(evaluation: COCOeval, annotated: Mapping[int, set[int]]) -> None:
    """Make an evaluation leave out the classes that an image does not annotate: what is found of them is not known.

    Args:
        evaluation: that is to be run.
        annotated: ids of categories, by the id of the image.

    """
    match = evaluation.evaluateImg

    def match_annotated(image: int, category: int, *others: Any) -> Any:
        is_known = not evaluation.params.useCats or category in annotated[image]
        return match(image, category, *others) if is_known else None

    evaluation.evaluateImg = match_annotated


@METRICS.register_module()
class CocoMetricByName(CocoMetric):
    """CocoMetric, with labels in the order of the data set's classes, and by its `annotated`, if it has that.

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
        kept, annotated = [], self.annotated_ids()

        def keep(*args: Any) -> COCOeval:
            kept.append(COCOeval(*args))  # pycocotools' class; nothing is evaluated as code
            if annotated is not None:
                evaluate_annotated(kept[-1], annotated)
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

    @property
    def annotations(self) -> COCO:
        """The annotation file."""
        return self._coco_api

    def boxes_of(self, annotations: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """Give annotated boxes by centre, sides and angle (0), [N, 5]."""
        x, y, w, h = np.reshape([each["bbox"] for each in annotations], (-1, 4)).astype(float).T
        return np.stack([x + w / 2, y + h / 2, w, h, np.zeros(len(x))], axis=1)

    def annotated_ids(self) -> dict[int, set[int]] | None:
        """Give the ids of the categories that each image annotates, by its id; None if the data set does not say."""
        table = self.dataset_meta.get("annotated")
        if table is None:
            return None
        ids = {source: set(category_ids(self._coco_api, names)) for source, names in table.items()}
        return {image["id"]: ids[source_of(image, table)] for image in self._coco_api.dataset["images"]}

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
