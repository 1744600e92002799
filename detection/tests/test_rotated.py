"""Oriented boxes: how they are read, augmented, learnt and evaluated."""

import json
import sys
from itertools import pairwise
from pathlib import Path

import cv2
import mmrotate
import numpy as np
import pytest
import shapely
import torch
from detection_tools import MICRO, STAGE
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from mmrotate.models.losses import GDLoss
from mmrotate.structures import RotatedBoxes
from mmrotate.testing import demo_mm_inputs

from coco_annotations import installation
from hivit_det.rotated import DoubleAngle, GaussianDivergenceLoss, RotatedCocoByName, RotatedMetricByName
from hivit_det.rotated.boxes import oriented_box
from hivit_det.rotated.loss import divergence
from hivit_det.running import open_config
from hivit_det.testing import flip_too
from saratrx.errors import InputError

CONFIGS = STAGE / "configs/_hivit_"
CLASSES = ("ship", "vehicle")


def corners(box):
    """Corners of x, y, w, h, angle, [4, 2]."""
    x, y, w, h, angle = map(float, box)
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    return np.array([[x, y] + i * w / 2 * along + j * h / 2 * across for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1))])


def overlap_by_shapely(first, second):
    one, other = (shapely.Polygon(corners(box)) for box in (first, second))
    shared = shapely.area(shapely.intersection(one, other))
    return shared / (one.area + other.area - shared)


def random_boxes(rng, count):
    sides = np.sort(rng.uniform(2, 20, (count, 2)), axis=1)[:, ::-1]
    return np.column_stack([rng.uniform(10, 54, (count, 2)), sides, rng.uniform(-np.pi / 2, np.pi / 2, count)])


def test_a_polygon_becomes_its_smallest_box():
    rng = np.random.default_rng(0)
    for box in random_boxes(rng, 200):
        points = np.roll(corners(box), rng.integers(4), axis=0)[:: rng.choice([-1, 1])] + 1e6
        found = oriented_box([points.flatten().tolist()], "")
        assert found[2] >= found[3]
        assert -np.pi / 2 <= found[4] < np.pi / 2
        assert overlap_by_shapely(box + np.array([1e6, 1e6, 0, 0, 0]), found) > 1 - 1e-4
        more = rng.normal(0, 5, (9, 2))
        parts = [more[:4].flatten().tolist(), more[4:].flatten().tolist()]
        area = np.prod(oriented_box(parts, "")[2:4])
        assert area == pytest.approx(smallest_area(more), rel=1e-4)


def smallest_area(points):
    """Of the boxes along an edge of the hull, one is the smallest (Freeman and Shapira, 1975)."""
    hull = np.array(shapely.MultiPoint(points).convex_hull.exterior.coords)
    areas = []
    for start, end in pairwise(hull):
        along = (end - start) / np.linalg.norm(end - start)
        areas.append(np.ptp(hull @ along) * np.ptp(hull @ [-along[1], along[0]]))
    return min(areas)


@pytest.mark.parametrize(
    "segmentation", [None, [], [[1, 2, 3, 4]], [[1, 2, 3, 4, 5, 6, 7]], [[0, 0, 1, "x", 2, 2]], {}]
)
def test_what_is_no_polygon_is_refused(tmp_path, segmentation):
    content = annotations([np.array([[20.0, 20, 10, 4, 0]])])
    content["annotations"][0]["segmentation"] = segmentation
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    with pytest.raises(
        InputError, match=r"boxes.json: an annotation of 0.png has no oriented box: its segmentation mu"
    ):
        data_set(tmp_path / "boxes.json")


def annotations(images, labels=None, crowds=()):
    """COCO's content for boxes [N, 5] of each image; categories are listed in another order than the config's."""
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "vehicle"}, {"id": 2, "name": "ship"}]}
    for image, boxes in enumerate(images):
        content["images"].append({"id": image, "file_name": f"{image}.png", "width": 64, "height": 64})
        for k, box in enumerate(boxes):
            points = corners(box)
            low, high = points.min(axis=0), points.max(axis=0)
            number = len(content["annotations"])
            about = {"id": number, "image_id": image, "iscrowd": int(number in crowds)}
            about |= {"category_id": 2 - int(labels[image][k]) if labels else 2}
            about |= {"bbox": [*low, *(high - low)], "area": 1.0, "segmentation": [points.flatten().tolist()]}
            content["annotations"].append(about)
    return content


def data_set(path, pipeline=()):
    about = {"ann_file": str(path), "data_prefix": {"img": str(path.parent)}, "metainfo": {"classes": CLASSES}}
    return RotatedCocoByName(**about, pipeline=list(pipeline))


def test_boxes_go_with_the_picture(tmp_path):
    """A bar is where its box says, however the picture is turned and cut."""
    init_default_scope("mmdet")
    bar = np.array([30.0, 24, 22, 7, 0.6])
    rows, columns = np.mgrid[:50, :64] + 0.5
    image = 255 * shapely.contains_xy(shapely.Polygon(corners(bar)), columns, rows).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "0.png"), image)
    (tmp_path / "boxes.json").write_text(json.dumps(annotations([[bar]])))
    pipeline = [
        {"type": "LoadImageFromFile", "imdecode_backend": "saratrx"},
        {"type": "LoadAnnotations", "with_bbox": True, "box_type": "rbox"},
        {"type": "RandomFlip", "prob": 0.5},
        {"type": "RandomQuarterTurn"},
        {"type": "Resize", "scale_factor": 2.0, "keep_ratio": True},
        {"type": "RandomCrop", "crop_size": (92, 92), "bbox_clip_border": False},
    ]
    data = data_set(tmp_path / "boxes.json", pipeline)
    np.random.seed(0)
    seen = set()
    for _ in range(40):
        found = data[0]
        (box,) = found["gt_bboxes"].tensor.numpy()
        assert -np.pi / 2 <= box[4] < np.pi / 2
        pixels = np.argwhere(found["img"][..., 0] > 127)[:, ::-1] + 0.5
        variances, axes = np.linalg.eigh(np.cov(pixels.T))
        (h, w), (along_x, along_y) = np.sqrt(12 * variances), axes[:, 1]  # of a bar, the deviation is side / sqrt(12)
        drawn = [*pixels.mean(axis=0), w, h, np.arctan2(along_y, along_x)]
        assert overlap_by_shapely(box, drawn) > 0.95
        assert found["img"].shape[:2] == found["img_shape"] == (92, 92)
        seen.add(round(float(box[4]), 3))
    assert seen == {0.6, -0.6, round(0.6 - np.pi / 2, 3), round(np.pi / 2 - 0.6, 3)}


def test_the_loss_is_mmrotates_where_that_is_a_number():
    rng = np.random.default_rng(3)
    pred, target = (torch.from_numpy(random_boxes(rng, 50)) for _ in range(2))
    weight, total = torch.from_numpy(rng.random(50)), 7.0
    found = GaussianDivergenceLoss(loss_weight=2.0)(pred, target, weight=weight, avg_factor=total)
    expected = GDLoss("jd", fun="log1p", tau=1.0, loss_weight=2.0)(pred, target, weight=weight, avg_factor=total)
    torch.testing.assert_close(found, expected)
    turned = target + torch.tensor([0, 0, 0, 0, torch.pi])
    swapped = target[:, [0, 1, 3, 2, 4]] + torch.tensor([0, 0, 0, 0, torch.pi / 2])
    for same in (target, turned, swapped):
        assert divergence(target, same).abs().max() < 1e-12
    thin = torch.tensor([[0.0, 0, 500, 1e-3, 0.7]], requires_grad=True)
    GaussianDivergenceLoss()(thin, torch.tensor([[3.0, 1, 40, 9, -0.4]])).backward()
    assert thin.grad.isfinite().all()


def test_the_gradient_of_the_loss_by_differences():
    rng = np.random.default_rng(4)
    pred, target = (torch.from_numpy(random_boxes(rng, 10)) for _ in range(2))
    assert torch.autograd.gradcheck(GaussianDivergenceLoss(), (pred.requires_grad_(), target))


def test_an_angle_and_its_double():
    angles = torch.linspace(-torch.pi / 2, torch.pi / 2, 181, dtype=torch.float64)[:-1, None]
    coder = DoubleAngle()
    torch.testing.assert_close(coder.encode(angles), coder.encode(angles + torch.pi))
    pairs = 3.7 * coder.encode(angles)
    torch.testing.assert_close(coder.decode(pairs, keepdim=True), angles)
    torch.testing.assert_close(coder.decode(pairs[None]), angles[None, :, 0])


def config(name):
    cfg = Config.fromfile(CONFIGS / f"{name}.py")
    init_default_scope("mmdet")
    return cfg


@pytest.mark.parametrize("name", ["hivit_base_RSAR", "hivit_nano_MSTAR_DET_rotated", "hivit_nano_simulated_rotated"])
def test_a_detector_learns_and_finds(name):
    cfg = config(name)
    classes = cfg.train_dataloader.dataset.metainfo.classes
    assert cfg.model.bbox_head.num_classes == len(classes)
    is_nano = "nano" in name
    assert cfg.optim_wrapper.paramwise_cfg.num_layers == cfg.model.backbone.depths[2]
    assert cfg.default_hooks.checkpoint.save_best == "rotated/bbox_mAP"
    cfg.merge_from_dict(MICRO)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    batch = demo_mm_inputs(2, [[3, 128, 128], [3, 96, 120]], num_classes=2, use_box_type=True)
    for sample in batch["data_samples"]:
        sample.gt_instances.labels %= len(classes)
    batch = model.data_preprocessor(batch, training=True)
    losses = model(**batch, mode="loss")
    assert losses.keys() == {"loss_cls", "loss_bbox", "loss_angle"}
    sum(sum(of_levels) for of_levels in losses.values()).backward()
    unused = {parameter for parameter, value in model.named_parameters() if value.grad is None}
    assert unused == (set() if is_nano else {"backbone.fpn1.weight", "backbone.fpn1.bias"})
    assert cfg.find_unused_parameters == (not is_nano)
    model.eval()
    model.test_cfg.score_thr = 0.0
    with torch.no_grad():
        first, _ = model(**batch, mode="predict")
    assert first.pred_instances.bboxes.shape[1:] == (5,)
    assert 1 <= len(first.pred_instances) <= 100
    assert first.pred_instances.bboxes[:, 4].abs().max() <= np.pi / 2


FEW = {  # proposals
    "model.train_cfg.rpn_proposal.max_per_img": 20,
    "model.train_cfg.rcnn.sampler.num": 20,
    "model.test_cfg.rpn.max_per_img": 20,
}


@pytest.mark.parametrize(
    ("name", "few"), [("oriented_rcnn/oriented-rcnn", FEW), ("rotated_retinanet/rotated-retinanet-rbox", {})]
)
def test_other_detectors_of_mmrotate_run_with_the_stand_ins(name, few):
    cfg = Config.fromfile(Path(mmrotate.__file__).parent / f".mim/configs/{name}-le90_r50_fpn_1x_dota.py")
    backbone = config("hivit_base_RSAR").model.backbone
    init_default_scope("mmrotate")
    cfg.model.backbone = dict(backbone, type="mmdet.HiViT")
    cfg.merge_from_dict(MICRO | few)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    batch = model.data_preprocessor(demo_mm_inputs(1, [[3, 128, 128]], num_classes=15, use_box_type=True), True)
    losses = model(**batch, mode="loss")
    total = sum(sum(value) if isinstance(value, list) else value for key, value in losses.items() if "loss" in key)
    total.backward()
    assert total.isfinite()
    model.eval()
    with torch.no_grad():
        (found,) = model(**batch, mode="predict")
    assert found.pred_instances.bboxes.shape[1] == 5
    init_default_scope("mmdet")


def test_what_is_not_installed_is_said(monkeypatch):
    monkeypatch.delitem(sys.modules, "hivit_det.rotated")
    monkeypatch.setattr(installation, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"hivit_base_RSAR.py cannot be read as a config: mmrotate not installed: pip"):
        open_config(CONFIGS / "hivit_base_RSAR.py")


def test_oriented_boxes_are_not_tested_flipped():
    with pytest.raises(InputError, match=r"--tta: .*hivit_base_RSAR.py is of oriented boxes, which cannot be"):
        flip_too(config("hivit_base_RSAR"))


# the evaluation, once more, by loops and polygons


def precision_by_loops(truths, found, threshold, forms):
    """Average precision of one class, in several forms.

    truths: boxes of each image; found: (image, score, box), all scores different.
    """
    count = sum(map(len, truths))
    figures = {}
    for form in forms:
        taken, correct = [set() for _ in truths], []
        for image, _, box in sorted(found, key=lambda each: -each[1]):
            overlaps = [overlap_by_shapely(box, truth) for truth in truths[image]]
            if form == "coco":  # the best that is free
                overlaps = [0 if k in taken[image] else value for k, value in enumerate(overlaps)]
            best = int(np.argmax(overlaps)) if overlaps else -1
            is_true = best >= 0 and overlaps[best] > threshold and best not in taken[image]
            if is_true:
                taken[image].add(best)
            correct.append(is_true)
        true = np.cumsum(correct)
        recall, precision = true / count, true / np.arange(1, len(true) + 1)

        def above(level, recall=recall, precision=precision):
            return max(precision[recall >= level], default=0)

        if form == "area":
            steps = np.concatenate([[0], recall])
            figures[form] = sum((end - start) * above(end) for start, end in pairwise(steps))
        else:
            levels = np.linspace(0, 1, 101) if form == "coco" else np.arange(0, 1.1, 0.1)
            figures[form] = np.mean([above(level) for level in levels])
    return figures


def test_figures_by_loops(tmp_path):
    rng = np.random.default_rng(5)
    truths = [random_boxes(rng, 6) for _ in range(4)]
    labels = [rng.integers(0, 2, 6) for _ in range(4)]
    (tmp_path / "boxes.json").write_text(json.dumps(annotations(truths, labels)))
    found = []  # image, score, box, label: near the truth, near it again, or anywhere
    for image in range(4):
        for box, label in zip(truths[image], labels[image], strict=True):
            for _ in range(2):
                found.append((image, rng.random(), box + rng.normal(0, 1, 5) * [0.6, 0.6, 0.6, 0.4, 0.06], label))
        found += [(image, rng.random(), box, rng.integers(0, 2)) for box in random_boxes(rng, 3)]
    metric = evaluated(tmp_path, found, 4)

    expected = {}
    for label in (0, 1):
        of_class = [boxes[which == label] for boxes, which in zip(truths, labels, strict=True)]
        mine = [each[:3] for each in found if each[3] == label]
        for threshold in np.arange(50, 100, 5) / 100:
            forms = ("coco", "11 points", "area") if threshold == 0.5 else ("coco",)
            expected[label, threshold] = precision_by_loops(of_class, mine, threshold, forms)

    def mean(form, thresholds):
        return np.mean([expected[label, threshold][form] for label in (0, 1) for threshold in thresholds])

    assert metric.figures["mAP"] == pytest.approx(mean("coco", np.arange(50, 100, 5) / 100), abs=1e-6)
    assert metric.figures["mAP_50"] == pytest.approx(mean("coco", [0.5]), abs=1e-6)
    assert metric.figures["mAP_75"] == pytest.approx(mean("coco", [0.75]), abs=1e-6)
    assert metric.dota["AP50_dota2007"] == pytest.approx(mean("11 points", [0.5]), abs=1e-6)
    assert metric.dota["AP50_dota2012"] == pytest.approx(mean("area", [0.5]), abs=1e-6)
    assert metric.per_class["ship"]["mAP_50"] == pytest.approx(expected[0, 0.5]["coco"], abs=1e-6)
    assert 0.2 < metric.figures["mAP_75"] < metric.figures["mAP_50"] < 0.95
    assert len({round(value, 3) for value in (metric.figures["mAP_50"], *metric.dota.values())}) == 3


def evaluated(folder, found, images):
    """Evaluate boxes (image, score, box, label) by the annotations in a folder."""
    metric = RotatedMetricByName(ann_file=str(folder / "boxes.json"), metric="bbox")
    metric.dataset_meta = {"classes": CLASSES}
    for image in range(images):
        mine = [each for each in found if each[0] == image]
        boxes = torch.tensor(np.array([each[2] for each in mine]).reshape(-1, 5))
        about = InstanceData(
            bboxes=RotatedBoxes(boxes),
            scores=torch.tensor([float(each[1]) for each in mine]),
            labels=torch.tensor([int(each[3]) for each in mine], dtype=torch.int64),
        )
        metric.process({}, [{"img_id": image, "pred_instances": about, "ori_shape": (64, 64)}])
    metric.written = metric.evaluate(images)
    return metric


def test_nothing_found_is_0_and_crowds_do_not_count(tmp_path):
    boxes = np.array([[20.0, 20, 20, 6, 0.5], [40, 40, 18, 4, -0.9]])
    (tmp_path / "boxes.json").write_text(json.dumps(annotations([boxes], crowds=[1])))
    nothing = evaluated(tmp_path, [], 1)
    assert (nothing.figures["mAP"], nothing.dota["AP50_dota2007"], nothing.dota["AP50_dota2012"]) == (0, 0, 0)
    inside_crowd = boxes[1] * [1, 1, 0.4, 0.9, 1]
    found = evaluated(tmp_path, [(0, 0.9, inside_crowd, 0), (0, 0.8, boxes[0], 0)], 1)
    assert (found.figures["mAP"], found.dota["AP50_dota2007"], found.dota["AP50_dota2012"]) == pytest.approx((1, 1, 1))
    assert found.figures["mAP_s"] == pytest.approx(1)  # by the area of the oriented box, 120
    assert found.written["rotated/bbox_mAP"] == pytest.approx(1)
