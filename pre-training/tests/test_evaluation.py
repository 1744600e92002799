"""Evaluation while pre-training: its numbers against forms of their own, and what a run makes of it."""

import json
import os
import re
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from processes import two
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from small_runs import SCRIPT, options, run_here
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hivit_mae import pretraining
from hivit_mae.cluster.preemption import Preempted
from hivit_mae.models.models_hivit_mae import mae_hivit_micro_dec32d1b as micro
from hivit_mae.run import evaluation
from hivit_mae.run.nonfinite import NonFiniteLossError
from hivit_mae.run.options import EvaluationOptions
from hivit_mae.run.training_state import Checkpoints, Progress
from saratrx.checkpoint import load_checkpoint, load_encoder
from saratrx.errors import InputError
from saratrx.hivit import SIZES, HiViTClassifier

NAMES = ["eval/knn", "eval/probe", "eval/probe_deviation"]


def blobs(distance, per_class=30, classes=4, width=12):
    """Features [N, D] of training and test images round a centre for each class, and their labels."""
    rng = np.random.default_rng(0)
    centres, labels = distance * rng.normal(size=(classes, width)), np.repeat(np.arange(classes), per_class)
    return [part for _ in range(2) for part in (centres[labels] + rng.normal(size=(len(labels), width)) + 5, labels)]


def plain_knn(train, train_labels, test, test_labels):
    """Image by image, vote by vote."""
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    right = 0
    for query, label in zip((test - mean) / deviation, test_labels, strict=True):
        cosines = [query @ x / np.linalg.norm(query) / np.linalg.norm(x) for x in (train - mean) / deviation]
        votes = dict.fromkeys(train_labels, 0.0)
        for place in np.argsort(cosines)[::-1][:20]:
            votes[train_labels[place]] += np.exp(cosines[place] / 0.07)
        right += max(votes, key=votes.get) == label
    return 100 * right / len(test_labels)


def test_neighbours_vote_as_written_out_plainly(monkeypatch):
    overlapping = blobs(0.5)
    found = evaluation.knn_accuracy(*overlapping)
    assert 40 < found < 95
    assert found == pytest.approx(plain_knn(*overlapping))
    monkeypatch.setattr(evaluation, "AT_ONCE", 7)
    assert evaluation.knn_accuracy(*overlapping) == found
    few = [part[::10] for part in overlapping]  # twelve images: all of them vote
    assert evaluation.knn_accuracy(*few) == pytest.approx(plain_knn(*few))


def test_the_probe_is_the_logistic_regression_of_scikit_learn():
    train, labels, test, _ = blobs(0.5)
    scaler = StandardScaler().fit(train)
    expected = LogisticRegression(C=1 / evaluation.PENALTY, tol=1e-10, max_iter=10_000).fit(
        scaler.transform(train), labels
    )
    seen, asked = evaluation.standardised(train, test)
    weights, biases = evaluation.fit_probe(seen, labels)
    logits, others = asked @ weights + biases, expected.decision_function(scaler.transform(test))
    logits, others = (x - x.mean(axis=1, keepdims=True) for x in (logits, others))  # the same for any common shift
    np.testing.assert_allclose(logits, others, atol=1e-3)
    assert np.abs(others).max() > 1


def test_separable_classes_are_told_apart_and_shuffled_ones_by_chance():
    apart = blobs(4)
    assert evaluation.knn_accuracy(*apart) == 100
    assert evaluation.probe_accuracies(*apart, 5).tolist() == [100] * evaluation.DRAWS
    train, labels, test, test_labels = blobs(4, per_class=200)
    shuffled = np.random.default_rng(1).permutation(labels)
    assert evaluation.knn_accuracy(train, shuffled, test, test_labels) == pytest.approx(25, abs=12)
    assert evaluation.probe_accuracies(train, shuffled, test, test_labels, 20).mean() == pytest.approx(25, abs=12)


def test_draws_are_fixed_and_of_every_class():
    labels = np.repeat([0, 1, 2], [6, 30, 9])[np.random.default_rng(0).permutation(45)]
    draws = [evaluation.draw_shots(labels, 5, draw) for draw in range(evaluation.DRAWS)]
    assert all(labels[draw].tolist() == [0] * 5 + [1] * 5 + [2] * 5 for draw in draws)
    assert all(len(set(draw)) == 15 for draw in draws)
    assert len({tuple(sorted(draw)) for draw in draws}) == evaluation.DRAWS
    assert np.array_equal(draws[3], evaluation.draw_shots(labels, 5, 3))


@pytest.fixture(scope="module")
def opened(images):
    return evaluation.open_evaluation(EvaluationOptions(eval_data=str(images)), 48)


def test_features_are_the_mean_tokens_of_the_classifier_and_nothing_else_changes(opened, tmp_path):
    model = micro(img_size=48, drop_path_rate=0.5).train()
    torch.save(model.state_dict(), tmp_path / "a.pth")
    classifier = HiViTClassifier(**SIZES["micro"], img_size=48, num_classes=0).eval()
    load_encoder(classifier, tmp_path / "a.pth", missing_ok=("fc_norm.", "head."))
    with torch.no_grad():
        expected = classifier.forward_features(opened.train.expand(-1, 3, -1, -1) / 255).mean(dim=1)
    before, drawn = {key: value.clone() for key, value in model.state_dict().items()}, torch.get_rng_state()
    found = evaluation.features(model, opened.train, "off", lambda: False)
    assert model.training
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    rounded = evaluation.features(model, opened.train, "bf16", lambda: False)
    np.testing.assert_allclose(rounded, found, atol=0.05)
    assert not np.array_equal(rounded, found)
    assert evaluation.features(model, opened.train, "off", lambda: True) is None


def test_features_that_are_not_finite_give_no_figure_and_are_never_the_best(opened):
    model = micro(img_size=48)
    torch.nn.init.constant_(model.absolute_pos_embed, float("inf"))
    figures = opened.measure(model, "off", lambda: False)
    assert np.isnan(list(figures.values())).all()
    state = SimpleNamespace(progress=Progress(epoch=3))
    pretraining.keep_best(SimpleNamespace(state=state), figures["eval/probe"], opened.identity)
    assert state.progress.best == {}


def entries(output):
    return [json.loads(line) for line in (output / "log.txt").read_text().splitlines()]


@pytest.fixture(scope="module")
def evaluated(images, tmp_path_factory):
    """An undisturbed run of five epochs, evaluated after the second, fourth and last, and what it printed."""
    output = tmp_path_factory.mktemp("evaluated")
    return output, run_here(options(images, output, epochs=5, eval_data=images, eval_every=2, save_every=1))


def alike(one, other):
    """Whether two checkpoints hold the same weights, to the bit."""
    one, other = (load_checkpoint(path)["model"] for path in (one, other))
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


def test_a_run_tells_what_it_measured_and_learns_as_without(evaluated, images, tmp_path):
    output, printed = evaluated
    run_here(options(images, tmp_path, epochs=5))
    assert alike(output / "checkpoint-5.pth", tmp_path / "checkpoint-5.pth")
    found, plain = entries(output), entries(tmp_path)
    assert [[name in entry for name in NAMES] for entry in found] == [[False] * 3, [True] * 3] * 2 + [[True] * 3]
    assert [{key: entry[key] for key in entry if key not in NAMES} for entry in found] == plain
    last = found[4]
    line = f"k-NN {last[NAMES[0]]:.2f}%, 5-shot probe {last[NAMES[1]]:.2f}% +- {last[NAMES[2]]:.2f}%"
    assert re.search(rf"epoch 5/5 done: loss \d\.\d+, {re.escape(line)}\n", printed)
    events = EventAccumulator(str(output)).Reload()
    for name in NAMES:
        assert [event.step for event in events.Scalars(name)] == [2000, 4000, 5000]
        assert [e.value for e in events.Scalars(name)] == pytest.approx([found[i][name] for i in (1, 3, 4)])


def test_the_best_is_kept_and_loads_as_any_other(evaluated, images, tmp_path):
    output, printed = evaluated
    probes = {entry["epoch"]: entry["eval/probe"] for entry in entries(output) if "eval/probe" in entry}
    epoch = max(probes, key=probes.get)  # the first of several
    best = load_checkpoint(output / "checkpoint-best.pth")
    assert (best["epoch"], best["progress"]["epoch"]) == (epoch, epoch)
    assert (best["progress"]["best"]["probe"], best["progress"]["best"]["epoch"]) == (probes[epoch], epoch)
    assert (output / "checkpoint-best.pth.sha256").is_file()
    assert alike(output / "checkpoint-best.pth", output / f"checkpoint-{epoch}.pth")
    assert load_checkpoint(output / "checkpoint-5.pth")["progress"]["best"] == best["progress"]["best"]
    assert f"checkpoint-best.pth: the best probe so far, {probes[epoch]:.2f}% after epoch {epoch}\n" in printed
    assert f"checkpoint-5.pth, best probe {probes[epoch]:.2f}% after epoch {epoch}; next: " in printed
    load_encoder(HiViTClassifier(**SIZES["micro"], img_size=48), output / "checkpoint-best.pth", ("fc_norm.", "head."))
    run_here(options(images, tmp_path, epochs=5, resume=output / "checkpoint-best.pth"))
    assert alike(output / "checkpoint-5.pth", tmp_path / "checkpoint-5.pth")


@pytest.mark.parametrize("call", [1, 4])
def test_a_signal_ends_an_evaluation_which_the_run_goes_on_with(evaluated, images, tmp_path, monkeypatch, call):
    """It comes before the first evaluation's training images, and in the second one's test images."""
    output, _ = evaluated
    arguments = options(images, tmp_path, epochs=5, eval_data=images, eval_every=2, resume="auto")
    plain, calls = evaluation.features, []

    def signalled(*given):
        calls.append(1)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(*given)

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "features", signalled)
        with pytest.raises(Preempted, match="SIGTERM came: stopped in the evaluation of epoch") as stopped:
            run_here(arguments)
    assert stopped.value.code == 75
    epoch = 2 if call == 1 else 4
    assert (tmp_path / f"checkpoint-{epoch - 1}-5.pth").is_file()
    assert [entry["epoch"] for entry in entries(tmp_path)] == list(range(1, epoch))
    assert "continuing" in run_here(arguments)
    assert entries(tmp_path) == entries(output)  # to the last bit
    for name in ("checkpoint-5.pth", "checkpoint-best.pth"):
        assert alike(tmp_path / name, output / name)
        found, expected = (load_checkpoint(folder / name)["progress"] for folder in (tmp_path, output))
        assert found == expected


def test_a_resumed_run_remembers_the_best_and_measures_other_images_anew(evaluated, images, tmp_path):
    output, _ = evaluated
    best = load_checkpoint(output / "checkpoint-5.pth")["progress"]["best"]
    common = {"epochs": 6, "resume": output / "checkpoint-5.pth", "lr": 0, "eval_data": images}
    run_here(options(images, tmp_path / "same", **common))  # with a rate of 0 it is no better than before
    assert load_checkpoint(tmp_path / "same" / "checkpoint-6.pth")["progress"]["best"] == best
    assert not (tmp_path / "same" / "checkpoint-best.pth").exists()
    run_here(options(images, tmp_path / "other", **common, eval_shots=3))
    again = load_checkpoint(tmp_path / "other" / "checkpoint-best.pth")["progress"]["best"]
    assert again["epoch"] == 6
    assert again["images"] != best["images"]


def test_the_best_alone_is_continued_and_not_overwritten_by_a_new_run(evaluated, images, tmp_path):
    output, _ = evaluated
    for name in ("checkpoint-best.pth", "checkpoint-best.pth.sha256"):
        (tmp_path / name).write_bytes((output / name).read_bytes())
    with pytest.raises(InputError, match=r"checkpoint-best.pth is there already: continue that run with --resume auto"):
        run_here(options(images, tmp_path, epochs=5))
    assert "checkpoint-best.pth after epoch" in run_here(options(images, tmp_path, epochs=5, resume="auto"))
    assert alike(output / "checkpoint-5.pth", tmp_path / "checkpoint-5.pth")


def test_a_best_that_cannot_be_written_is_told_and_not_counted(images, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Checkpoints, "save_best", full)
    printed = run_here(options(images, tmp_path, eval_data=images))
    assert "warning: no checkpoint could be written" in printed
    assert load_checkpoint(tmp_path / "checkpoint-2.pth")["progress"]["best"] == {}


def test_going_back_keeps_the_best():
    progress = Progress(epoch=7, best={"probe": 80.0, "epoch": 6, "images": "x"})
    checkpoints = SimpleNamespace(to_continue_from=list, restore=lambda *_: None)
    state = SimpleNamespace(progress=progress)
    run = SimpleNamespace(state=state, checkpoints=checkpoints, processes=None, images_per_step=8)
    start_again = lambda: progress.__dict__.update(vars(Progress()))  # noqa: E731
    pretraining.go_back(NonFiniteLossError("the loss", []), run, "", start_again)
    assert progress == Progress(lr_factor=0.5, best={"probe": 80.0, "epoch": 6, "images": "x"})


def test_bad_images_are_told_before_training(images, tmp_path):
    for letter in "ab":
        (tmp_path / "data" / letter).mkdir(parents=True)
        for number in range(10):
            (tmp_path / "data" / letter / f"{number}.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"--eval_data: .*a/\d.png cannot be read as an image"):
        run_here(options(images, tmp_path / "out", eval_data=tmp_path / "data"))
    assert list((tmp_path / "out").iterdir()) == []


SLOW = f"""
import runpy, sys, time
sys.argv[0] = {str(SCRIPT)!r}
from hivit_mae.run import evaluation
features = evaluation.features
def slow(*given):
    time.sleep(3)
    return features(*given)
evaluation.features = slow
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_of_several_processes_one_evaluates_while_the_others_wait_longer_than_they_may_hang(images, started, tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    common = {"epochs": 2, "batch_size": 4, "num_workers": 0, "hang_seconds": 2}
    evaluating = two(started, options(images, tmp_path / "a", eval_data=images, **common), tmp_path / "slow.py")
    for process in (*evaluating, *two(started, options(images, tmp_path / "b", **common))):
        assert process.ended() == 0, process.text
    assert [process.text.count("k-NN") for process in evaluating] == [1, 0]
    assert set(NAMES) <= entries(tmp_path / "a")[1].keys()
    assert alike(tmp_path / "a" / "checkpoint-2.pth", tmp_path / "b" / "checkpoint-2.pth")
