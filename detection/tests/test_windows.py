"""Targets of a scene that is looked at in windows are each found once."""

import json
from itertools import pairwise

import cv2
import numpy as np
import pytest
import shapely.affinity
import torch
from detection_tools import run_here, scene_of
from mmengine.config import Config
from PIL import Image
from random_detector import write_random_detector
from torchvision.ops import batched_nms, box_iou

from hivit_det.scenes import merge as merging
from hivit_det.scenes import windows
from hivit_det.scenes.merge import cut_by_window, merge, overlap, overlap_where_both_see
from hivit_det.scenes.second_look import second_looks
from hivit_det.scenes.windows import SceneDetector, read_ahead, starts
from saratrx.checkpoint import CheckpointError
from saratrx.errors import InputError


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
    scene = scene_of(values)
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
    pairs = [torch.tensor(part).float() for part in (first, first_frames, second, second_frames)]
    i, j = torch.cartesian_prod(torch.arange(8), torch.arange(9)).T
    found = overlap_where_both_see(pairs[0][i], pairs[1][i], pairs[2][j], pairs[3][j]).reshape(8, 9)
    for i, j in np.ndindex(8, 9):
        both = mask(first_frames[i]) & mask(second_frames[j])
        a, b = mask(first[i]) & both, mask(second[j]) & both
        expected = (a & b).sum() / max(1, (a | b).sum())
        assert found[i, j] == pytest.approx(expected)
    assert 0 < (found > 0).sum() < found.numel()


LEFT, RIGHT = (0, 0, 100, 100), (60, 0, 160, 100)  # two windows that share 40 px
SCENE = (160, 100)


def tensors(*targets):
    """Boxes, scores, labels and windows of (box, score, label, window)."""
    boxes, scores, labels, frames = zip(*targets, strict=True)
    return torch.tensor(boxes).float(), torch.tensor(scores), torch.tensor(labels), torch.tensor(frames).float()


def merged(*targets, nms=0.5, how="union"):
    """What is left of them."""
    return merge(*tensors(*targets), SCENE, nms, how).tolist()


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
    left, right = ((30, 20, 100, 60), 0.9, 0, LEFT), ((60, 20, 155, 60), 0.5, 1, RIGHT)
    for how, box in (("union", [30, 20, 155, 60]), ("best", [60, 20, 155, 60])):
        assert merged(left, right, how=how) == [1]
        boxes, *rest = tensors(left, right)
        assert boxes[merge(boxes, *rest, SCENE, 0.5, how)].tolist() == [box]
    beside = ((60, 55, 155, 95), 0.5, 0, RIGHT)  # another target's piece
    assert merged(left, beside) == [0, 1]


def seen_of(truth, size, window=1024, overlap=256):
    """What windows show of a target: boxes, scores, labels, windows."""
    found = []
    for top in starts(size[1], window, overlap):
        for left in starts(size[0], window, overlap):
            frame = (left, top, left + window, top + window)
            low, high = np.maximum(truth[:2], frame[:2]), np.minimum(truth[2:], frame[2:])
            if (high - low > 2).all():
                found.append(((*low, *high), 0.9, 0, frame))
    return tensors(*found)


@pytest.mark.parametrize(
    "truth",
    [(500, 500, 1100, 560), (100, 500, 3100, 560), (0, 500, 4000, 560), (900, 200, 2500, 1800), (700, 700, 1100, 1100)],
)
def test_a_target_longer_than_the_overlap_comes_back_whole(truth):
    boxes, *rest = seen_of(truth, (4000, 2000))
    assert len(boxes) > 1
    assert boxes[merge(boxes, *rest, (4000, 2000), 0.5)].tolist() == [list(truth)]
    boxes, *rest = seen_of(truth, (4000, 2000))
    kept = boxes[merge(boxes, *rest, (4000, 2000), 0.5, "best")]
    assert all(
        (box[:2] >= torch.tensor(truth[:2])).all() and (box[2:] <= torch.tensor(truth[2:])).all() for box in kept
    )
    assert len(kept) > 1 or kept.tolist() != [list(truth)]


def diagonal_bar(rng, longest):
    """Draw a bar somewhere in 4000 x 3000 px, in any direction but along the sides: polygon, length, width, degrees."""
    while True:
        length = np.exp(rng.uniform(np.log(300), np.log(longest)))
        width, degrees = length / rng.uniform(4, 20), rng.choice([-1, 1]) * rng.uniform(8, 82)
        bar = placed(rng.uniform(0, 4000), rng.uniform(0, 3000), length, width, degrees)
        if shapely.within(bar, shapely.box(0, 0, 4000, 3000)):
            return bar, length, width, degrees


def placed(x, y, length, width, degrees):
    """Give the polygon of a bar around a point."""
    flat = shapely.box(x - length / 2, y - width / 2, x + length / 2, y + width / 2)
    return shapely.affinity.rotate(flat, degrees)


def found_in_windows(*bars):
    """Merge what an exact detector sees of bars in all windows: boxes [N, 4]."""
    found = []
    for top in starts(3000, 1024, 256):
        for left in starts(4000, 1024, 256):
            frame = (left, top, left + 1024, top + 1024)
            for bar in bars:
                x1, y1, x2, y2 = shapely.bounds(shapely.intersection(bar, shapely.box(*frame)))
                if min(x2 - x1, y2 - y1) > 3:
                    found.append(((x1, y1, x2, y2), 0.9, 0, frame))
    boxes, *rest = tensors(*found)
    return boxes[merge(boxes, *rest, (4000, 3000), 0.5)]


def test_diagonal_targets_come_back_whole():
    rng = np.random.default_rng(0)
    right = 0
    for _ in range(60):
        bar, *_ = diagonal_bar(rng, longest=2500)
        boxes = found_in_windows(bar)
        right += len(boxes) == 1 and torch.allclose(boxes[0], torch.tensor(bar.bounds).float(), atol=1)
    assert right >= 59


def test_parallel_diagonal_targets_stay_apart():
    rng = np.random.default_rng(1)
    joined, right, pairs = 0, 0, 0
    while pairs < 60:
        bar, length, width, degrees = diagonal_bar(rng, longest=1500)
        beside, along = width * (1 + rng.uniform(0.3, 3)), length * rng.uniform(-0.3, 0.3)
        cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        other = shapely.affinity.translate(bar, along * cos - beside * sin, along * sin + beside * cos)
        truth = torch.tensor([bar.bounds, other.bounds]).float()
        is_inside = shapely.within(other, shapely.box(0, 0, 4000, 3000))
        if not is_inside or box_iou(truth, truth)[0, 1] > 0.5:  # boxes that alike are one target, cut or not
            continue
        boxes = found_in_windows(bar, other)
        low, high = boxes[:, None, :2] > truth[:, :2] - 5, boxes[:, None, 2:] < truth[:, 2:] + 5
        joined += not (low & high).all(dim=2).any(dim=1).all()  # a box that reaches out of both
        right += len(boxes) == 2 and box_iou(truth, boxes).amax(dim=1).min() > 0.95
        pairs += 1
    assert joined <= 1
    assert right >= 56


def test_boxes_that_no_window_cuts_are_merged_as_torchvision_does():
    torch.manual_seed(0)
    low = torch.rand(400, 2) * 300
    boxes, scores, labels = (
        torch.cat([low, low + torch.rand(400, 2) * 80 + 5], dim=1),
        torch.rand(400),
        torch.arange(400) % 3,
    )
    frames = torch.tensor([0.0, 0, 400, 400]).expand(400, 4)
    expected = batched_nms(boxes, scores, labels, 0.3).tolist()
    assert merge(boxes, scores, labels, frames, (400, 400), 0.3).tolist() == expected
    assert 50 < len(expected) < 350


def test_merging_compares_boxes_that_touch_alone(monkeypatch):
    compared = []

    def counted(first, second):
        compared.append(len(first))
        return overlap(first, second)

    monkeypatch.setattr(merging, "overlap", counted)
    counts = []
    for side in (5, 10):
        torch.manual_seed(0)
        corner = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"), dim=2).reshape(
            -1, 2
        )
        low = torch.rand(len(corner), 50, 2) * 964 + 20
        start = (corner * 768)[:, None].expand(-1, 50, -1)
        boxes = torch.cat([low + start, low + start + torch.rand(low.shape) * 30 + 10], dim=2).reshape(-1, 4)
        frames = torch.cat([start, start + 1024], dim=2).reshape(-1, 4).float()
        compared.clear()
        labels = torch.zeros(len(boxes), dtype=torch.int64)
        merge(boxes, torch.rand(len(boxes)), labels, frames, (768 * side + 256,) * 2, 0.5)
        counts.append(sum(compared))
    assert counts[0] > 0
    assert counts[1] < 6 * counts[0]  # four times as many boxes
    assert counts[1] < 20 * 50 * 100


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
@pytest.mark.parametrize("at_once", [7, 20_000])
def test_every_target_is_found_once(monkeypatch, window, overlap, batch, at_once):
    monkeypatch.setattr(merging, "BOXES_AT_ONCE", at_once)
    rng = np.random.default_rng(2)
    values = rng.integers(0, 90, (470, 610), dtype=np.uint8)
    expected = set()
    for top in range(0, 450, 45):
        for left in range(0, 590, 45):
            x, y = left + int(rng.integers(0, 16)), top + int(rng.integers(0, 16))
            if rng.random() < 0.7:
                values[y : y + 28, x : x + 28] = 250
                expected.add((x, y, min(x + 28, 610), min(y + 28, 470)))
    found = BrightSquares(28).detect(scene_of(values), window, overlap, batch)
    boxes = sorted(tuple(map(int, box)) for box in found.boxes.tolist())
    inside = {box for box in expected if box[2] - box[0] == box[3] - box[1] == 28}
    assert len(expected) > 50
    assert boxes == sorted(expected)
    assert {tuple(map(int, box)) for box in found.of_classes(["square"]).boxes.tolist()} == inside


class BrightShapes(BrightSquares):
    """Finds any bright shape as far as a window shows it, and notes the windows."""

    classes = ("shape",)

    def __init__(self):
        self.side, self.device, self.corners = 0, torch.device("cpu"), []

    def detect_in_windows(self, scene, windows, score):
        self.corners += [corner for corner, _ in windows]
        return super().detect_in_windows(scene, windows, score)


def scene_with(*shapes, size=(900, 700)):
    """A dark scene with bright polygons, and the boxes around these."""
    values = np.full((size[1], size[0]), 9, np.uint8)
    values[::50, ::50] = 30  # no window is blank
    for shape in shapes:
        cv2.fillPoly(values, [np.array(shape)], 250)
    boxes = [[*np.min(shape, axis=0), *(np.max(shape, axis=0) + 1)] for shape in shapes]
    return scene_of(values), sorted(tuple(map(int, box)) for box in boxes)


def bent(x, y, side=100):
    """A target that is neither a box nor a bar: pieces of it do not tell how far it reaches."""
    return [(x, y), (x + side, y), (x + side, y + 9), (x + 9, y + 9), (x + 9, y + side), (x, y + side)]


def test_targets_longer_than_the_overlap_are_looked_at_again_whole():
    shapes = [bent(200, 190), bent(440, 30), [(700, 600), (706, 600), (890, 480), (884, 480)]]
    small = [(x, y, 12) for x in range(20, 180, 60) for y in range(20, 660, 60)]
    shapes += [[(x, y), (x + side, y), (x + side, y + side), (x, y + side)] for x, y, side in small]
    scene, expected = scene_with(*shapes)
    detector = BrightShapes()
    found = detector.detect(scene, window=256)  # which share 32 px
    first = windows.corners(scene, 256, None, None)
    assert sorted(tuple(map(int, box)) for box in found.boxes.tolist()) == expected
    assert detector.corners[: len(first)] == first
    assert 1 <= len(detector.corners) - len(first) <= 3
    assert len(set(detector.corners)) == len(detector.corners)


def test_a_second_look_is_for_those_that_need_one():
    """Neither for small targets, nor for those larger than a window, whose pieces are joined."""
    small, expected = scene_with(*[bent(x, y, 30) for x in range(5, 850, 67) for y in range(5, 650, 67)])
    detector = BrightShapes()
    found = detector.detect(small, window=256)
    assert sorted(tuple(map(int, box)) for box in found.boxes.tolist()) == expected
    assert detector.corners == windows.corners(small, 256, None, None)
    large, expected = scene_with([(100, 300), (800, 300), (800, 340), (100, 340)])
    detector = BrightShapes()
    found = detector.detect(large, window=256)
    assert [tuple(map(int, box)) for box in found.boxes.tolist()] == expected
    assert detector.corners == windows.corners(large, 256, None, None)


def test_one_window_goes_around_several_targets():
    targets = torch.tensor([[200.0, 100, 260, 140], [150.0, 150, 240, 190], [700, 100, 790, 180]])
    small, large = torch.tensor([[300.0, 300, 330, 320]]), torch.tensor([[300.0, 300, 520, 320]])
    places = second_looks(torch.cat([targets, small, large]), (224, 224), 32, (800, 600))
    assert len(places) == 2
    assert all(0 <= left <= 800 - 224 and 0 <= top <= 600 - 224 for left, top in places)
    frames = torch.tensor([(left, top, left + 224, top + 224) for left, top in places])
    assert all(((box[:2] >= frames[:, :2]) & (box[2:] <= frames[:, 2:])).all(dim=1).any() for box in targets)
    assert second_looks(torch.empty(0, 4), (224, 224), 32, (800, 600)) == []


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return write_random_detector(tmp_path_factory.mktemp("detector"))


def test_the_number_of_windows_at_once_changes_nothing(trained):
    values = np.random.default_rng(3).gamma(1.0, 40.0, (150, 210)).clip(0, 255).astype(np.uint8)
    scene = scene_of(values)
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


def test_the_command_writes_all_files_and_refuses_in_one_sentence(trained, tmp_path, monkeypatch):
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
    assert done.stdout.splitlines()[-1] == "wrote found; next: look at found/scene_targets.jpg"
    (tmp_path / "torn.tif").write_bytes(b"II*\0")
    cases = {
        "--classes tank: the config has vehicle, ship": [*start, "--classes", "tank"],
        "--device cuda:99: ": [*start, "--device", "cuda:99"],
        "torn.tif cannot be read as an image": [*start, "torn.tif"],  # before anything is written
        f"--window 1 --overlap 0: {start[2]} would have 31,500 windows, above 30,000": [*start, "--window", 1],
        "--window 200 --batch 1000: 30,000,000 pixels of ": [*start, "--window", 200, "--batch", 1000],
        f"{tmp_path}/taken/scene_targets.csv is a folder": [*start, "--output_dir", tmp_path / "taken"],
    }
    (tmp_path / "taken/scene_targets.csv").mkdir(parents=True)
    monkeypatch.setattr(windows, "MAX_WINDOWS", 30_000)
    monkeypatch.setenv("SARATRX_MAX_PIXELS", str(10**7))
    for sentence, arguments in cases.items():
        done = run_here("huge_image_infer.py", *arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: {sentence}")
        assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("detections/*"))


def test_a_config_and_its_heads_must_fit(trained, tmp_path):
    text = (trained / "small.py").read_text()
    (tmp_path / "five.py").write_text(f"{text}\nmodel['roi_head']['bbox_head']['num_classes'] = 5\n")
    (tmp_path / "other.py").write_text(f"{text}\nmodel['type'] = 'NothingLikeIt'\n")
    for name, sentence in (
        ("five", "num_classes is 5, and the data set has 2 classes"),
        ("other", "cannot be built: "),
    ):
        with pytest.raises(InputError, match=sentence):
            SceneDetector(Config.fromfile(tmp_path / f"{name}.py"), trained / "small.pth", "cpu")
