"""COCO data whose labels follow the names in the config: label k is its k-th class, whatever the order in a file.

MMDetection numbers labels in the annotation file's order, so that one model would mean different things to two files.
"""

from collections.abc import Sequence

from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmdet.evaluation import CocoMetric
from mmdet.registry import DATASETS, METRICS


def category_ids(coco: COCO, names: Sequence[str]) -> list[int]:
    """The ids of categories of an annotation file, in the order of `names`."""
    ids = {category["name"]: category["id"] for category in coco.dataset["categories"]}
    return [ids[name] for name in names]


class CocoInOrder(COCO):
    """An annotation file that lists categories in the order in which they are asked for."""

    def get_cat_ids(self, cat_names: Sequence[str] = (), **kwargs) -> list[int]:
        """Ids by name, as CocoDataset asks for them."""
        return category_ids(self, cat_names) if cat_names else super().get_cat_ids(**kwargs)


@DATASETS.register_module()
class CocoByName(CocoDataset):
    """CocoDataset, with labels in the order of `metainfo["classes"]`."""

    COCOAPI = CocoInOrder


@METRICS.register_module()
class CocoMetricByName(CocoMetric):
    """CocoMetric, with labels in the order of the data set's classes."""

    def results2json(self, results: Sequence[dict], outfile_prefix: str) -> dict[str, str]:
        """Write what was found, with the ids of the annotation file."""
        if not self._coco_api:
            return super().results2json(results, outfile_prefix)
        self.cat_ids = category_ids(self._coco_api, self.dataset_meta["classes"])
        files = super().results2json(results, outfile_prefix)
        self.cat_ids = sorted(self.cat_ids)  # pycocotools' order, in which the figures of single classes come back
        return files
