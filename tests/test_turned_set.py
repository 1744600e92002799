"""The benchmark that makes oriented boxes by turning images."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from saratrx.errors import InputError


@pytest.fixture
def turned_set(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import turned_set  # noqa: PLC0415 -- found by the line above

    return turned_set


def test_a_bar_turns_with_its_box(turned_set, tmp_path, monkeypatch):
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "ship"}]}
    rng = np.random.default_rng(0)
    for number in range(6):
        x, y, w, h = rng.integers(5, 20, 4).tolist()
        pixels = np.zeros((50, 70), np.uint8)
        pixels[y : y + h, x : x + w] = 200
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        content["images"].append({"id": number, "file_name": f"{number}.png", "width": 70, "height": 50})
        content["annotations"].append({"id": number, "image_id": number, "category_id": 1, "bbox": [x, y, w, h]})
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    words = ["turned_set.py", str(tmp_path / "boxes.json"), str(tmp_path), str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", words)
    turned_set.main()
    found = json.loads((tmp_path / "out/boxes.json").read_text())
    for image, box in zip(found["images"], found["annotations"], strict=True):
        pixels = np.asarray(Image.open(tmp_path / "out/images" / image["file_name"])).astype(float) / 200
        assert pixels.shape == (image["height"], image["width"])
        corners = np.reshape(box["segmentation"], (4, 2))
        inside = np.zeros([8 * side for side in pixels.shape], np.uint8)  # eighths of a pixel
        cv2.fillPoly(inside, [np.rint(8 * corners - 0.5).astype(int)], 1)
        share = inside.reshape(image["height"], 8, image["width"], 8).mean(axis=(1, 3))
        assert np.abs(share - pixels).sum() < 0.12 * pixels.sum()  # bilinear edges
        assert box["bbox"] == pytest.approx([*corners.min(axis=0), *np.ptp(corners, axis=0)])
        along = np.degrees(np.arctan2(*(corners[1] - corners[0])[::-1]))
        assert (along - image["degrees"] + 180) % 360 == pytest.approx(180)
    with pytest.raises(InputError, match="images is there; name a new folder"):
        turned_set.main()
