"""Whole runs of train.py."""

import json
import platform
import re
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from small_sets import CLASSES, STAGE, options, vehicles
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import train
from dassl.engine import TrainerX
from dassl.utils import Logger, load_checkpoint
from hivit_cls.configuration import setup_cfg
from hivit_cls.options import parse_options
from hivit_cls.results import read_metric
from hivit_cls.trainers.base import SarTrainer
from saratrx.checkpoint import save_checkpoint
from saratrx.errors import exit_on_input_error
from saratrx.seeds import derived_seed

pytestmark = pytest.mark.usefixtures("undrawn")

RESULT = re.compile(
    r"Finish training\n(.*\n)*=> result\n\* total: 24\n\* correct: (\d+)\n\* accuracy: (\d+\.\d)%\n"
    r"\* error: \d+\.\d%\n\* macro_f1: \d+\.\d%\n"
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return vehicles(tmp_path_factory.mktemp("data"))


def run(root, output, checkpoint, *opts, **kwargs):
    """A run in this process; returns its log."""
    train.main(options(root, output, "MODEL.INIT_WEIGHTS", checkpoint, *opts, **kwargs))
    return Path(output, "log.txt").read_text() if Path(output, "log.txt").exists() else ""


def without_times(log):
    """A log without what differs between runs of the same."""
    kept = [
        line
        for line in log.splitlines()
        if not line.startswith(("Elapsed", "Checkpoint", "feature bank", "weights", "wrote"))
    ]
    return [re.sub(r"time .* loss|eta .*", "", line) for line in kept if "loaded" not in line]


def refusal(capsys, arguments):
    """The sentence with which train.py ends, after checking that it is one and that the exit code is 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop, exit_on_input_error():
        train.main(arguments)
    err = capsys.readouterr().err
    assert stop.value.code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


def test_a_run_leaves_what_the_published_one_does(root, tmp_path, checkpoint, drawn):
    log = run(root, tmp_path, checkpoint, "DATASET.NUM_SHOTS", 3, flags=["--seed", 0])
    correct, accuracy = RESULT.search(log).groups()[1:]
    assert float(accuracy) == pytest.approx(100 * int(correct) / 24, abs=0.051)
    assert "epoch [1/3] batch [1/1]" in log
    assert "train_x 12 images of 4 classes" in log
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    scalars = {"train/loss", "train/acc", "train/lr", "test/accuracy", "test/error_rate", "test/macro_f1"}
    assert set(events.Tags()["scalars"]) == scalars
    assert set(events.Tags()["images"]) == {"confusion", "features", "mistakes"}
    assert [event.value for event in events.Scalars("train/lr")] == pytest.approx([1e-5, 1e-3, 0.75e-3])
    assert all((tmp_path / f"{name}.png").stat().st_size > 5000 for name in ("confusion", "features", "mistakes"))
    state = load_checkpoint(tmp_path / "probe/model.pth.tar-3")
    assert {key: list(value.shape) for key, value in state["state_dict"].items()} == {
        "fc_norm.weight": [32],
        "fc_norm.bias": [32],
        "head.0.running_mean": [32],
        "head.0.running_var": [32],
        "head.0.num_batches_tracked": [],
        "head.1.weight": [4, 32],
        "head.1.bias": [4],
    }
    assert state["epoch"] == 3
    assert sys.stdout is not None and not isinstance(sys.stdout, Logger)


def read_results(folder):
    return json.loads((Path(folder) / "results.json").read_text())


def test_results_are_data(root, tmp_path, checkpoint):
    log = run(root, tmp_path, checkpoint, "DATASET.NUM_SHOTS", 3, flags=["--seed", 4])
    found = read_results(tmp_path)
    confusion = np.array(found["confusion"])
    totals, hits, guesses = confusion.sum(axis=1), confusion.diagonal(), confusion.sum(axis=0)
    f1 = 2 * hits / (totals + guesses)
    assert found["images"] == confusion.sum() == 24
    assert [row["total"] for row in found["classes"]] == totals.tolist() == [6, 6, 6, 6]
    assert [row["correct"] for row in found["classes"]] == hits.tolist()
    assert [row["accuracy"] for row in found["classes"]] == pytest.approx((100 * hits / totals).tolist())
    assert [row["name"].partition(",")[0] for row in found["classes"]] == list(CLASSES)
    accuracy = 100 * hits.sum() / 24
    assert found["results"] == pytest.approx(
        {"accuracy": accuracy, "error_rate": 100 - accuracy, "macro_f1": 100 * f1.mean()}, rel=1e-12
    )
    assert read_metric(tmp_path) == found["results"]["accuracy"]  # not the rounded one of the log
    assert [f"{value:.1f}" for value in found["results"].values()] == re.findall(r"^\* \w+: ([\d.]+)%", log, re.M)
    about = {"trained": True, "split": "test", "data_set": "MSTAR_EOC1", "trainer": "MIM_linear", "shots": 3, "seed": 4}
    assert about.items() <= found.items()
    assert re.fullmatch("[0-9a-f]{64}", found["settings"])
    assert found["versions"]["python"] == platform.python_version()
    assert (found["versions"]["torch"], found["versions"]["numpy"]) == (torch.__version__, np.__version__)


def test_the_hash_of_the_settings_tells_results_apart(root, tmp_path, checkpoint):
    hashes = []
    for name, opts in (("a", ()), ("b", ("DATALOADER.NUM_WORKERS", 1)), ("c", ("OPTIM.LR", 0.01))):
        run(root, tmp_path / name, checkpoint, *opts, "OPTIM.MAX_EPOCH", 1, flags=["--seed", 0])
        hashes.append(read_results(tmp_path / name)["settings"])
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize("is_old", [False, True])  # a run made before there was results.json has a log alone
def test_a_result_does_not_outlive_further_training(root, tmp_path, checkpoint, monkeypatch, is_old):
    flags = ["--seed", 0]
    run(root, tmp_path, checkpoint, flags=flags)
    if is_old:
        (tmp_path / "results.json").unlink()
    (tmp_path / "settings.yaml").unlink()  # or it would be refused
    begin = TrainerX.before_epoch

    def killed(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainerX, "before_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        run(root, tmp_path, checkpoint, "OPTIM.MAX_EPOCH", 5, flags=flags)
    assert not (tmp_path / "results.json").exists()
    assert read_metric(tmp_path) is None
    monkeypatch.setattr(TrainerX, "before_epoch", begin)
    log = run(root, tmp_path, checkpoint, "OPTIM.MAX_EPOCH", 5, flags=flags)
    assert "epoch [5/5]" in log
    assert read_metric(tmp_path) == read_results(tmp_path)["results"]["accuracy"]


def test_an_interrupted_test_leaves_no_result_and_is_done_again(root, tmp_path, checkpoint, monkeypatch):
    flags = ["--seeds", "0", "--shots", "2"]

    def killed(self):
        raise KeyboardInterrupt

    monkeypatch.setattr("dassl.evaluation.Classification.evaluate", killed)
    with pytest.raises(KeyboardInterrupt):
        run(root, tmp_path, checkpoint, flags=flags)
    folder = tmp_path / "MSTAR_EOC1/MIM_linear/vit_t16_2shots/seed0"
    assert (folder / "probe/checkpoint").is_file()
    assert not (folder / "results.json").exists()
    assert read_metric(folder) is None
    monkeypatch.undo()
    run(root, tmp_path, checkpoint, flags=flags)
    assert (folder / "log.txt").read_text().count("epoch [3/3]") == 1  # only the test is done again
    assert read_metric(folder) == read_results(folder)["results"]["accuracy"]


def test_a_test_alone_counts_only_where_it_is_asked_for(root, tmp_path, checkpoint):
    run(root, tmp_path / "a", checkpoint, flags=["--seed", 0])
    trained = read_results(tmp_path / "a")
    flags = ["--seed", 0, "--eval-only", "--model-dir", tmp_path / "a"]
    run(root, tmp_path / "b", checkpoint, flags=flags)
    tested = read_results(tmp_path / "b")
    assert (tested.pop("trained"), trained["trained"]) == (False, True)
    assert tested.items() <= trained.items()
    assert read_metric(tmp_path / "b") is None
    assert read_metric(tmp_path / "b", trained=False) == trained["results"]["accuracy"]
    run(root, tmp_path / "a", checkpoint, flags=flags)  # into the folder of the run itself, which stays finished
    assert read_results(tmp_path / "a") == trained


def test_validation_is_no_result(root, tmp_path, checkpoint, monkeypatch):
    """Nor is a test in the course of training, as trainers written for Dassl may do it."""
    seen = []

    def after_epoch(self):
        self.test()
        seen.append((tmp_path / "results.json").exists())

    monkeypatch.setattr(TrainerX, "after_epoch", after_epoch)
    run(root, tmp_path, checkpoint, flags=["--seed", 0])
    assert seen == [False] * 3
    (tmp_path / "results.json").unlink()

    def train_in_an_own_way(self):
        self.before_train()
        self.test()
        assert not (tmp_path / "results.json").exists()
        self.after_train()

    monkeypatch.setattr(TrainerX, "train", train_in_an_own_way)
    run(root, tmp_path, checkpoint, flags=["--seed", 0])
    assert read_results(tmp_path)["trained"]


def test_results_that_cannot_be_written_get_a_sentence(root, tmp_path, checkpoint, capsys):
    (tmp_path / "results.json").mkdir()
    arguments = options(root, tmp_path, "MODEL.INIT_WEIGHTS", checkpoint, flags=["--seed", 0])
    assert "results.json cannot be written: Is a directory" in refusal(capsys, arguments)


def test_damaged_settings_do_not_stop_a_run_that_goes_on(root, tmp_path, checkpoint, capsys):
    run(root, tmp_path, checkpoint, flags=["--seed", 0])
    path = tmp_path / "settings.yaml"
    whole = path.read_bytes()
    exact = read_metric(tmp_path)
    for damaged in (b"[", b"3", b"\0", b"\xff" + whole, whole.replace(b"OPTIM.LR: 0.001", b"OPTIM.LR: 0.002")):
        path.write_bytes(damaged)
        run(root, tmp_path, checkpoint, flags=["--seed", 0])
        assert "settings.yaml is damaged: written anew" in capsys.readouterr().out
        assert path.read_bytes() == whole
        assert read_metric(tmp_path) == exact
    path.write_bytes(b"[")  # the hash in results.json still tells that these are others
    changed = options(root, tmp_path, "MODEL.INIT_WEIGHTS", checkpoint, "OPTIM.LR", 0.01, flags=["--seed", 0])
    assert "holds a run with other settings" in refusal(capsys, changed)


def test_a_damaged_log_does_not_stop_a_run_that_goes_on(root, tmp_path, checkpoint):
    run(root, tmp_path, checkpoint, flags=["--seed", 0])
    log = (tmp_path / "log.txt").read_bytes()
    (tmp_path / "log.txt").write_bytes(b"\xff\0" + log)
    train.main(options(root, tmp_path, "MODEL.INIT_WEIGHTS", checkpoint, flags=["--seed", 0]))
    assert (tmp_path / "log.txt").read_bytes().startswith(b"\xff\0" + log)


def test_the_random_numbers_of_an_epoch_are_the_published_ones(root, tmp_path, checkpoint, monkeypatch):
    for parts in ((0, 0), (3, 29), (2**31, 1)):
        assert derived_seed(*parts) % 2**32 == int(np.random.SeedSequence(parts).generate_state(1)[0])
    seeds = []
    monkeypatch.setattr(TrainerX, "before_epoch", lambda self: seeds.append(torch.initial_seed()))
    run(root, tmp_path, checkpoint, flags=["--seed", 7])
    assert seeds == [int(np.random.SeedSequence((7, epoch)).generate_state(1)[0]) for epoch in range(3)]


def test_all_mistakes_of_a_command_line_are_told(capsys):
    with pytest.raises(SystemExit) as stop, exit_on_input_error():
        train.main(["--seeds", "0-x", "--shots", "1,1", "OPTIM.LR"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: OPTIM.LR: keys and values must come in pairs",
        "error: --seeds 0-x: give numbers and ranges, such as 0-9 or 1,2,5",
        "error: --shots 1,1: names no number, or one twice",
    ]


def test_the_help_names_defaults_only_where_there_are_any(capsys):
    with pytest.raises(SystemExit):
        train.main(["--help"])
    out = capsys.readouterr().out
    assert "--dataset-config-file" in out
    assert "None" not in out
    assert "(default: )" not in out


def test_the_same_seed_gives_the_same_head(root, tmp_path, checkpoint):
    logs, heads = [], []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        opts = ("DATASET.NUM_SHOTS", 3, "DATALOADER.TRAIN_X.BATCH_SIZE", 5)
        logs.append(without_times(run(root, tmp_path / name, checkpoint, *opts, flags=["--seed", seed])))
        heads.append(load_checkpoint(tmp_path / name / "probe/model.pth.tar-3")["state_dict"])
    assert logs[0] == logs[1]
    assert all(torch.equal(value, heads[1][key]) for key, value in heads[0].items())
    assert not torch.equal(heads[0]["head.1.weight"], heads[2]["head.1.weight"])


def test_a_table_runs_in_one_process_and_only_what_is_missing(root, tmp_path, checkpoint, capsys):
    table = ("DATALOADER.TRAIN_X.BATCH_SIZE", 6)
    flags = ["--seeds", "0-2", "--shots", "1,3"]
    run(root, tmp_path, checkpoint, *table, flags=flags)
    out = capsys.readouterr().out
    folder = tmp_path / "MSTAR_EOC1/MIM_linear"
    logs = sorted(folder.glob("*/*/log.txt"))
    expected = [f"vit_t16_{shots}shots/seed{seed}/log.txt" for shots in (1, 3) for seed in (0, 1, 2)]
    assert [str(path.relative_to(folder)) for path in logs] == expected
    assert all(RESULT.search(path.read_text()) for path in logs)
    assert re.search(r"vit_t16_3shots: accuracy \d+\.\d\d% \+- \d+\.\d\d% over 3 seeds", out)
    assert (tmp_path / "MSTAR_EOC1/MIM_linear_accuracy.png").stat().st_size > 5000
    assert {path.name for path in folder.iterdir()} == {"vit_t16_1shots", "vit_t16_3shots"}  # Dassl's parser reads all
    assert (tmp_path / "feature_bank").is_dir()
    assert len(list(tmp_path.rglob("feature_bank"))) == 1

    before = {path: path.read_text() for path in logs}
    interrupted = logs[4]
    exact = read_metric(interrupted.parent)
    interrupted.write_text(interrupted.read_text().partition("Finish training")[0])
    (interrupted.parent / "results.json").unlink()
    shutil.rmtree(interrupted.parent / "probe")
    (logs[0].parent / "results.json").unlink()  # as if it were of an earlier version, which wrote none
    run(root, tmp_path, checkpoint, *table, flags=["--seeds", "0-3", "--shots", "1,3"])
    assert capsys.readouterr().out.count("finished before") == 5
    assert len(list(folder.glob("*/*/log.txt"))) == 8
    assert read_metric(interrupted.parent) == exact
    assert round(exact, 1) == float(RESULT.search(before[interrupted])[3])
    assert all(path.read_text() == text for path, text in before.items() if path != interrupted)


def test_a_table_draws_the_first_seed_of_each_number_of_shots(root, tmp_path, checkpoint, monkeypatch):
    drawn = []
    monkeypatch.setattr(SarTrainer, "draw", lambda self: drawn.append(Path(self.output_dir).relative_to(tmp_path)))
    run(root, tmp_path, checkpoint, "OPTIM.MAX_EPOCH", 1, flags=["--seeds", "3,1", "--shots", "2,3"])
    table = Path("MSTAR_EOC1/MIM_linear")
    assert drawn == [table / f"vit_t16_{shots}shots/seed3" for shots in (2, 3)]
    run(root, tmp_path / "one", checkpoint, "OPTIM.MAX_EPOCH", 1, flags=["--seed", "1"])
    assert drawn[2:] == [Path("one")]


def test_a_run_of_a_table_is_the_run_alone(root, tmp_path, checkpoint):
    run(root, tmp_path / "t", checkpoint, flags=["--seeds", "0-1", "--shots", "2,3"])
    run(root, tmp_path / "one", checkpoint, "DATASET.NUM_SHOTS", 3, flags=["--seed", "1"])
    folder = tmp_path / "t/MSTAR_EOC1/MIM_linear/vit_t16_3shots/seed1"
    heads = [load_checkpoint(path / "probe/model.pth.tar-3")["state_dict"] for path in (tmp_path / "one", folder)]
    assert all(torch.equal(value, heads[1][key]) for key, value in heads[0].items())


def test_results_of_other_settings_are_not_taken_over(root, tmp_path, checkpoint, capsys):
    flags = ["--seeds", "0", "--shots", "2"]
    run(root, tmp_path, checkpoint, flags=flags)
    moved = tmp_path / "moved.pth"
    moved.write_bytes(checkpoint.read_bytes())
    run(root, tmp_path, moved, "DATALOADER.NUM_WORKERS", 1, flags=flags)  # neither counts
    assert "finished before" in capsys.readouterr().out
    changed = options(root, tmp_path, "MODEL.INIT_WEIGHTS", checkpoint, "OPTIM.LR", 0.01, flags=flags)
    assert "holds a run with other settings: OPTIM.LR 0.001 (now 0.01)" in refusal(capsys, changed)
    changed = options(root, tmp_path, "MODEL.RANDOM_INIT", True, flags=flags)
    assert "MODEL.RANDOM_INIT False (now True), weights" in refusal(capsys, changed)
    settings = yaml.safe_load((tmp_path / "MSTAR_EOC1/MIM_linear/vit_t16_2shots/seed0/settings.yaml").read_text())
    assert settings["OPTIM.LR"] == 0.001


def test_a_run_of_its_own_is_protected_likewise(root, tmp_path, checkpoint, capsys):
    """Dassl would take the finished model for this run's, train nothing and test it."""
    run(root, tmp_path, checkpoint, flags=["--seed", 0])
    changed = options(root, tmp_path, "MODEL.INIT_WEIGHTS", checkpoint, "OPTIM.LR", 0.01, flags=["--seed", 0])
    assert "holds a run with other settings: OPTIM.LR 0.001 (now 0.01)" in refusal(capsys, changed)


def test_a_run_that_failed_is_not_in_the_way(root, tmp_path, checkpoint, capsys):
    failing = options(root, tmp_path, "MODEL.INIT_WEIGHTS", checkpoint, "INPUT.SIZE", "(50, 50)", flags=["--seeds", 0])
    assert "INPUT.SIZE (50, 50)" in refusal(capsys, failing)
    run(root, tmp_path, checkpoint, flags=["--seeds", 0])
    assert "over 1 seeds" in capsys.readouterr().out


def test_augmented_results_depend_on_the_workers(root, tmp_path, checkpoint, capsys):
    opts = ("INPUT.TRANSFORMS", "['random_flip']", "OPTIM.MAX_EPOCH", 1)
    run(root, tmp_path, checkpoint, *opts, flags=["--seed", 0])
    weights = ("MODEL.INIT_WEIGHTS", checkpoint)
    changed = options(root, tmp_path, *weights, *opts, "DATALOADER.NUM_WORKERS", 1, flags=["--seed", 0])
    assert "other settings: DATALOADER.NUM_WORKERS 0 (now 1)" in refusal(capsys, changed)


@pytest.mark.parametrize("trainer", ["MIM_linear", "MIM_finetune"])
def test_an_interrupted_run_goes_on_exactly(root, tmp_path, checkpoint, trainer, monkeypatch):
    opts = ("DATASET.NUM_SHOTS", 3, "DATALOADER.TRAIN_X.BATCH_SIZE", 5, "OPTIM.MAX_EPOCH", 4)
    opts += ("TRAIN.CHECKPOINT_FREQ", 1, "OPTIM.WARMUP_EPOCH", 1)
    kwargs = {"trainer": trainer, "flags": ["--seed", 0]}
    whole = run(root, tmp_path / "whole", checkpoint, *opts, **kwargs)
    name = "probe" if trainer == "MIM_linear" else "model"

    class KilledError(Exception):
        pass

    original = TrainerX.run_epoch

    def run_epoch(self):
        if self.epoch == 2:
            raise KilledError
        original(self)

    monkeypatch.setattr(TrainerX, "run_epoch", run_epoch)
    with pytest.raises(KilledError):
        run(root, tmp_path / "cut", checkpoint, *opts, **kwargs)
    monkeypatch.undo()
    cut = run(root, tmp_path / "cut", checkpoint, *opts, **kwargs)
    assert "model.pth.tar-2 after epoch 2" in cut
    states = [
        load_checkpoint(tmp_path / folder / name / "model.pth.tar-4")["state_dict"] for folder in ("whole", "cut")
    ]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert RESULT.search(whole).groups()[1:] == RESULT.search(cut).groups()[1:]


def test_a_saved_model_is_tested_again(root, tmp_path, checkpoint, capsys, drawn):
    log = run(root, tmp_path / "a", checkpoint, "DATASET.NUM_SHOTS", 3, flags=["--seed", 0])
    flags = ["--seed", 0, "--eval-only", "--model-dir", tmp_path / "a", "--load-epoch", 3]
    again = run(root, tmp_path / "b", checkpoint, "DATASET.NUM_SHOTS", 3, flags=flags)
    assert RESULT.search(log)[0].partition("=> result")[2] in again
    assert "Finish training" not in again
    flags[-1] = 7
    arguments = options(root, tmp_path / "b", "MODEL.INIT_WEIGHTS", checkpoint, flags=flags)
    assert "a/probe/model.pth.tar-7: no such file" in refusal(capsys, arguments)


def test_the_best_validated_epoch_is_tested(root, tmp_path, checkpoint):
    opts = ("DATASET.NUM_SHOTS", 2, "TEST.FINAL_MODEL", "best_val", "OPTIM.MAX_EPOCH", 6)
    log = run(root, tmp_path, checkpoint, *opts, flags=["--seed", 0])
    validated = [float(v) for v in re.findall(r"\* accuracy: ([\d.]+)%", log.partition("Finish training")[0])]
    assert len(validated) == 6
    best = load_checkpoint(tmp_path / "probe/model-best.pth.tar")
    assert best["epoch"] == validated.index(max(validated)) + 1
    assert f"model-best.pth.tar, after epoch {best['epoch']}" in log


def test_fine_tuning_learns(root, tmp_path, checkpoint):
    opts = (
        "OPTIM.MAX_EPOCH",
        30,
        "OPTIM.LR",
        3e-3,
        "DATALOADER.TRAIN_X.BATCH_SIZE",
        8,
        "OPTIM.WARMUP_EPOCH",
        1,
        "INPUT.TRANSFORMS",
        "[]",
    )
    log = run(root, tmp_path, checkpoint, *opts, trainer="MIM_finetune", flags=["--seed", 0])
    losses = [float(value) for value in re.findall(r"loss [\d.]+ \(([\d.]+)\)", log)]
    assert losses[-1] < 0.7 * losses[0]
    assert float(RESULT.search(log)[3]) > 60
    state = load_checkpoint(tmp_path / "model/model.pth.tar-30")["state_dict"]
    pretrained = torch.load(checkpoint, weights_only=True)["model"]
    assert not torch.equal(state["patch_embed.proj.weight"], pretrained["patch_embed.proj.weight"])


def test_random_weights_must_be_asked_for(root, tmp_path, capsys):
    log = run(root, tmp_path / "a", "", "MODEL.RANDOM_INIT", True, flags=["--seed", 0])
    assert "hivit_micro with random weights" in log
    assert "MODEL.INIT_WEIGHTS names no checkpoint" in refusal(capsys, options(root, tmp_path / "b"))


def bad_input(root, tmp_path, checkpoint):
    """Name -> command line and what the sentence must say."""
    broken = vehicles(tmp_path / "broken")
    (broken / "MSTAR_EOC1/TEST/T72/002.jpeg").write_bytes(b"no image")
    empty = vehicles(tmp_path / "empty")
    for part in ("TRAIN", "TEST"):
        for path in (empty / "MSTAR_EOC1" / part / "BRDM2").iterdir():
            path.unlink()
    tiny = vehicles(tmp_path / "tiny", train=2)  # a fifth of two is none
    unfit = tmp_path / "unfit.pth"
    save_checkpoint(unfit, model={"patch_embed.proj.weight": torch.zeros(8, 3, 4, 4)})
    typo = tmp_path / "typo.yaml"
    typo.write_text("OPTIM:\n  LEARNING_RATE: 1\n")
    garbage = tmp_path / "garbage.yaml"
    garbage.write_text("OPTIM: [\n")

    def line(*opts, **kwargs):
        weights = {"MODEL.INIT_WEIGHTS": checkpoint} | dict(zip(opts[::2], opts[1::2], strict=True))
        where = kwargs.pop("where", root)
        return options(where, tmp_path / "out", *[w for pair in weights.items() for w in pair], **kwargs)

    workers = ("DATALOADER.NUM_WORKERS", 1, "FEATURE_BANK", False)
    return {
        "no data": (line(where=tmp_path / "none"), "none: no such folder; give the one that holds the data set's"),
        "empty class": (line(where=empty), "no image of BRDM2 in TRAIN or TEST"),
        "broken image": (line(where=broken), "T72/002.jpeg cannot be read as an image"),
        "broken image in a worker": (line(*workers, where=broken), "T72/002.jpeg cannot be read as an image"),
        "another size": (
            line("MODEL.BACKBONE.NAME", "hivit_tiny"),
            "is of a HiViT-micro, and this model is a HiViT-tiny",
        ),
        "no such checkpoint": (line("MODEL.INIT_WEIGHTS", "absent.pth"), "absent.pth cannot be read: No such file"),
        "unfit checkpoint": (line("MODEL.INIT_WEIGHTS", unfit), "unfit.pth does not fit this model"),
        "unknown trainer": (line(flags=["--trainer", "SimCLR"]), 'TRAINER.NAME "SimCLR": unknown; choose one of'),
        "left out": (line(flags=["--trainer", "DANN"]), "domain adaptation, domain generalisation and semi-supervised"),
        "unknown data set": (line("DATASET.NAME", "MSTAR"), 'DATASET.NAME "MSTAR": unknown; choose one of'),
        "unknown backbone": (line("MODEL.BACKBONE.NAME", "vit"), 'MODEL.BACKBONE.NAME "vit": unknown'),
        "unknown key": (line("OPTIM.LEARNING_RATE", 1), "OPTIM.LEARNING_RATE: no such key; did you mean OPTIM."),
        "wrong type": (line("OPTIM.MAX_EPOCH", "many"), "OPTIM.MAX_EPOCH many: must be a whole number, such as 30"),
        "key without value": ([*line(), "OPTIM.LR"], "keys and values must come in pairs"),
        "unknown key in a file": (line(flags=["--config-file", typo]), "typo.yaml: OPTIM.LEARNING_RATE: no such key"),
        "no config": (line(flags=["--config-file", garbage]), "garbage.yaml: "),
        "no file": (line(flags=["--config-file", "absent.yaml"]), "absent.yaml cannot be read: No such file"),
        "input size": (line("INPUT.SIZE", "(50, 50)"), "INPUT.SIZE (50, 50): image sides must be multiples of 16"),
        "sampler": (line("DATALOADER.TRAIN_X.SAMPLER", "Other"), "DATALOADER sampler Other: unknown"),
        "evaluator": (line("TEST.EVALUATOR", "Other"), 'TEST.EVALUATOR "Other": unknown'),
        "one image": (line("DATALOADER.TRAIN_X.BATCH_SIZE", 1), "batches of two"),
        "two weights": (line("MODEL.RANDOM_INIT", True), "leave one out"),
        "seeds": (line(flags=["--seeds", "0-x"]), "--seeds 0-x: give numbers and ranges"),
        "same seeds": (line(flags=["--seeds", "0,0"]), "--seeds 0,0: names no number, or one twice"),
        "table of tests": (line(flags=["--seeds", "0", "--eval-only"]), "--eval-only and --no-train are for one run"),
        "no validation part": (
            line("TEST.SPLIT", "val", where=tiny),
            "MSTAR_EOC1 has no part 'val', which TEST asks for",
        ),
    }


def test_bad_input_gets_one_sentence(root, tmp_path, checkpoint, capsys):
    for name, (arguments, sentence) in bad_input(root, tmp_path, checkpoint).items():
        arguments[arguments.index("--output-dir") + 1] = str(tmp_path / "out" / name)
        assert sentence in refusal(capsys, arguments), name


def test_a_loss_that_is_not_finite_ends_the_run(root, tmp_path, monkeypatch, capsys):
    """As the script, as users see it."""
    opts = ("MODEL.RANDOM_INIT", True, "OPTIM.LR", 1e38, "OPTIM.WEIGHT_DECAY", 1e3, "OPTIM.NAME", "sgd")
    arguments = options(root, tmp_path, *opts, flags=["--seed", 0])
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(STAGE / "train.py"), run_name="__main__")
    assert stop.value.code == 1
    assert re.fullmatch(r"error: the loss is \S+ in epoch \d: try a lower OPTIM.LR\n", capsys.readouterr().err)


def test_classes_that_training_lacks_count_as_mistakes(tmp_path, checkpoint, drawn):
    """Extended operating conditions: one class in the test part; classes in the test part that training lacks."""
    one = vehicles(tmp_path / "one")
    for name in CLASSES[:3]:
        shutil.rmtree(one / "MSTAR_EOC1/TEST" / name)
    log = run(one, tmp_path / "a", checkpoint, "TEST.PER_CLASS_RESULT", True, flags=["--seed", 0])
    assert "test    6 images of 1 classes" in log
    assert "* class: 3 (ZSU234, self-propelled anti-aircraft gun)\ttotal: 6\t" in log
    other = vehicles(tmp_path / "other")
    for name in CLASSES[2:]:
        shutil.rmtree(other / "MSTAR_EOC1/TRAIN" / name)
    for name in CLASSES[:2]:
        shutil.rmtree(other / "MSTAR_EOC1/TEST" / name)
    log = run(other, tmp_path / "b", checkpoint, flags=["--seed", 0])
    assert "data set MSTAR_EOC1: 2 classes in training" in log
    assert "* total: 12\n* correct: 0\n* accuracy: 0.0%" in log


def test_words_of_an_option_with_several_become_a_list():
    config, _, _ = parse_options(["--source-domains", "a", "b", "--transforms", "random_flip", "--seed", "3"])
    cfg = setup_cfg(config)
    assert (cfg.DATASET.SOURCE_DOMAINS, cfg.INPUT.TRANSFORMS, cfg.SEED) == (["a", "b"], ["random_flip"], 3)
    assert cfg.DATASET.TARGET_DOMAINS == []
