"""Comparing experiments."""

import itertools
import json

import numpy as np
import pytest
from scipy import stats
from small_sets import options, vehicles

import compare_results
import train
from hivit_cls import comparison
from saratrx.errors import InputError, exit_on_input_error

pytestmark = pytest.mark.usefixtures("undrawn")


def experiment(folder, values, **protocol):
    """Write the results of runs by seed."""
    for seed, value in values.items():
        run = folder / f"seed{seed}"
        run.mkdir(parents=True)
        shared = {"data set": "A", "OPTIM.LR": 0.1, "training hash": f"shots {seed}"}
        content = {"trained": True, "results": {"accuracy": value}, "seed": seed, "protocol": shared | protocol}
        (run / "results.json").write_text(json.dumps(content))
    return folder


def printed(capsys, *words):
    capsys.readouterr()
    compare_results.main([str(word) for word in words])
    return capsys.readouterr().out


def refused(capsys, *words):
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop, exit_on_input_error():
        compare_results.main([str(word) for word in words])
    told = capsys.readouterr().err
    assert stop.value.code == 2
    assert told.count("\n") == 1
    return told


def test_numbers_against_scipy_and_plain_loops(tmp_path):
    rng = np.random.default_rng(3)
    first, second = ({seed: float(rng.normal(mean, 2)) for seed in range(8)} for mean in (80, 82))
    measured = [
        comparison.read_measured(experiment(tmp_path / name, values), "accuracy")
        for name, values in (("a", first), ("b", second | {99: 1.0}))
    ]
    found = comparison.pair(*measured)
    a, b = (np.array([values[seed] for seed in range(8)]) for values in (first, second))
    assert found.seeds == 8  # 99 has no partner
    assert found.difference == pytest.approx((b - a).mean())
    assert found.p_t == pytest.approx(stats.ttest_rel(b, a).pvalue)
    means = [abs(np.mean((b - a) * signs)) for signs in itertools.product((1, -1), repeat=8)]
    assert found.p_signs == pytest.approx(np.mean(np.array(means) >= abs((b - a).mean()) - 1e-12))
    expected = stats.bootstrap((b - a,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    assert found.interval == pytest.approx((expected.low, expected.high), abs=0.1)
    assert comparison.bootstrap(a) == comparison.bootstrap(a)


@pytest.mark.parametrize(("differences", "p"), [([0.0, 0.0], 1.0), ([1.0, 1.0], 0.0), ([1.0], None)])
def test_where_nothing_varies(differences, p):
    found = comparison.p_of_t(np.array(differences))
    assert np.isnan(found) if p is None else found == p


def test_the_table(tmp_path, capsys):
    a = experiment(tmp_path / "a", {0: 70.0, 1: 72.0})
    b = experiment(tmp_path / "b", {0: 75.0, 1: 76.0, 2: 90.0})
    told = printed(capsys, a, b, "--markdown", tmp_path / "t.md")
    assert f"| {a} | 2 | 71.00 | 70.00 to 72.00 |  |  |  |\n" in told
    assert f"| {b} | 3 | 80.33 | 75.00 to 90.00 | +4.50 (4.00 to 5.00) over 2 seeds | 0.0704 | 0.5 |\n" in told
    assert (tmp_path / "t.md").read_text() in told


def test_unlike_protocols_are_refused(tmp_path, capsys):
    a = experiment(tmp_path / "a", {0: 70.0})
    b = experiment(tmp_path / "b", {0: 75.0}, **{"OPTIM.LR": 0.2})
    sentence = f"error: {b}/seed0 has another protocol than {a} (in brackets): OPTIM.LR 0.2 (0.1); --unlike compares"
    assert refused(capsys, a, b).startswith(sentence)
    assert "+5.00" in printed(capsys, a, b, "--unlike")
    other_shots = experiment(tmp_path / "c", {0: 75.0}, **{"training hash": "others"})
    assert "training hash others (shots 0)" in refused(capsys, a, other_shots)


def test_what_cannot_be_compared(tmp_path, capsys):
    a, b = experiment(tmp_path / "a", {0: 70.0}), experiment(tmp_path / "b", {1: 75.0})
    assert "have no seed in common" in refused(capsys, a, b)
    assert "no subfolder holds a finished run's results.json with 'recall'" in refused(capsys, a, "--keyword", "recall")
    assert "the following arguments are required: folders" in refused(capsys)
    assert "nowhere: no such folder" in refused(capsys, "nowhere")
    path = a / "seed0/results.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"protocol": None}))
    assert "its results.json is of an earlier version, without protocol" in refused(capsys, a)
    path.write_text(json.dumps(content | {"seed": "0"}))
    assert "seed 0 is no number" in refused(capsys, a)


def test_real_runs_carry_what_is_needed(tmp_path, capsys):
    """Two encoders on the same shots can be compared; other shots, another rate or other images cannot."""
    root, other_root = vehicles(tmp_path / "x"), vehicles(tmp_path / "y", test=7)
    runs = {
        "hog": (root, "hog"),
        "raw": (root, "raw_pixels"),
        "shots": (root, "hog", "DATASET.NUM_SHOTS", 2),
        "rate": (root, "hog", "OPTIM.LR", 0.5),
        "images": (other_root, "hog"),
    }
    for name, (data, backbone, *opts) in runs.items():
        words = ("MODEL.BACKBONE.NAME", backbone, *opts)
        train.main(options(data, tmp_path / name / "seed0", *words, flags=["--seed", 0]))
    assert "over 1 seeds | nan | nan |" in printed(capsys, tmp_path / "hog", tmp_path / "raw")
    for name, key in (
        ("shots", "DATASET.NUM_SHOTS 2 (-1)"),
        ("rate", "OPTIM.LR 0.5 (0.001)"),
        ("images", "test images 28"),
    ):
        assert key in refused(capsys, tmp_path / "hog", tmp_path / name)
    found = json.loads((tmp_path / "hog/seed0/results.json").read_text())["protocol"]
    again = json.loads((tmp_path / "rate/seed0/results.json").read_text())["protocol"]
    assert {key for key in found if found[key] != again[key]} == {"OPTIM.LR"}


def test_two_runs_of_a_seed_are_no_experiment(tmp_path):
    experiment(tmp_path, {0: 70.0})
    (tmp_path / "seed1").mkdir()
    (tmp_path / "seed1/results.json").write_bytes((tmp_path / "seed0/results.json").read_bytes())
    with pytest.raises(InputError, match="seed 0 is no number, or another run's"):
        comparison.read_measured(tmp_path, "accuracy")
