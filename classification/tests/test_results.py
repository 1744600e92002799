"""Reading what runs have found, and drawing it."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_sets import STAGE, draw

import parse_test_res
from hivit_cls import pictures
from hivit_cls.results import read_experiment, read_log
from saratrx.errors import InputError

VALUES = [75.4, 71.0, 80.2]


def log(folder, value, finished=True):
    folder.mkdir(parents=True)
    lines = ["=> result", "* accuracy: 11.1%", "* macro_f1: 10.0%"]  # validation during training
    lines += ["Finish training"] if finished else []
    lines += ["=> result", "* total: 24", f"* accuracy: {value}%", f"* macro_f1: {value - 1:.1f}%"] if value else []
    (folder / "log.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture
def tree(tmp_path):
    for shots, shift in ((2, 0), (10, 5)):
        for seed, value in enumerate(VALUES):
            log(tmp_path / f"vit_b16_{shots}shots" / f"seed{seed}", value + shift)
    log(tmp_path / "vit_b16_2shots/seed10", None)  # crashed in its test
    log(tmp_path / "vit_b16_2shots/seed11", None, finished=False)
    (tmp_path / "vit_b16_2shots/seed12").mkdir()
    return tmp_path


@pytest.fixture
def parse(capsys):
    """Runs parse_test_res.py; gives what it prints."""

    def run(*args):
        capsys.readouterr()
        parse_test_res.main(list(map(str, args)))
        return capsys.readouterr().out

    return run


def test_failed_seeds_are_named_and_left_out(tree, parse):
    folder = tree / "vit_b16_2shots"
    lines = parse(folder).splitlines()
    assert lines[1:4] == [f"file: {folder}/seed{s}/log.txt. accuracy: {v:.2f}%." for s, v in enumerate(VALUES)]
    assert lines[4:7] == [
        f"{folder}/seed10/log.txt is not finished: left out",
        f"{folder}/seed11/log.txt is not finished: left out",
        f"{folder}/seed12/log.txt does not exist: left out",
    ]
    assert f"Summary of directory: {folder}, 3 of 6 runs" in lines
    assert f"* accuracy: 75.53% +- {np.std(VALUES):.2f}%" in lines
    assert f"* accuracy: 75.53% +- {1.96 * np.std(VALUES) / 3**0.5:.2f}%" in parse(folder, "--ci95")
    assert f"* macro_f1: 74.53% +- {np.std(VALUES):.2f}%" in parse(folder, "--keyword", "macro_f1")


def test_several_experiments_and_tables(tree, parse):
    (tree / "empty").mkdir()
    files = ["--markdown", tree / "t.md", "--csv", tree / "t.csv"]
    out = parse(tree, "--multi-exp", *files)
    wrote = f"wrote {tree}/t.md\nwrote {tree}/t.csv\n"
    assert out.endswith(f"Average over 2 experiments\n* accuracy: {np.mean(VALUES) + 2.5:.2f}%\n{wrote}")
    assert "empty" not in out  # what holds no run is no experiment
    half = 1.96 * np.std(VALUES) / 3**0.5
    mean = np.mean(VALUES)
    assert (tree / "t.md").read_text().splitlines() == [
        "| experiment | runs | accuracy, % | std | 95 % interval |",
        "|---|---|---|---|---|",
        f"| vit_b16_2shots | 3 of 6 | {mean:.2f} | {np.std(VALUES):.2f} | {mean - half:.2f} to {mean + half:.2f} |",
        f"| vit_b16_10shots | 3 of 3 | {mean + 5:.2f} | {np.std(VALUES):.2f} | "
        f"{mean + 5 - half:.2f} to {mean + 5 + half:.2f} |",
    ]
    with (tree / "t.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["experiment"] for row in rows] == ["vit_b16_2shots", "vit_b16_10shots"]
    assert [float(rows[0][key]) for key in ("finished", "runs", "accuracy", "ci95")] == pytest.approx(
        [3, 6, mean, half], abs=1e-4
    )


def test_tests_without_training(tree, parse):
    folder = tree / "tests"
    for seed in range(2):
        log(folder / f"seed{seed}", 50.0 + seed, finished=False)
    with pytest.raises(
        InputError, match=r"no subfolder holds a finished run's results.json or log.txt with 'accuracy'"
    ):
        parse(folder)
    assert "* accuracy: 50.50% +- 0.50%" in parse(folder, "--test-log")


def results(folder, trained=True, **values):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps({"trained": trained, "results": values}))


def test_results_are_read_in_full_precision(tree, parse):
    folder = tree / "vit_b16_2shots"
    exact = [value + 0.0123456789 for value in VALUES]
    for seed, value in enumerate(exact):
        results(folder / f"seed{seed}", accuracy=value, error_rate=100 - value, macro_f1=value - 1 / 3)
    results(folder / "seed12", accuracy=1.0)
    experiment = read_experiment(folder)
    assert experiment.values == [*exact, 1.0]
    assert [run.source.name for run in experiment.runs if run.source] == ["results.json"] * 4
    assert read_experiment(folder, "macro_f1").values == [value - 1 / 3 for value in exact]
    assert read_experiment(folder, "error").values == [100 - value for value in exact]
    lines = parse(folder, "--csv", tree / "t.csv").splitlines()
    assert f"file: {folder}/seed0/results.json. accuracy: {exact[0]:.2f}%." in lines
    assert f"* accuracy: {np.mean([*exact, 1]):.2f}% +- {np.std([*exact, 1]):.2f}%" in lines
    with (tree / "t.csv").open() as file:
        assert [row["accuracy"] for row in csv.DictReader(file)] == [f"{np.mean([*exact, 1]):.4f}"]


def test_logs_are_read_where_there_are_no_results(tree, parse):
    folder = tree / "vit_b16_2shots"
    results(folder / "seed1", accuracy=10.5)
    assert read_experiment(folder).values == [VALUES[0], 10.5, VALUES[2]]
    assert read_experiment(folder, "macro_f1").values == [value - 1 for value in VALUES]  # which that file lacks
    for text in ("", "{", "[]", "null", '{"trained": 1, "results": {}}', '{"trained": true, "results": {"a": "b"}}'):
        (folder / "seed1/results.json").write_text(text)
        assert f"warning: {folder}/seed1/results.json cannot be used (" in parse(folder)
        assert read_experiment(folder).values == VALUES
    (folder / "seed1/results.json").write_bytes(b"\xff")
    assert read_experiment(folder).values == VALUES


def test_numbers_in_a_log_that_cannot_be_accuracies_do_not_count(tmp_path):
    for text in ("9" * 400, "1.2.3", "nan", "-1"):
        (tmp_path / "log.txt").write_text(f"Finish training\n* accuracy: {text}%\n")
        assert read_log(tmp_path / "log.txt", after="Finish training") is None


def test_results_without_training(tree, parse):
    folder = tree / "tests"
    for seed in range(2):
        results(folder / f"seed{seed}", trained=False, accuracy=50.25 + seed)
    with pytest.raises(
        InputError, match=r"no subfolder holds a finished run's results.json or log.txt with 'accuracy'"
    ):
        parse(folder)
    assert "* accuracy: 50.75% +- 0.50%" in parse(folder, "--test-log")


def test_a_table_that_cannot_be_written_gets_a_sentence(tree, parse):
    with pytest.raises(InputError, match=r"none/t.md cannot be written: No such file"):
        parse(tree / "vit_b16_2shots", "--markdown", tree / "none/t.md")


def test_tables_are_made_without_pytorch(tree):
    """In a process of its own, which has imported nothing else."""
    code = """
import sys
sys.argv = ["parse_test_res.py", sys.argv[1], "--multi-exp"]
import parse_test_res
parse_test_res.main()
print([name for name in ("torch", "torchvision", "timm", "sklearn", "matplotlib", "scipy") if name in sys.modules])
"""
    command = [sys.executable, "-c", code, tree]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, cwd=STAGE)
    assert done.stdout.endswith("\n[]\n")
    assert "Average over 2 experiments" in done.stdout


def test_nothing_to_read(tmp_path):
    command = [sys.executable, STAGE / "parse_test_res.py", tmp_path / "none"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd="/")
    assert done.returncode == 2
    assert done.stderr == f"error: {tmp_path / 'none'}: no such folder\n"


def test_the_last_result_after_training_counts(tmp_path):
    path = tmp_path / "log.txt"
    assert read_log(path) is None
    path.write_text(
        "=> result\n* accuracy: 1.0%\nFinish training\n* accuracy: 2.0%\nFinish training\n* accuracy: 30%\n"
    )
    assert read_log(path) == 30.0
    assert read_log(path, "error") is None
    path.write_text("=> result\n* accuracy: 1.0%\n")
    assert read_log(path) is None
    path.write_text("Finish training\nepoch [3/9] batch [1/1] loss 1\n=> result\n* accuracy: 1.0%\n")  # a validation
    assert read_log(path) is None
    assert read_log(path, after="=> result") == 1.0


def test_seeds_in_the_order_of_their_numbers(tmp_path):
    for seed in (10, 2, 1):
        log(tmp_path / f"seed{seed}", float(seed))
    assert read_experiment(tmp_path).values == [1.0, 2.0, 10.0]


def test_confusion_matrix(tmp_path):
    true, predicted = np.array([0, 0, 0, 1, 1, 3]), np.array([0, 0, 1, 1, 1, 2])
    figure = pictures.confusion(true, predicted, {0: "a, first", 1: "b", 3: "d"})
    axis = figure.axes[0]
    assert {(t.get_position(), t.get_text()) for t in axis.texts} == {
        ((0, 0), "2"), ((1, 0), "1"), ((1, 1), "2"), ((2, 3), "1")
    }  # fmt: skip
    assert [t.get_text() for t in axis.get_xticklabels()] == ["a", "b", "2", "d"]
    assert [t.get_text() for t in axis.get_yticklabels()] == ["a, first", "b", "2", "d"]
    np.testing.assert_allclose(axis.images[0].get_array()[0], [2 / 3, 1 / 3, 0, 0])
    assert "66.7%" in axis.get_title()
    pixels = pictures.save(figure, tmp_path / "c.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "c.png")), pixels)
    assert pixels.std() > 10


def test_features_of_a_class_lie_together():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 21], 40)
    pooled = rng.normal(size=(120, 16)) + np.repeat(rng.normal(scale=4, size=(3, 16)), 40, axis=0)
    figure = pictures.features(pooled.astype(np.float32), labels, {0: "a", 1: "b", 21: "c"})
    clouds = [np.asarray(c.get_offsets()) for c in figure.axes[0].collections]
    assert [len(cloud) for cloud in clouds] == [40, 40, 40]
    spread = np.mean([cloud.std(axis=0).max() for cloud in clouds])
    assert np.std([cloud.mean(axis=0) for cloud in clouds], axis=0).max() > 2 * spread
    markers = {tuple(map(tuple, c.get_paths()[0].vertices)) for c in figure.axes[0].collections}
    assert len(markers) == 2  # the 22nd class has the first one's colour, and another marker


def test_features_are_drawn_once_for_all_runs(tmp_path):
    rng = np.random.default_rng(0)
    pooled, labels, names = rng.normal(size=(30, 8)).astype(np.float32), rng.integers(2, size=30), {0: "a", 1: "b"}
    first = pictures.features(pooled, labels, names)
    assert pictures.features(pooled.copy(), labels.copy(), dict(names)) is first
    assert pictures.features(pooled, 1 - labels, names) is not first
    assert pictures.features(pooled, labels, {0: "a", 1: "c"}) is not first
    pixels = [pictures.save(first, tmp_path / name) for name in ("1.png", "2.png")]
    np.testing.assert_array_equal(*pixels)
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()


def test_mistakes(tmp_path):
    Image.fromarray(draw(1, 1, side=40)).save(tmp_path / "a.png")
    surest = [
        pictures.Mistake(str(tmp_path / "a.png"), "tank, main", "truck", p) for p in (0.9, 0.8, 0.7, 0.6, 0.5, 0.4)
    ]
    axis = pictures.mistakes(surest, 7, 100, centre_crop=20).axes[0]
    assert [text.get_text() for text in axis.texts][:2] == ["tank > truck\n90%", "tank > truck\n80%"]
    assert axis.get_title().startswith("the 6 surest of 7 mistakes in 100 images")
    canvas = axis.images[0].get_array()
    side, above = pictures.TILE, pictures.CAPTION
    assert canvas.shape[0] == 2 * (side + above)
    middle = Image.fromarray(draw(1, 1, side=40)[10:30, 10:30]).resize((side, side), Image.Resampling.BILINEAR)
    difference = canvas[above : above + side, :side] - np.asarray(middle, np.float32)
    assert abs(difference).max() <= 1
    second_row = canvas[2 * above + side :, :side]
    np.testing.assert_array_equal(second_row, canvas[above : above + side, :side])
    assert (pictures.mistakes([], 0, 100, 0).axes[0].images[0].get_array() == 255).all()


def test_accuracy_against_shots():
    figure = pictures.accuracy_against_shots({"probe": {5: [40.0, 50.0], 1: [20.0]}, "kNN": {5: [30.0]}})
    line, *_ = figure.axes[0].containers[0]
    np.testing.assert_allclose(line.get_xydata(), [[1, 20], [5, 45]])
    ends = figure.axes[0].containers[0][2][0].get_segments()
    np.testing.assert_allclose(ends[1], [[5, 40], [5, 50]])
    assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()] == ["probe", "kNN"]


def test_every_trainer_has_its_script_and_configs():
    few_shots = {"vit_n16_middle"}
    own = {"MIM_finetune": {"atrnet", "atrnet_published"}, "MIM_linear": few_shots, "kNN": few_shots}
    for trainer in ("MIM_linear", "MIM_finetune", "kNN"):
        assert (STAGE / "scripts" / trainer / "main.sh").is_file()
        found = {path.stem for path in Path(STAGE, "configs/trainers", trainer).iterdir()}
        assert found == {"vit_b16", "vit_t16", "vit_n16"} | own[trainer]
