"""The picture of found targets beside the truth, `example/fig_found.py`."""

import json

import numpy as np
import pytest
from PIL import Image
from shapely import box

from fig_found import HIT, Boxes, Options, draw, match, overlaps, read_found, read_truth
from saratrx.errors import InputError


def test_overlaps_are_those_of_polygons():
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 50, (2, 20, 2))
    first, second = np.concatenate([low, low + rng.uniform(1, 30, (2, 20, 2))], axis=2)
    expected = [[box(*a).intersection(box(*b)).area / box(*a).union(box(*b)).area for b in second] for a in first]
    np.testing.assert_allclose(overlaps(first, second), expected)


def test_each_target_is_found_once_by_a_box_of_its_class():
    truth = Boxes(np.array([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10.0]]), ["ship", "ship", "tank"])
    found = Boxes(
        np.array([[0, 0, 10, 11], [1, 0, 10, 10], [40, 0, 50, 10], [24, 0, 36, 10.0]]), ["ship", "ship", "ship", "ship"]
    )
    is_found, is_hit = match(truth, found)
    assert is_found.tolist() == [True, False, False]
    assert is_hit.tolist() == [True, False, False, False]
    none = Boxes(np.zeros((0, 4)), [])
    assert match(none, found)[1].tolist() == [False] * 4
    assert match(truth, none)[0].tolist() == [False] * 3


@pytest.fixture
def scene(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "found").mkdir()
    Image.fromarray(np.zeros((60, 60), np.uint8)).save(tmp_path / "images/a.png")
    content = {
        "images": [{"id": 7, "file_name": "a.png"}, {"id": 8, "file_name": "b.png"}],
        "categories": [{"id": 1, "name": "ship"}],
        "annotations": [{"image_id": 7, "category_id": 1, "bbox": [10, 10, 20, 10]}],
    }
    (tmp_path / "truth.json").write_text(json.dumps(content))
    rows = "class,score,x1,y1,x2,y2\nship,0.2,0,0,5,5\nship,0.5,40,40,50,50\nship,0.9,10,11,30,20\n"
    (tmp_path / "found/a_targets.csv").write_text(rows)
    return tmp_path


def test_counts_and_boxes_of_a_scene(scene):
    options = Options(scene / "truth.json", scene / "images", (scene / "found",), ("mine",), scene / "out.png")
    truth = read_truth(options.truth)
    assert truth["a"].corners.tolist() == [[10, 10, 30, 20]]
    figure, said = draw(options, ["a"], truth)
    assert said == ["mine: 1 of 1 targets found, 1 false alarms"]  # the one of 0.2 is below the score
    assert [patch.get_edgecolor()[:3] for patch in figure.axes[1].patches] == [
        pytest.approx([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]) for colour in (HIT, "#E69F00")
    ]
    figure.savefig(options.output)


@pytest.mark.parametrize("content", ["", "class,score\nship,0.5\n", "class,score,x1,y1,x2,y2\nship,high,1,1,2,2\n"])
def test_other_files_are_refused(scene, content):
    path = scene / "found/a_targets.csv"
    path.write_text(content)
    if content:
        with pytest.raises(InputError, match=r"a_targets.csv cannot be read as found targets"):
            read_found(path, 0.3)
    else:
        assert read_found(path, 0.3).classes == []
    (scene / "truth.json").write_text('{"images": []}')
    with pytest.raises(InputError, match=r"truth.json cannot be read as COCO annotations: 'categories'"):
        read_truth(scene / "truth.json")
