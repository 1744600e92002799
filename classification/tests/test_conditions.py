"""Accuracy of sub-tests and against angles."""

import math

import numpy as np
import pytest

from dassl.data.datasets import Datum
from hivit_cls import conditions, pictures


def test_an_interval_against_wilsons_formula():
    for correct, images in ((0, 5), (3, 7), (81, 263), (400, 400)):
        found = conditions.measured([True] * correct + [False] * (images - correct))
        share, z = correct / images, 1.959963984540054
        middle = (share + z * z / (2 * images)) / (1 + z * z / images)
        half = z * math.sqrt(share * (1 - share) / images + z * z / (4 * images**2)) / (1 + z * z / images)
        assert found["interval"] == pytest.approx([100 * (middle - half), 100 * (middle + half)], abs=1e-9)
        assert (found["images"], found["correct"]) == (images, correct)
        assert found["accuracy"] == pytest.approx(100 * share)


def test_each_condition_is_a_sub_test():
    items = [Datum(condition=name) for name in ("120", "60", "", "60", "120", "60")]
    found = conditions.sub_tests(items, np.array([1, 1, 1, 0, 1, 1], bool))
    assert {name: (test["correct"], test["images"]) for name, test in found.items()} == {"60": (2, 3), "120": (2, 2)}
    assert list(found) == ["60", "120"]
    assert conditions.sub_tests([Datum()], np.array([True])) == {}


def counts(points):
    return [(*point["degrees"], point["correct"], point["images"]) for point in points]


def test_azimuths_are_taken_together():
    azimuths, hits = [0, 29, 30, 359, 330, 95.5, None], np.array([1, 0, 1, 1, 0, 1, 1], bool)
    items = [Datum(azimuth=azimuth) for azimuth in azimuths]
    found = conditions.by_angle(items, hits)
    assert counts(found["azimuth"]) == [(0, 30, 1, 2), (30, 60, 1, 1), (90, 120, 1, 1), (330, 360, 1, 2)]
    assert list(found) == ["azimuth"]
    narrow = conditions.by_angle([Datum(azimuth=azimuth) for azimuth in (10, 19, 20, 80)], np.ones(4, bool))
    assert counts(narrow["azimuth"]) == [(10, 20, 2, 2), (20, 30, 1, 1), (80, 90, 1, 1)]


def test_each_depression_stands_for_itself():
    items = [Datum(azimuth=5, depression=depression) for depression in (60, 15, 15, 30.5)]
    found = conditions.by_angle(items, np.array([1, 0, 1, 0], bool))
    assert counts(found["depression"]) == [(15, 15, 1, 2), (30.5, 30.5, 0, 1), (60, 60, 1, 1)]
    assert "azimuth" not in found  # one step alone is no curve
    assert conditions.by_angle([], np.zeros(0, bool)) == {}


def test_the_curve_is_drawn(tmp_path):
    rng = np.random.default_rng(0)
    items = [Datum(azimuth=azimuth) for azimuth in rng.choice(np.arange(0, 360, 5), 2000).tolist()]
    hits = rng.random(2000) < 0.5 + 0.4 * np.cos(np.radians([item.azimuth for item in items]))
    points = conditions.by_angle(items, hits)["azimuth"]
    figure = pictures.accuracy_against_angle(points, "azimuth")
    axis, numbers = figure.axes
    line, _, bars = axis.containers[0]
    np.testing.assert_allclose(line.get_xydata(), [(p["degrees"][0] + 15, p["accuracy"]) for p in points])
    ends = [segment[:, 1].tolist() for segment in bars[0].get_segments()]
    np.testing.assert_allclose(ends, [point["interval"] for point in points])
    assert [bar.get_height() for bar in numbers.patches] == [point["images"] for point in points]
    assert axis.get_xlabel() == "azimuth, degrees"
    assert pictures.save(figure, tmp_path / "a.png").std() > 10
