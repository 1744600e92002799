"""Oriented boxes in scenes: merged over windows, and written with their heading and size on the ground."""

import csv
import json

import cv2
import numpy as np
import pytest
import rasterio
import shapely
import torch
from detection_tools import scene_of
from PIL import Image
from rasterio.transform import Affine
from scipy.ndimage import maximum_filter

from hivit_det.scenes import detection_files
from hivit_det.scenes.merge_oriented import merge_oriented, upright
from hivit_det.scenes.scene import open_scene
from hivit_det.scenes.windows import Detections, SceneDetector

AROUND = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])


def corners(box):
    x, y, w, h, angle = map(float, box)
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    return np.array([x, y]) + AROUND[:, :1] * w * along + AROUND[:, 1:] * h * across


def overlap(first, second):
    one, other = (shapely.Polygon(corners(box)) for box in (first, second))
    return one.intersection(other).area / one.union(other).area


class BrightBars(SceneDetector):
    """Finds bright bars as far as a window shows them, and notes the windows."""

    classes, is_oriented = ("bar",), True

    def __init__(self):
        self.device, self.seen = torch.device("cpu"), []

    def detect_in_windows(self, scene, windows, score):
        found = []
        for (left, top), image in windows:
            self.seen.append((left, top))
            count, parts = cv2.connectedComponents((image > 200).astype(np.uint8))
            boxes = []
            for part in range(1, count):
                pixels = np.argwhere(parts == part)[:, ::-1] + 0.5
                points = (pixels[:, None] + AROUND).reshape(-1, 2).astype(np.float32)
                (x, y), (w, h), degrees = cv2.minAreaRect(points)
                boxes.append([x + left, y + top, w, h, np.radians(degrees)])
            boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 5)
            frame = torch.tensor([left, top, left + image.shape[1], top + image.shape[0]]).float()
            labels = torch.zeros(len(boxes), dtype=torch.int64)
            found.append((boxes, torch.full((len(boxes),), 0.9), labels, frame.expand(len(boxes), 4)))
        return found


def scene_with(bars, size=(400, 300)):
    """A dark scene of width and height with bright bars."""
    rows, columns = np.mgrid[: size[1], : size[0]] + 0.5
    values = np.random.default_rng(0).integers(0, 90, size[::-1], dtype=np.uint8)
    for bar in bars:
        values[shapely.contains_xy(shapely.Polygon(corners(bar)), columns, rows)] = 250
    return scene_of(values)


@pytest.mark.parametrize(("window", "shared", "batch"), [(128, 60, 3), (200, 56, 1), (1000, 10, 8)])
def test_every_bar_is_found_once(window, shared, batch):
    rng = np.random.default_rng(1)
    bars = [
        (column + rng.uniform(-8, 8), row + rng.uniform(-8, 8), 40, 9, rng.uniform(-np.pi / 2, np.pi / 2))
        for column in range(30, 390, 60)
        for row in range(30, 290, 60)
    ]
    found = BrightBars().detect(scene_with(bars), window, shared, batch)
    assert found.are_oriented
    assert len(found) == len(bars)
    assert (found.boxes[:, 2] >= found.boxes[:, 3]).all()
    assert ((found.boxes[:, 4] >= -np.pi / 2) & (found.boxes[:, 4] < np.pi / 2)).all()
    for bar in bars:
        assert max(overlap(bar, box) for box in found.boxes.tolist()) > 0.8


def test_a_bar_that_no_window_shows_whole_is_looked_at_again():
    bar = (128, 120, 90, 12, 0.5)  # across the edges of windows of 128 that share 16
    detector = BrightBars()
    found = detector.detect(scene_with([bar], (240, 240)), 128, 16)
    assert len(detector.seen) == 4 + 1
    (box,) = found.boxes.tolist()
    assert overlap(bar, box) > 0.8


def test_nothing_found_has_oriented_boxes_all_the_same():
    assert BrightBars().detect(scene_with([]), 128, 16).boxes.shape == (0, 5)


def test_whole_boxes_win_over_pieces():
    frames = torch.tensor([[0.0, 0, 100, 100], [60, 0, 160, 100]])
    whole, worse = [85.0, 50, 40, 8, 0.1], [86.0, 50, 40, 8, 0.12]
    piece = [84.0, 50, 38, 7, 0.1]  # ends at the edge of the first window
    other, far = [80.0, 50, 40, 8, 1.4], [20.0, 20, 30, 6, -1.0]
    boxes = torch.tensor([piece, worse, whole, other, far])
    frames = frames[[0, 1, 1, 1, 0]]
    scores, labels = torch.tensor([0.95, 0.5, 0.9, 0.6, 0.7]), torch.zeros(5, dtype=torch.int64)
    kept = merge_oriented(boxes, scores, labels, frames, (160, 100), 0.5)
    assert kept.tolist() == [2, 4, 3]  # the crossing one overlaps little
    of_two = merge_oriented(boxes, scores, torch.tensor([1, 0, 0, 0, 0]), frames, (160, 100), 0.5)
    assert of_two.tolist() == [0, 2, 4, 3]  # classes do not suppress each other
    hulls = upright(boxes, frames)
    assert hulls[0, 2] == 100
    assert np.allclose(hulls[4], [*corners(far).min(axis=0), *corners(far).max(axis=0)])


def detections(*boxes):
    count = len(boxes)
    return Detections(
        torch.tensor(boxes, dtype=torch.float32), torch.linspace(0.9, 0.5, count), torch.arange(count) % 2, ("a", "b")
    )


def write_tiff(path, crs, transform):
    values = np.random.default_rng(0).integers(1, 255, (70, 90), dtype=np.uint8)
    about = {"width": 90, "height": 70, "count": 1, "dtype": "uint8", "crs": crs, "transform": transform}
    with rasterio.open(path, "w", driver="GTiff", **about) as file:
        file.write(values, 1)
    return path


def properties(folder, crs, transform, *boxes):
    scene = open_scene(write_tiff(folder / "scene.tif", crs, transform))
    written = detection_files.write_all(folder, scene, detections(*boxes))
    content = json.loads(next(file for file in written if file.suffix == ".geojson").read_text())
    return [feature["properties"] for feature in content["features"]]


def test_heading_and_size_on_the_ground(tmp_path):
    """On the central meridian of a UTM zone, where its north is north and its scale is 0.9996."""
    upright_map, turned = Affine(10, 0, 500000, 0, -10, 4000000), Affine.rotation(30)
    boxes = [(45, 35, 40, 8, 0), (45, 35, 40, 8, np.radians(-60)), (45, 35, 40, 8, np.radians(50))]
    for transform, turn in ((upright_map, 0), (upright_map @ turned, 30)):
        found = properties(tmp_path, "EPSG:32650", transform, *boxes)
        for each, heading in zip(found, (90, 30, 140), strict=True):
            assert each["heading"] == pytest.approx((heading + turn) % 180, abs=0.1)
            assert each["length"] == pytest.approx(400 / 0.9996, rel=1e-3)
            assert each["width"] == pytest.approx(80 / 0.9996, rel=1e-3)
    assert found[1]["pixels"] == [45, 35, 40, 8, -60]


def test_heading_and_size_in_degrees_and_in_mercator(tmp_path):
    """At 60 degrees north a degree of longitude is half as long, and Web Mercator is twice as large."""
    north = 6378137.0 * np.log(np.tan(np.radians(75)))
    for crs, transform, length, width in (
        ("EPSG:4326", Affine(2e-5, 0, 10, 0, -1e-5, 60), 44.64, 8.91),  # of a degree, 55,802 m and 111,412 m
        ("EPSG:3857", Affine(2.2, 0, 1e6, 0, -2.2, north), 44.11, 8.81),  # as the Earth is no sphere
    ):
        first, second = properties(tmp_path, crs, transform, (45, 35, 40, 8, 0), (45, 35, 40, 8, np.pi / 4))
        assert first["heading"] == pytest.approx(90, abs=0.1)
        assert second["heading"] == pytest.approx(135, abs=0.2)
        assert (first["length"], first["width"]) == pytest.approx((length, width), abs=0.02)
        assert second["length"] == pytest.approx(length, rel=0.002)


def test_a_place_that_is_not_on_the_earth_has_no_heading(tmp_path):
    local = 'LOCAL_CS["a harbour",UNIT["metre",1]]'
    (found,) = properties(tmp_path, local, Affine(2, 0, 100, 0, -2, 100), (45, 35, 40, 8, 0))
    assert found.keys() == {"class", "score", "pixels"}


def test_files_hold_oriented_boxes(tmp_path):
    box = (45.0, 35.0, 40.0, 8.0, np.radians(30))
    scene = open_scene(write_tiff(tmp_path / "scene.tif", None, Affine.identity()))
    written = detection_files.write_all(tmp_path, scene, detections(box))
    (found,) = json.loads(written[0].read_text())["annotations"]
    points = corners(box)
    assert np.reshape(found["segmentation"], (4, 2)) == pytest.approx(points, abs=0.006)
    low, high = points.min(axis=0), points.max(axis=0)
    assert found["bbox"] == pytest.approx([*low, *(high - low)], abs=0.02)
    assert found["area"] == pytest.approx(320)
    header, row = csv.reader(written[1].read_text().splitlines())
    assert header == ["class", "score", "x", "y", "w", "h", "angle"]
    assert row == ["a", "0.9000", "45.00", "35.00", "40.00", "8.00", "30.00"]
    picture = np.asarray(Image.open(written[2]).convert("RGB")).astype(int)
    coloured = maximum_filter(np.ptp(picture, axis=2) > 60, 3)
    for start, end in zip(points, np.roll(points, -1, axis=0), strict=True):
        line = np.linspace(start, end, 20)[3:-3].astype(int)
        assert coloured[line[:, 1], line[:, 0]].mean() > 0.9
    assert not coloured[34:36, 44:46].any()
