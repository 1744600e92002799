"""Targets of a scene that is looked at in windows are each found once."""

import json
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detection_tools import MICRO, STAGE, run_here
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image
from torchvision.ops import box_iou

from hivit_det.scenes import merge as merging
from hivit_det.scenes.merge import cut_by_window, merge, overlap_where_both_see
from hivit_det.scenes.scene import ArrayScene
from hivit_det.scenes.windows import SceneDetector, read_ahead, starts
from saratrx.checkpoint import CheckpointError
from saratrx.errors import InputError

CONFIG = STAGE / "configs/_hivit_/hivit_tiny_simulated.py"


@pytest.mark.parametrize(
    ("length", "window", "overlap"), [(100, 100, 50), (99, 100, 0), (101, 100, 50), (1000, 64, 13)]
)
def test_windows_cover_a_side_to_its_end(length, window, overlap):
    found = starts(length, window, overlap)
    seen = np.zeros(length, int)
    for start in found:
        seen[start : start + window] += 1
    assert seen.min() >= 1
    assert found[-1] == max(0, length - window)
    assert all(0 < after - before <= window - overlap for before, after in pairwise(found))
    shortest = np.ceil(max(0, length - window) / (window - overlap)) + 1
    assert len(found) == shortest


def test_an_overlap_of_a_whole_window_is_refused():
    with pytest.raises(InputError, match="--overlap 64: must be from 0 to less than --window 64"):
        starts(100, 64, 64)


def test_windows_come_in_order_and_blank_ones_not_at_all():
    values = np.random.default_rng(0).integers(0, 255, (64, 96), dtype=np.uint8)
    values[:, 32:64] = 7
    scene = ArrayScene(Path("scene"), values)
    places = [(left, top) for top in starts(64, 32, 0) for left in starts(96, 32, 0)]
    batches = list(read_ahead(scene, places, (32, 32), batch=4))
    assert [(len(batch), count) for batch, count in batches] == [(3, 4), (1, 2)]
    windows = [window for batch, _ in batches for window in batch]
    assert [corner for corner, _ in windows] == [(0, 0), (64, 0), (0, 32), (64, 32)]
    for (left, top), image in windows:
        assert np.array_equal(image, values[top : top + 32, left : left + 32])


def test_overlap_where_both_see_equals_counted_pixels():
    rng = np.random.default_rng(1)

    def boxes(count, least):
        corners = rng.integers(0, 30, (count, 2))
        return np.concatenate([corners, corners + rng.integers(least, 25, (count, 2))], axis=1)

    def mask(box):
        pixels = np.zeros((60, 60), bool)
        pixels[box[1] : box[3], box[0] : box[2]] = True
        return pixels

    first, first_frames, second, second_frames = boxes(8, 1), boxes(8, 10), boxes(9, 1), boxes(9, 10)
    found = overlap_where_both_see(
        *(torch.tensor(part).float() for part in (first, first_frames, second, second_frames))
    )
    for i, j in np.ndindex(8, 9):
        both = mask(first_frames[i]) & mask(second_frames[j])
        a, b = mask(first[i]) & both, mask(second[j]) & both
        expected = (a & b).sum() / max(1, (a | b).sum())
        assert found[i, j] == pytest.approx(expected)
    assert 0 < (found > 0).sum() < found.numel()


LEFT, RIGHT = (0, 0, 100, 100), (60, 0, 160, 100)  # two windows that share 40 px
SCENE = (160, 100)


def merged(*targets, nms=0.5):
    """What is left of (box, score, label, window)."""
    boxes, scores, labels, frames = zip(*targets, strict=True)
    parts = (torch.tensor(boxes).float(), torch.tensor(scores), torch.tensor(labels), torch.tensor(frames).float())
    return merge(*parts, SCENE, nms).tolist()


def test_a_target_seen_whole_in_the_neighbour_wins():
    whole = ((80, 40, 120, 60), 0.4, 0, RIGHT)
    cut = ((80, 40, 100, 60), 0.9, 0, LEFT)
    mistaken = ((79, 41, 99.5, 60), 0.95, 1, LEFT)  # a part of a target looks like another class
    assert merged(cut, whole, mistaken) == [1]
    assert merged(cut) == [0]  # nobody else has seen it
    unsure = ((78, 40, 98, 60), 0.3, 1, LEFT)  # of the same window, and not cut: the detector itself has left both
    assert merged(cut, unsure) == [0, 1]
    elsewhere = ((80, 10, 120, 30), 0.4, 0, RIGHT)
    assert merged(cut, elsewhere) == [0, 1]


def test_a_small_target_inside_a_large_one_stays():
    harbour, ship = ((62, 10, 150, 90), 0.8, 1, RIGHT), ((90, 40, 100, 50), 0.7, 0, LEFT)
    assert merged(harbour, ship) == [0, 1]


def test_of_two_parts_of_a_target_the_larger_stays():
    left, right = ((30, 20, 100, 60), 0.9, 0, LEFT), ((60, 20, 155, 60), 0.5, 0, RIGHT)
    assert merged(left, right) == [1]


def test_whole_targets_are_merged_by_class():
    first, again, other = (
        ((65, 20, 90, 40), 0.6, 0, LEFT),
        ((66, 20, 91, 40), 0.8, 0, RIGHT),
        ((65, 20, 90, 40), 0.7, 1, LEFT),
    )
    assert merged(first, again, other) == [1, 2]
    assert merged(first, again, other, nms=0.99) == [1, 2, 0]


def test_the_edge_of_the_scene_cuts_nothing_off():
    boxes = torch.tensor(
        [[0.0, 0, 20, 20], [130, 70, 160, 100], [130, 70, 159, 100], [60, 30, 70, 40], [80, 0, 99.5, 9]]
    )
    frames = torch.tensor([LEFT, RIGHT, RIGHT, RIGHT, LEFT]).float()
    assert cut_by_window(boxes, frames, SCENE).tolist() == [False, False, False, True, True]


class BrightSquares(SceneDetector):
    """Finds bright squares exactly, as far as a window shows them; those that are cut, as another class."""

    classes = ("square", "part")

    def __init__(self, side):
        self.side, self.device = side, torch.device("cpu")

    def detect_in_windows(self, scene, windows, score):
        found = []
        for (left, top), image in windows:
            _, _, stats, _ = cv2.connectedComponentsWithStats((image > 200).astype(np.uint8))
            stats = torch.tensor(stats[1:, :4])
            boxes = torch.cat([stats[:, :2], stats[:, :2] + stats[:, 2:]], dim=1) + torch.tensor([left, top, left, top])
            labels = (stats[:, 2:] < self.side).any(dim=1).long()
            height, width = image.shape
            frame = torch.tensor([left, top, left + width, top + height]).expand(len(boxes), 4)
            found.append((boxes.float(), torch.full((len(boxes),), 0.9), labels, frame.float()))
        return found


@pytest.mark.parametrize(("window", "overlap", "batch"), [(128, 40, 3), (200, 31, 1), (64, 33, 50), (2000, 100, 8)])
@pytest.mark.parametrize("pairs", [1, 500_000])
def test_every_target_is_found_once(monkeypatch, window, overlap, batch, pairs):
    monkeypatch.setattr(merging, "PAIRS_AT_ONCE", pairs)
    rng = np.random.default_rng(2)
    values = rng.integers(0, 90, (470, 610), dtype=np.uint8)
    expected = set()
    for top in range(0, 450, 45):
        for left in range(0, 590, 45):
            x, y = left + int(rng.integers(0, 16)), top + int(rng.integers(0, 16))
            if rng.random() < 0.7:
                values[y : y + 28, x : x + 28] = 250
                expected.add((x, y, min(x + 28, 610), min(y + 28, 470)))
    found = BrightSquares(28).detect(ArrayScene(Path("scene"), values), window, overlap, batch)
    boxes = sorted(tuple(map(int, box)) for box in found.boxes.tolist())
    inside = {box for box in expected if box[2] - box[0] == box[3] - box[1] == 28}
    assert len(expected) > 50
    assert boxes == sorted(expected)
    assert {tuple(map(int, box)) for box in found.of_classes(["square"]).boxes.tolist()} == inside


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A config and a checkpoint of random weights."""
    folder = tmp_path_factory.mktemp("detector")
    init_default_scope("mmdet")
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict(MICRO)
    cfg.dump(folder / "small.py")
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    for parameter in model.roi_head.bbox_head.fc_cls.parameters():
        torch.nn.init.normal_(parameter)  # so that scores differ
    torch.save({"state_dict": model.state_dict(), "meta": {}}, folder / "small.pth")
    return folder


def test_the_number_of_windows_at_once_changes_nothing(trained):
    values = np.random.default_rng(3).gamma(1.0, 40.0, (150, 210)).clip(0, 255).astype(np.uint8)
    scene = ArrayScene(Path("scene"), values)
    detector = SceneDetector(Config.fromfile(trained / "small.py"), trained / "small.pth", "cpu")
    one, eight = (detector.detect(scene, 96, 32, batch, score=0.2) for batch in (1, 8))
    assert len(one) == len(eight) > 10
    overlaps = box_iou(one.boxes, eight.boxes) * (one.labels[:, None] == eight.labels[None])
    partner = overlaps.argmax(dim=1)
    assert sorted(partner.tolist()) == list(range(len(one)))
    assert (one.boxes - eight.boxes[partner]).abs().max() < 1
    assert (one.scores - eight.scores[partner]).abs().max() < 0.01
    assert one.scores.min() >= 0.2
    assert (one.boxes[:, 2:] <= torch.tensor([210, 150])).all()
    assert one.classes == ("vehicle", "ship")


def test_a_checkpoint_of_another_detector_is_refused(trained, tmp_path):
    weights = torch.load(trained / "small.pth", weights_only=True)["state_dict"]
    del weights["neck.fpn_convs.0.conv.weight"]
    torch.save({"state_dict": weights}, tmp_path / "less.pth")
    with pytest.raises(
        CheckpointError, match=r"less.pth does not fit this model: it lacks neck.fpn_convs.0.conv.weight"
    ):
        SceneDetector(Config.fromfile(trained / "small.py"), tmp_path / "less.pth", "cpu")


def test_the_command_writes_all_files_and_refuses_in_one_sentence(trained, tmp_path):
    values = np.random.default_rng(3).gamma(1.0, 40.0, (150, 210)).clip(0, 255).astype(np.uint8)
    Image.fromarray(values).save(tmp_path / "scene.png")
    start = [trained / "small.py", trained / "small.pth", tmp_path / "scene.png"]
    small = ["--window", 96, "--overlap", 32, "--score", 0.2]
    words = [*start, *small, "--classes", "ship", "--output_dir", "found"]
    done = run_here("huge_image_infer.py", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    content = json.loads((tmp_path / "found/scene_targets.json").read_text())
    assert {box["category_id"] for box in content["annotations"]} == {2}
    assert f"scene.png: ship {len(content['annotations'])}; wrote" in done.stdout
    cases = {
        "--overlap 96: must be from 0 to less than --window 96": [*start, "--window", 96, "--overlap", 96],
        "--window 0: must be at least 1": [*start, "--window", 0],
        "--batch 0: must be at least 1": [*start, "--batch", 0],
        "--classes tank: the config has vehicle, ship": [*start, "--classes", "tank"],
        "--device cuda:99: ": [*start, "--device", "cuda:99"],
        f"--output_dir {tmp_path / 'scene.png'} cannot be made: ": [*start, "--output_dir", tmp_path / "scene.png"],
        "scene: several scenes have this name": [*start, tmp_path / "scene.tif"],
        "absent.tif: no such file": [*start[:2], "absent.tif"],
        "absent.pth: no such file": [start[0], "absent.pth", start[2]],
        "absent.py: no such file": ["absent.py", *start[1:]],
    }
    for sentence, arguments in cases.items():
        done = run_here("huge_image_infer.py", *arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: {sentence}")
        assert done.stderr.count("\n") == 1
