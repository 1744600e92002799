"""What a detector gets wrong: lists, curves and pictures."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hivit_det.classes import CocoMetricByName
from hivit_det.mistake_figures import corners_of, write_mistakes
from hivit_det.mistakes import best_threshold, confusion, curve, images_of, mistakes_of, rank
from hivit_det.rotated import RotatedMetricByName

CLASSES = ("ship", "tank")
IDS = {"ship": 7, "tank": 3}


def evaluated(folder, truths, found, metric=CocoMetricByName, prefix="boxes"):
    """A metric that has evaluated, and the results; `truths` are (class, box, crowd?), `found` (class, box, score)."""
    content = {"images": [], "annotations": [], "categories": [{"id": 3, "name": "tank"}, {"id": 7, "name": "ship"}]}
    results = []
    for number, (there, seen) in enumerate(zip(truths, found, strict=True)):
        name = folder / f"{number}.png"
        Image.fromarray(np.full((64, 64), 90, np.uint8)).save(name)
        content["images"].append({"id": number, "file_name": name.name, "width": 64, "height": 64})
        for kind, box, *crowd in there:
            about = {"id": len(content["annotations"]), "image_id": number, "category_id": IDS[kind]}
            about |= {"iscrowd": int(bool(crowd)), "area": box[2] * box[3], "bbox": list(map(float, box[:4]))}
            if len(box) == 5:
                about["segmentation"] = [corners_of(np.array(box, float)).flatten().tolist()]
            content["annotations"].append(about)
        boxes = torch.tensor([box for _, box, _ in seen], dtype=torch.float64)
        if metric is CocoMetricByName:
            boxes = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1) if len(boxes) else boxes.reshape(0, 4)
        instances = {
            "bboxes": boxes,
            "scores": torch.tensor([score for *_, score in seen]),
            "labels": torch.tensor([CLASSES.index(kind) for kind, *_ in seen], dtype=torch.long),
        }
        results.append({"img_id": number, "img_path": str(name), "pred_instances": instances, "ori_shape": (64, 64)})
    path = folder / f"{prefix}.json"
    path.write_text(json.dumps(content))
    metric = metric(ann_file=str(path), metric="bbox")
    metric.dataset_meta = {"classes": CLASSES}
    metric.process({}, results)
    metric.evaluate(len(results))
    return metric, results


TRUTHS = [
    [("ship", (0, 0, 10, 10)), ("tank", (20, 0, 10, 10)), ("tank", (40, 0, 10, 10))],
    [("ship", (0, 0, 10, 10)), ("ship", (30, 30, 30, 30), True)],
]
FOUND = [
    [
        ("ship", (1, 0, 10, 10), 0.9),
        ("ship", (0, 0, 10, 10), 0.8),  # a second one at the same ship
        ("ship", (20, 1, 10, 10), 0.7),  # is a tank
        ("tank", (40, 0, 10, 10), 0.2),
    ],
    [("tank", (0, 40, 10, 10), 0.6), ("ship", (35, 35, 9, 9), 0.95)],  # the second one is in a crowd
]


def test_each_mistake_has_its_kind(tmp_path):
    images = images_of(*evaluated(tmp_path, TRUTHS, FOUND))
    ranked = rank(images)
    assert ranked.scores == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.2])
    assert ranked.is_right.tolist() == [True, False, False, False, True]
    listed = [(each.kind, each.true, each.found_as, round(each.score, 2)) for each in mistakes_of(images, 0.5)]
    assert listed == [
        ("false alarm", None, 0, 0.8),
        ("wrong class", 1, 0, 0.7),
        ("false alarm", None, 1, 0.6),
        ("miss", 0, None, 0.0),
        ("miss", 1, None, 0.2),
    ]
    assert mistakes_of(images, 0.5)[1].overlap == pytest.approx(9 / 11)
    assert confusion(mistakes_of(images, 0.5), np.array([2, 2])).tolist() == [[1, 0, 1], [1, 0, 1], [1, 1, 0]]


def test_the_best_score_to_take_boxes_from():
    ranked = type("Ranked", (), {})()
    ranked.scores = np.array([0.9, 0.8, 0.7, 0.7, 0.1])
    ranked.is_right = np.array([True, False, True, True, False])
    assert best_threshold(ranked, 3) == 0.7  # F1 6 / 7, against 2 / 4 and 6 / 8
    ranked.is_right = np.array([False, False, True, False, False])
    assert best_threshold(ranked, 1) == 0.7  # not between boxes of one score
    ranked.scores = ranked.is_right = np.zeros(0)
    assert best_threshold(ranked, 3) == 0


@pytest.mark.parametrize("oriented", [False, True])
def test_the_area_under_a_curve_is_cocos(tmp_path, oriented):
    rng = np.random.default_rng(0)

    def box():
        return [*rng.uniform(5, 40, 2), *np.sort(rng.uniform(6, 24, 2))[::-1], *([rng.uniform(-1, 1)] * oriented)]

    truths, found = [], []
    for _ in range(12):
        truths.append([(CLASSES[rng.integers(2)], box()) for _ in range(4)])
        near = [
            (kind, (np.array(at) + rng.normal(0, 1, len(at)) * (1, 1, 1, 1, 0.1)[: len(at)]).tolist(), rng.random())
            for kind, at in truths[-1]
        ]
        found.append([*near, *((CLASSES[rng.integers(2)], box(), rng.random()) for _ in range(3))])
    kind = RotatedMetricByName if oriented else CocoMetricByName
    metric, results = evaluated(tmp_path, truths, found, kind)
    images = images_of(metric, results)
    ranked = rank(images)
    for label, name in enumerate(CLASSES):
        recall, precision = curve(ranked, label, sum(int((image.labels == label).sum()) for image in images))
        best_from = np.maximum.accumulate(precision[::-1])[::-1]
        places = np.searchsorted(recall, np.linspace(0, 1, 101))
        area = np.mean([best_from[place] if place < len(recall) else 0 for place in places])
        assert area == pytest.approx(metric.per_class[name]["mAP_50"], abs=1e-9)
        assert 0.2 < area < 0.95
    table = confusion(mistakes_of(images, 0.4), np.bincount([label for image in images for label in image.labels]))
    assert table[:2].sum() == sum(map(len, truths))
    assert table[:, :2].sum() == (ranked.scores >= 0.4).sum()


def test_nothing_found_and_nothing_there(tmp_path):
    """The image with a target has a name that is not UTF-8, which no font can draw."""
    metric, results = evaluated(tmp_path, [[], [("ship", (0, 0, 10, 10))]], [[], []])
    odd = tmp_path / os.fsdecode(b"\xff$.png")
    Path(results[1]["img_path"]).rename(odd)
    results[1]["img_path"] = str(odd)
    (tmp_path / "out").mkdir()
    write_mistakes(tmp_path / "out", metric, results, {})
    with (tmp_path / "out/mistakes.csv").open(errors="surrogateescape") as file:
        (only,) = csv.DictReader(file)
    assert (only["kind"], only["class"], only["found_as"], only["image"]) == ("miss", "ship", "", str(odd))
    assert only["corners"] == "0.0 0.0 10.0 0.0 10.0 10.0 0.0 10.0"
