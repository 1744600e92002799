"""What a detector gets wrong in a test: false alarms, targets that it misses, and classes that it takes for others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv.ops import box_iou_rotated
from numpy.typing import NDArray

from hivit_det.classes import CocoMetricByName

OVERLAP = 0.5
Boxes = NDArray[np.float64]  # [N, 5]: centre, sides and angle, as in hivit_det.rotated; of upright boxes it is 0


@dataclass
class Image:
    """What an image has, M targets, and what was found in it, N boxes by falling score; labels number the classes."""

    path: Path
    truths: Boxes
    labels: NDArray[np.int64]
    found: Boxes
    found_labels: NDArray[np.int64]
    scores: NDArray[np.float64]

    @cached_property
    def shared(self) -> NDArray[np.float64]:
        """Overlap of each box that was found with each target, [N, M]."""
        return overlaps(self.found, self.truths)


@dataclass(frozen=True)
class Mistake:
    """One of them; a box that was found has a score, one that is there a class, and what has both is a wrong class."""

    image: Path
    box: NDArray[np.float64]
    true: int | None
    found_as: int | None
    score: float  # of a miss, the best of its class that overlaps it: below the threshold
    overlap: float

    @property
    def kind(self) -> str:
        """What it is called."""
        return "false alarm" if self.true is None else "miss" if self.found_as is None else "wrong class"


def images_of(metric: CocoMetricByName, results: Sequence[Mapping[str, Any]]) -> list[Image]:
    """Put together what was found and what is annotated, without what a crowd or a class not annotated hides.

    Args:
        metric: that has evaluated the test, with its annotation file.
        results: of each image, MMDetection's `img_id`, `img_path` and `pred_instances`.

    """
    classes = list(metric.dataset_meta["classes"])
    names = {category["id"]: category["name"] for category in metric.annotations.dataset["categories"]}
    known = metric.annotated_ids()
    images = []
    for result in results:
        truths = metric.annotations.imgToAnns[result["img_id"]]
        boxes = metric.boxes_of(truths)
        is_crowd = np.array([bool(truth["iscrowd"]) for truth in truths], bool)
        labels = np.array([classes.index(names[truth["category_id"]]) for truth in truths], np.int64)
        instances = result["pred_instances"]
        order = np.argsort(-np.asarray(instances["scores"]), kind="stable")
        found, scores, found_labels = (
            np.asarray(getattr(instances[name], "tensor", instances[name]))[order]
            for name in ("bboxes", "scores", "labels")
        )
        found = with_angle(found.astype(float))
        counts = (overlaps(found, boxes[is_crowd], "iof") < OVERLAP).all(axis=1)
        if known is not None:
            annotated = [i for i, name in enumerate(classes) if name in {names[n] for n in known[result["img_id"]]}]
            counts &= np.isin(found_labels, annotated)
        kept = (found[counts], found_labels[counts], scores[counts].astype(float))
        images.append(Image(Path(result["img_path"]), boxes[~is_crowd], labels[~is_crowd], *kept))
    return images


def with_angle(boxes: NDArray[np.float64]) -> Boxes:
    """Give boxes of a detector, [N, 5] or upright ones [N, 4] as x1, y1, x2, y2, by centre, sides and angle."""
    if boxes.shape[1] == 5:
        return boxes
    low, high = boxes[:, :2], boxes[:, 2:]
    return np.column_stack([(low + high) / 2, high - low, np.zeros(len(boxes))])


def overlaps(first: Boxes, second: Boxes, mode: str = "iou") -> NDArray[np.float64]:
    """Overlap of each box with each other one, [N, M]: what they share by what they cover, or ("iof") by the first."""
    return box_iou_rotated(torch.from_numpy(first), torch.from_numpy(second), mode=mode).numpy()


def assign(image: Image, threshold: float) -> tuple[dict[int, int], dict[int, int]]:
    """Give each found box of a score the target that it stands for: two dicts, found box -> target.

    By falling score, a box takes the target of its class that it overlaps most and that none has taken. Then, in the
    same way, those left take targets of other classes that are left: the second dict.
    """
    shared = image.shared
    is_same = image.found_labels[:, None] == image.labels
    right: dict[int, int] = {}
    wrong: dict[int, int] = {}
    for taken, allowed in ((right, is_same), (wrong, ~is_same)):
        for i in np.flatnonzero(image.scores >= threshold):
            if i in right:
                continue
            free = allowed[i] & ~np.isin(np.arange(len(image.labels)), [*right.values(), *wrong.values()])
            candidates = np.where(free, shared[i], -1)
            if candidates.size and candidates.max() >= OVERLAP:
                taken[int(i)] = int(candidates.argmax())
    return right, wrong


@dataclass
class Ranked:
    """All boxes that were found in a test, by falling score, each [N]: class, score, and whether it is a target's."""

    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    is_right: NDArray[np.bool_]


def rank(images: Sequence[Image]) -> Ranked:
    """Put the boxes of all images in order."""
    labels = np.concatenate([np.zeros(0, np.int64), *(image.found_labels for image in images)])
    scores = np.concatenate([np.zeros(0), *(image.scores for image in images)])
    right = [np.isin(np.arange(len(image.scores)), list(assign(image, -np.inf)[0])) for image in images]
    order = np.argsort(-scores, kind="stable")
    return Ranked(labels[order], scores[order], np.concatenate([np.zeros(0, bool), *right])[order])


def curve(ranked: Ranked, label: int, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Recall and precision, [N] each, of the boxes of a class by falling score; `count` targets are there."""
    true = ranked.is_right[ranked.labels == label].cumsum()
    return true / max(count, 1), true / np.arange(1, len(true) + 1)


def best_threshold(ranked: Ranked, count: int) -> float:
    """Give the score from which on boxes have the best F1, of all classes together; 0 if nothing is found."""
    if not len(ranked.scores):
        return 0.0
    f1 = 2 * ranked.is_right.cumsum() / (np.arange(1, len(ranked.scores) + 1) + count)
    is_last = np.append(ranked.scores[1:] < ranked.scores[:-1], True)  # of boxes with one score, all are taken or none
    return float(ranked.scores[np.where(is_last, f1, -1).argmax()])


def mistakes_of(images: Sequence[Image], threshold: float) -> list[Mistake]:
    """List all: false alarms and wrong classes by falling score, then misses, those first that nothing overlaps."""
    found, missed = [], []
    for image in images:
        shared = image.shared
        right, wrong = assign(image, threshold)
        for i in np.flatnonzero(image.scores >= threshold):
            if i in right:
                continue
            true = int(image.labels[wrong[i]]) if i in wrong else None
            overlap = float(shared[i, wrong[i]] if i in wrong else shared[i].max(initial=0))
            label, score = int(image.found_labels[i]), float(image.scores[i])
            found.append(Mistake(image.path, image.found[i], true, label, score, overlap))
        for j in sorted(set(range(len(image.labels))) - set(right.values()) - set(wrong.values())):
            mine = (image.found_labels == image.labels[j]) & (shared[:, j] >= OVERLAP)
            score = float(image.scores[mine].max(initial=0))
            overlap = float(shared[:, j].max(initial=0))
            missed.append(Mistake(image.path, image.truths[j], int(image.labels[j]), None, score, overlap))
    found.sort(key=lambda each: -each.score)
    missed.sort(key=lambda each: (each.score, each.overlap))
    return found + missed


def confusion(mistakes: Sequence[Mistake], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count targets by class and by what they are taken for, [C + 1, C + 1]: the last row and column are nothing.

    Args:
        mistakes: all of a test.
        counts: of the targets of each class, [C].

    """
    nothing = len(counts)
    table = np.diag([*counts, 0])
    for each in mistakes:
        row, column = (nothing if label is None else label for label in (each.true, each.found_as))
        table[row, column] += 1
        table[row, row] -= row != nothing
    return table
