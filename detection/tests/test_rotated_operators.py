"""Overlap and suppression of rotated boxes against shapely, which computes with polygons."""

import sys

import numpy as np
import pytest
import shapely
import torch
from mmcv.ops import RoIAlignRotated, box_iou_rotated, nms_rotated

from mmcv_stand_in import rotated_boxes
from mmcv_stand_in.operators import Operators

PAIRS = 2500  # of each kind


@pytest.fixture(autouse=True)
def stand_in():
    if not isinstance(sys.modules["mmcv._ext"], Operators):
        pytest.skip("MMCV has its compiled operators here")


def random_boxes(rng, count, spread=20.0):
    """Boxes [N, 5] of sides from 0.5 to 30, whose centres lie `spread` apart."""
    centre, sides = rng.uniform(0, spread, (count, 2)), rng.uniform(0.5, 30, (count, 2))
    return np.column_stack([centre, sides, rng.uniform(-7, 7, count)])


def polygons(boxes):
    """The same as polygons, by shapely's own rotation of corners."""
    x, y, w, h, angle = boxes.T
    unit = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) / 2
    scaled = unit * np.stack([w, h], axis=1)[:, None]
    turn = np.stack([np.cos(angle), np.sin(angle), -np.sin(angle), np.cos(angle)], axis=1).reshape(-1, 2, 2)
    return shapely.polygons(scaled @ turn + np.stack([x, y], axis=1)[:, None])


def areas_by_shapely(first, second):
    """Shared area, union and the area of the first: of shapes near 0, where polygons are as exact as boxes."""
    origin = first[:, :2]
    near = [np.column_stack([boxes[:, :2] - origin, boxes[:, 2:]]) for boxes in (first, second)]
    one, other = map(polygons, near)
    shared = shapely.area(shapely.intersection(one, other))
    return shared, shapely.area(one) + shapely.area(other) - shared, shapely.area(one)


def kinds(rng):
    """Pairs of boxes, by what is special about them."""
    first, second = random_boxes(rng, PAIRS), random_boxes(rng, PAIRS)
    yield "any", first, second
    turned = first.copy()
    turned[:, 4] += np.pi * rng.integers(-3, 4, PAIRS)
    swapped = np.arange(PAIRS) % 2 == 0
    turned[swapped] = turned[swapped][:, [0, 1, 3, 2, 4]] + [0, 0, 0, 0, np.pi / 2]
    yield "identical, in all their forms", first, turned
    beside = first.copy()
    beside[:, 0] += first[:, 2] * np.cos(first[:, 4])
    beside[:, 1] += first[:, 2] * np.sin(first[:, 4])
    yield "touching", first, beside
    smaller = first * [1, 1, 0.5, 0.3, 1]
    yield "contained", first, smaller
    far = [boxes + np.array([3e6, -7e6, 0, 0, 0]) for boxes in (first, second)]
    yield "far away", *far
    yield "tiny and large", first * [1, 1, 1e-3, 1e-4, 1], second * [1, 1, 1e3, 1e2, 1]


def test_overlap_by_shapely():
    for name, first, second in kinds(np.random.default_rng(0)):
        one, other = map(torch.from_numpy, (first, second))
        shared, union, of_first = areas_by_shapely(first, second)
        if "identical" in name:  # of one of these pairs shapely finds nothing shared
            shared = union = of_first
        assert np.abs(box_iou_rotated(one, other, aligned=True).numpy() - shared / union).max() < 1e-9, name
        found = box_iou_rotated(one, other, mode="iof", aligned=True).numpy()
        assert np.abs(found - shared / of_first).max() < 1e-9, name
        assert (name == "touching") == (np.median(shared) < 1e-9), name


def test_boxes_without_an_area_share_none():
    first = torch.tensor([[0.0, 0, 4, 0, 1], [0, 0, 0, 0, 0], [0, 0, 2, 2, 0], [0, 0, 0, 3, 0.5]])
    second = torch.tensor([[0.0, 0, 4, 4, 0], [0, 0, 0, 0, 0], [0, 0, 2, 0, 0], [0, 0, 0, 3, 0.5]])
    assert box_iou_rotated(first, second, aligned=True).tolist() == [0, 0, 0, 0]
    assert box_iou_rotated(first, second, mode="iof").sum() == 1  # the third box in the first


def test_each_with_each_in_parts(monkeypatch):
    monkeypatch.setattr(rotated_boxes, "PAIRS_AT_ONCE", 100)
    rng = np.random.default_rng(1)
    first, second = (torch.from_numpy(random_boxes(rng, count, spread=100)) for count in (70, 30))
    found = box_iou_rotated(first, second)
    assert 0 < (found == 0).sum() < found.numel()
    for i in range(len(first)):
        row = box_iou_rotated(first[i].expand(len(second), 5), second, aligned=True)
        torch.testing.assert_close(found[i], row, rtol=0, atol=1e-12)
    assert box_iou_rotated(first[:0], second).shape == (0, 30)
    assert box_iou_rotated(first, second[:0]).shape == (70, 0)


def test_angles_turn_clockwise():
    """From the x axis to the y axis, which points down; MMCV turns them around for `clockwise=False`."""
    box = torch.tensor([[10.0, 10, 12, 2, np.pi / 4]])
    down_right = torch.tensor([[13.0, 13, 1, 1, 0]])
    assert box_iou_rotated(down_right, box, mode="iof") == 1
    assert box_iou_rotated(down_right, box, mode="iof", clockwise=False) == 0


@pytest.mark.parametrize("threshold", [0.1, 0.5])
@pytest.mark.parametrize("has_labels", [False, True])
def test_suppression_by_a_loop(monkeypatch, threshold, has_labels):
    monkeypatch.setattr(rotated_boxes, "PAIRS_AT_ONCE", 1000)
    rng = np.random.default_rng(2)
    boxes, scores, labels = random_boxes(rng, 80, spread=60), rng.random(80), rng.integers(0, 2, 80)
    shapes = polygons(boxes)
    expected, left = [], np.argsort(-scores).tolist()
    while left:
        best, *others = left
        expected.append(best)
        shared = shapely.area(shapely.intersection(shapes[best], shapes[others]))
        union = shapely.area(shapes[best]) + shapely.area(shapes[others]) - shared
        is_same = (shared / union > threshold) & (not has_labels or labels[others] == labels[best])
        left = [other for other, same in zip(others, is_same, strict=True) if not same]
    given = torch.from_numpy(labels) if has_labels else None
    kept, indices = nms_rotated(torch.from_numpy(boxes), torch.from_numpy(scores), threshold, given)
    assert indices.tolist() == expected
    assert 5 < len(expected) < 80
    assert np.array_equal(kept.numpy(), np.column_stack([boxes, scores])[expected])


def aligned_by_loops(image, box, cells, samples, is_aligned, turn):
    """Means of bilinear samples, one by one; `turn` is 1 for angles clockwise, -1 for others."""
    x, y, w, h, angle = box
    if not is_aligned:
        w, h = max(w, 1), max(h, 1)
    found = np.zeros((image.shape[0], *cells))
    counts = [samples or int(np.ceil(side / count)) for side, count in ((h, cells[0]), (w, cells[1]))]
    for row, column, i, j in np.ndindex(*cells, *counts):
        across = ((row + (i + 0.5) / counts[0]) / cells[0] - 0.5) * h
        along = ((column + (j + 0.5) / counts[1]) / cells[1] - 0.5) * w
        px = x + along * np.cos(angle) - turn * across * np.sin(angle) - is_aligned / 2
        py = y + turn * along * np.sin(angle) + across * np.cos(angle) - is_aligned / 2
        height, width = image.shape[1:]
        if -1 <= py <= height and -1 <= px <= width:
            py, px = np.clip(py, 0, height - 1), np.clip(px, 0, width - 1)
            top, left = min(int(py), height - 2), min(int(px), width - 2)
            down, right = py - top, px - left
            upper = image[:, top, left] * (1 - right) + image[:, top, left + 1] * right
            lower = image[:, top + 1, left] * (1 - right) + image[:, top + 1, left + 1] * right
            found[:, row, column] += (upper * (1 - down) + lower * down) / np.prod(counts)
    return found


@pytest.mark.parametrize("samples", [0, 2])
@pytest.mark.parametrize("is_aligned", [False, True])
@pytest.mark.parametrize("clockwise", [False, True])
def test_align_by_loops(samples, is_aligned, clockwise):
    rng = np.random.default_rng(3)
    maps = rng.random((2, 3, 12, 15))
    boxes = np.column_stack([rng.uniform(-4, 30, (9, 2)), rng.uniform(0.6, 16, (9, 2)), rng.uniform(-3, 3, 9)])
    numbers = np.arange(9) % 2
    layer = RoIAlignRotated((3, 4), 0.5, sampling_ratio=samples, aligned=is_aligned, clockwise=clockwise)
    rois = torch.from_numpy(np.column_stack([numbers, boxes]))
    found = layer(torch.from_numpy(maps), rois).numpy()
    for number, box, each in zip(numbers, boxes, found, strict=True):
        scaled = box * [0.5, 0.5, 0.5, 0.5, 1]
        expected = aligned_by_loops(maps[number], scaled, (3, 4), samples, is_aligned, 1 if clockwise else -1)
        assert np.abs(each - expected).max() < 1e-9
    assert np.abs(found).max(axis=(1, 2, 3)).min() == 0  # a box outside


def test_the_gradient_of_align_by_differences():
    torch.manual_seed(0)
    maps = torch.rand(2, 2, 6, 7, dtype=torch.float64, requires_grad=True)
    rois = torch.tensor([[0, 3.0, 3, 5, 2, 0.4], [1, 4, 2, 3, 6, -1.0]], dtype=torch.float64)
    layer = RoIAlignRotated((2, 3), 1.0, sampling_ratio=2, clockwise=True)
    assert torch.autograd.gradcheck(lambda maps: layer(maps, rois), maps)
