"""What is looked for in merged sets: images that are nearly the same, boxes twice, grey levels, and the figure."""

import io
import json

import numpy as np
import pytest
from detection_tools import run_here
from PIL import Image
from scipy.stats import spearmanr
from small_detector import write_small_detector

from coco_annotations import coco_check, likeness


def scene(seed, side=256):
    """Speckle on a smooth ground, with a bright target in the middle, as all have it."""
    rng = np.random.default_rng(seed)
    ground = np.kron(rng.gamma(4.0, 10.0, (8, 8)), np.ones((side // 8, side // 8)))
    image = (ground * rng.exponential(1.0, (side, side))).clip(0, 255)
    image[side // 2 - 9 : side // 2 + 9, side // 2 - 9 : side // 2 + 9] = 255
    return image.astype(np.uint8)


def saved_anew(pixels, side):
    content = io.BytesIO()
    Image.fromarray(pixels).resize((side, side)).save(content, "JPEG", quality=60)
    return np.asarray(Image.open(content))


def test_ranks_give_spearmans_correlation():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 9, (2, 50)).astype(np.float32)  # many are equal
    expected = spearmanr(first, second).statistic
    assert float(likeness.ranks(first) @ likeness.ranks(second)) == pytest.approx(expected, abs=1e-6)
    assert not likeness.ranks(np.ones(9, np.float32)).any()


def test_copies_are_found_and_others_are_not(monkeypatch):
    images = [scene(seed) for seed in range(12)]
    images += [saved_anew(images[3], 200), np.clip(images[5] * 1.7, 0, 255).astype(np.uint8)]
    sketches = [likeness.sketch(image) for image in images]
    assert sorted(likeness.candidates(sketches)) == [(3, 12), (5, 13)]
    monkeypatch.setattr(likeness, "ROWS", 5)
    assert sorted(likeness.candidates(sketches)) == [(3, 12), (5, 13)]
    assert likeness.likeness(images[3], images[12]) > likeness.SAME
    assert likeness.likeness(images[3], images[4]) < 0.5
    assert list(likeness.candidates([])) == []


def test_tiles_that_are_black_alike_are_not_alike():
    first, second = scene(0), scene(1)
    for image in (first, second):
        image[:, 30:] = 0
    assert likeness.likeness(first, second) < 0.5
    first[:, 10:] = 0
    assert likeness.likeness(first, first) == 0  # too little is left to tell


def write_set(root, parts, size=256, **facts):
    """Write images [H, W] and annotation files: part -> name -> pixels, each with a box in its middle."""
    for part, images in parts.items():
        (root / f"images/{part}").mkdir(parents=True)
        content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "ship"}]}
        for number, (name, pixels) in enumerate(images.items(), 1):
            Image.fromarray(pixels).save(root / f"images/{part}/{name}")
            size = {"width": pixels.shape[1], "height": pixels.shape[0]}
            content["images"].append({"id": number, "file_name": name, **size, **facts.get(name.partition(".")[0], {})})
            box = {"id": number, "image_id": number, "category_id": 1, "bbox": [9, 9, 20, 12], "area": 240}
            content["annotations"].append(box | {"iscrowd": 0})
        (root / "annotations").mkdir(exist_ok=True)
        (root / f"annotations/{part}.json").write_text(json.dumps(content))
    return root


def findings(root, kind, **options):
    files, _ = coco_check.find(root)
    coco_check.check(files, **options)
    return {file.name.removeprefix("annotations/"): file.findings[kind] for file in files}


def test_near_copies_across_files_are_told_and_equal_ones_are_not_told_twice(tmp_path):
    first, second = scene(0), scene(1)
    test = {"c.png": saved_anew(first, 192), "d.png": second, "e.png": scene(2)}
    root = write_set(tmp_path, {"train": {"a.png": first, "b.png": second}, "test": test})
    found = findings(root, coco_check.NEARLY)
    (line,) = [*found["train.json"], *found["test.json"]]
    assert line.startswith("a.png is like c.png of annotations/test.json, rank correlation 0.9")
    assert findings(root, coco_check.SHARED)["train.json"] == ["b.png is d.png of annotations/test.json"]


BOXES = {  # further boxes beside [9, 9, 20, 12], and how many stand twice
    "the same": ([[9, 9, 20, 12]], 1),
    "thrice": ([[9, 9, 20, 12], [9, 9, 20, 12]], 2),
    "nearly": ([[9.2, 9, 20, 12]], 1),  # IoU 0.98
    "beside": ([[10, 9, 20, 12]], 0),  # 0.905
    "without area": ([[9, 9, 0, 0], [9, 9, 0, 0]], 0),
}


@pytest.mark.parametrize("name", BOXES)
def test_boxes_that_stand_twice(tmp_path, name):
    root = write_set(tmp_path, {"train": {"a.png": scene(0, 64), "b.png": scene(1, 64)}})
    path = root / "annotations/train.json"
    content = json.loads(path.read_text())
    more, expected = BOXES[name]
    content["annotations"] += [content["annotations"][0] | {"id": 10 + k, "bbox": box} for k, box in enumerate(more)]
    path.write_text(json.dumps(content))
    lines = findings(root, coco_check.DOUBLED)["train.json"]
    assert len(lines) == expected
    assert all(line.endswith("of image 1, a.png: is annotation 1") for line in lines)


def test_overlap_by_counting_pixels():
    rng = np.random.default_rng(0)
    boxes = np.concatenate([rng.integers(0, 20, (30, 2)), rng.integers(1, 20, (30, 2))], axis=1)
    masks = np.zeros((30, 40, 40), bool)
    for mask, (x, y, width, height) in zip(masks, boxes, strict=True):
        mask[y : y + height, x : x + width] = True
    expected = [(masks[0] & mask).sum() / (masks[0] | mask).sum() for mask in masks]
    np.testing.assert_allclose(coco_check.overlaps(boxes[0].astype(float), boxes.astype(float)), expected)


def test_grey_levels_of_files_and_sources(tmp_path):
    dark, bright = (np.random.default_rng(0).integers(low, low + 20, (64, 48), np.uint8) for low in (10, 200))
    images = {"a.png": dark, "b.png": dark[::-1], "c.png": dark[:, ::-1], "d.png": bright[:32]}
    sources = {"a": {"source": "X"}, "b": {"source": "X"}, "c": {"source": "X"}, "d": {"source": "Y"}}
    root = write_set(tmp_path, {"train": images}, **sources)
    (file,), _ = coco_check.find(root)
    coco_check.check([file])
    pixels = np.concatenate([image.ravel() for image in images.values()]).astype(float)
    assert file.grey == pytest.approx((pixels.mean(), pixels.std()))
    (line,) = file.findings[coco_check.GREY]
    assert line == (
        f"source Y: mean {bright[:32].mean():.0f}, deviation {bright[:32].std():.0f}; "
        f"all images: mean {pixels.mean():.0f}, deviation {pixels.std():.0f}"
    )


@pytest.mark.parametrize(
    ("normalisation", "count"),
    [(None, 0), ((0, 255), 0), ((0, 1), 0), ((40, 20), 0), ((123.7, 58.4), 1), ((20, 200), 1), ((20, 1), 1)],
)
def test_a_config_normalises_by_the_levels_that_there_are(tmp_path, normalisation, count):
    image = np.random.default_rng(0).normal(40, 15, (64, 64)).clip(0, 255).round().astype(np.uint8)
    root = write_set(tmp_path, {"train": {"a.png": image}})
    lines = findings(root, coco_check.GREY, normalisation=normalisation)["train.json"]
    assert len(lines) == count
    assert all("mean 40, deviation 15; the config normalises by the mean" in line for line in lines)


def test_the_figure_and_the_config_of_the_tool(tmp_path):
    base, config = write_small_detector(tmp_path, images=2), tmp_path / "other.py"
    config.write_text(f'_base_ = "{base}"\nmodel = dict(data_preprocessor=dict(mean=[123.7] * 3, std=[9.0] * 3))\n')
    words = [tmp_path / "boxes.json", "--config", config, "--figure", tmp_path / "sizes.png"]
    done = run_here("tools/check_coco.py", *words)
    assert f"wrote {tmp_path}/sizes.png" in done.stdout, done.stderr
    assert "the config normalises by the mean 123.7 and the deviation 9" in done.stdout
    assert Image.open(tmp_path / "sizes.png").size == (1100, 700)
    done = run_here("tools/check_coco.py", tmp_path, "--figure", tmp_path / "sizes.jpg")
    assert (done.returncode, "must be a file that ends in .png" in done.stderr) == (2, True)
