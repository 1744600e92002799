"""What `benchmarks/targets.py` sums up, and the networks that it compares with."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import t

from saratrx.errors import InputError


@pytest.fixture
def targets(monkeypatch, request):
    monkeypatch.syspath_prepend(str(request.config.rootpath / "benchmarks"))
    import targets  # noqa: PLC0415 -- found there

    return targets


def test_interval_of_one_pretraining_is_that_of_its_draws(targets):
    accuracies = np.array([[50.0, 52.0, 57.0, 49.0]])
    mean, half = targets.mean_and_interval(accuracies)
    low, high = t.interval(0.95, 3, loc=accuracies.mean(), scale=accuracies.std(ddof=1) / 2)
    assert (mean - half, mean + half) == pytest.approx((low, high))


def test_interval_covers_what_both_variances_make(targets):
    """Of 400 experiments with random pre-trainings and draws, about 95 % of the intervals hold the true mean."""
    rng = np.random.default_rng(0)
    hits = []
    for _ in range(400):
        accuracies = 60 + rng.normal(0, 3, (3, 1)) + rng.normal(0, 2, (1, 10)) + rng.normal(0, 1, (3, 10))
        mean, half = targets.mean_and_interval(accuracies)
        hits.append(abs(mean - 60) <= half)
    assert 0.92 <= np.mean(hits) <= 0.985


def test_answer_is_in_deviations_between_pretrainings(targets):
    def run(value):
        return {f"{shots}": [value - 1, value + 1] for shots in targets.SHOTS} | {"knn": value}

    runs = {"mgf": [run(60), run(64)], "pixel": [run(50), run(54)]}
    assert "5 shots: mgf - pixel = +10.0 points, +3.5 standard deviations" in targets.answer(runs)  # 10 / sqrt(8)
    rows = [targets.row(name, found) for name, found in runs.items()]
    assert rows[0]["5"]["mean"] == 62
    assert rows[0]["5"]["between"] == pytest.approx(8**0.5)
    assert "| mgf | 2 | 62.0 ±" in targets.table(rows)


def test_middles(targets, tmp_path):
    (tmp_path / "in/a").mkdir(parents=True)
    image = np.random.default_rng(0).integers(0, 255, (100, 110), np.uint8)
    Image.fromarray(image).save(tmp_path / "in/a/1.png")
    targets.cut_middles(tmp_path / "in", tmp_path / "out")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out/a/1.png")), image[2:98, 7:103])
    Image.fromarray(image[:90]).save(tmp_path / "in/a/2.png")
    with pytest.raises(InputError, match=r"2.png has 110 x 90 pixels; 96 a side are needed"):
        targets.cut_middles(tmp_path / "in", tmp_path / "out")


def test_a_network_learns_from_shots(targets, monkeypatch):
    import supervised  # noqa: PLC0415 -- beside targets

    monkeypatch.setattr(supervised, "STEPS", 30)
    torch.manual_seed(0)
    labels = torch.arange(2).repeat(8)
    images = (torch.rand(16, 1, 64, 64) * 60 + 120 * labels[:, None, None, None]).to(torch.uint8)
    seen = supervised.learn_from_shots("test_resnet", images, labels, images, 0)
    assert (seen == labels).all()

    square = torch.zeros(64, 1, 64, 64)
    square[:, :, 20:30, 10:40] = 1
    moved = supervised.augmented(square)
    assert torch.equal(moved.sum(dim=(1, 2, 3)), square.sum(dim=(1, 2, 3)))  # nothing is lost
    columns = moved.sum(dim=2)[:, 0].argmax(dim=1)
    assert set(columns.tolist()) == {*range(6, 15), *range(20, 29)}  # as it was, and mirrored: 24, each by up to 4 px
