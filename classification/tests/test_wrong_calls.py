"""Every wrong call gets one sentence that names what is wrong, and exit code 2: no traceback, nothing begun."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from small_sets import STAGE, options

import parse_test_res
import train
from dassl.utils import load_checkpoint
from hivit_cls import encoder
from saratrx.checkpoint import save_checkpoint
from saratrx.errors import exit_on_input_error

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A checkpoint of HiViT-T."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.pth"
    save_checkpoint(path, model=encoder.backbone("tiny", img_size=48, verbose=False).state_dict())
    return path


def check(code, captured, words, what):
    """One line, or one for each of several mistakes, with the words."""
    assert code == 2, (what, captured.err)
    assert captured.err.startswith("error: "), (what, captured.err)
    assert all(line.startswith("error: ") for line in captured.err.splitlines()), (what, captured.err)
    assert words in captured.err, (what, captured.err)
    assert "Traceback" not in captured.out + captured.err


def refused(capsys, main, argv, words):
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop, exit_on_input_error():
        main([str(word) for word in argv])
    check(stop.value.code, capsys.readouterr(), words, argv)


VALUES = {  # of a key: what the sentence says
    ("INPUT.SIZE", "(0, 0)"): "INPUT.SIZE (0, 0): must be height and width",
    ("INPUT.SIZE", "(48,)"): "INPUT.SIZE (48,): must be height and width",
    ("INPUT.SIZE", "(1600000, 1600000)"): "from 1 to 4096",
    ("INPUT.SIZE", "large"): "INPUT.SIZE large: must be a list",
    ("INPUT.SIZE", "(50, 50)"): "INPUT.SIZE (50, 50): image sides must be multiples of 16",
    ("INPUT.TRANSFORMS", "random_flip"): "INPUT.TRANSFORMS random_flip: must be a list",
    ("INPUT.TRANSFORMS", "[random_flop]"): "INPUT.TRANSFORMS random_flop: unknown",
    ("INPUT.PIXEL_STD", "[0.0, 1.0, 1.0]"): "INPUT.PIXEL_STD [0.0, 1.0, 1.0]: must be as many",
    ("INPUT.INTERPOLATION", "cubic"): "INPUT.INTERPOLATION cubic: unknown",
    ("OPTIM.MAX_EPOCH", "0"): "OPTIM.MAX_EPOCH 0: must be from 1",
    ("OPTIM.MAX_EPOCH", "-1"): "OPTIM.MAX_EPOCH -1: must be from 1",
    ("OPTIM.MAX_EPOCH", "abc"): "OPTIM.MAX_EPOCH abc: must be a whole number",
    ("OPTIM.MAX_EPOCH", "1.5"): "OPTIM.MAX_EPOCH 1.5: must be a whole number",
    ("OPTIM.LR", "nan"): "OPTIM.LR nan: must be a finite number",
    ("OPTIM.LR", "inf"): "OPTIM.LR inf: must be a finite number",
    ("OPTIM.LR", "1e999"): "OPTIM.LR inf: must be a finite number",
    ("OPTIM.LR", "-1"): "OPTIM.LR -1.0: must be above 0",
    ("OPTIM.LR", "fast"): "OPTIM.LR fast: must be a number",
    ("OPTIM.WEIGHT_DECAY", "-0.1"): "OPTIM.WEIGHT_DECAY -0.1: must be from 0",
    ("OPTIM.NAME", "lion"): "OPTIM.NAME lion: unknown",
    ("OPTIM.STEPSIZE", "()"): "OPTIM.STEPSIZE []: must be one or more",
    ("OPTIM.LEARNING_RATE", "1"): "OPTIM.LEARNING_RATE: no such key; did you mean OPTIM.",
    ("OPTIM", "3"): "OPTIM 3: holds keys of its own, such as OPTIM.NAME",
    ("SEED", "None"): "SEED None: must be",
    ("INPUT.SIZE", "None"): "INPUT.SIZE None: must be",
    ("SEED", "1" + 23 * "0"): "SEED 100000000000000000000000: must be from",
    ("DATALOADER.TRAIN_X.BATCH_SIZE", "0"): "DATALOADER.TRAIN_X.BATCH_SIZE 0: must be from 1",
    ("DATALOADER.TEST.BATCH_SIZE", "-5"): "DATALOADER.TEST.BATCH_SIZE -5: must be from 1",
    ("DATALOADER.NUM_WORKERS", "-1"): "DATALOADER.NUM_WORKERS -1: must be from 0",
    ("DATALOADER.TRAIN_X.SAMPLER", "Other"): "DATALOADER sampler Other: unknown",
    ("DATASET.NUM_SHOTS", "-7"): "DATASET.NUM_SHOTS -7: must be from -1",
    ("DATASET.DUPLICATES", "keep"): "DATASET.DUPLICATES keep: unknown; choose one of error, drop, warn",
    ("DATASET.SPLIT_BY", "luck"): "DATASET.SPLIT_BY luck: unknown",
    ("DATASET.CLASSES", "['a', 'a']"): "names a folder twice",
    ("DATASET.CLASSES", "['']"): "'' is no name",
    ("DATASET.NAME", "MSTAR"): 'DATASET.NAME "MSTAR": unknown',
    ("MODEL.PRECISION", "fp8"): "MODEL.PRECISION fp8: unknown",
    ("MODEL.BACKBONE.NAME", "vit"): 'MODEL.BACKBONE.NAME "vit": unknown',
    ("MODEL.INIT_WEIGHTS", "none.pth"): "none.pth cannot be read: No such file or directory; set MODEL.INIT_WEIGHTS",
    ("MODEL.INIT_WEIGHTS", "/"): "/ cannot be read: Is a directory",
    ("TEST.SPLIT", "train"): "TEST.SPLIT train: unknown; choose one of test, val",
    ("TEST.FINAL_MODEL", "first"): "TEST.FINAL_MODEL first: unknown",
    ("TRAIN.PRINT_FREQ", "0"): "TRAIN.PRINT_FREQ 0: must be from 1",
    ("RESUME", "nowhere"): "RESUME nowhere: no such folder",
    ("USE_CUDA", "perhaps"): "USE_CUDA perhaps: must be True or False",
}


@pytest.mark.parametrize("pair", VALUES)
def test_a_wrong_value(root, tmp_path, checkpoint, capsys, pair):
    weights = () if pair[0] == "MODEL.INIT_WEIGHTS" else ("MODEL.INIT_WEIGHTS", checkpoint)
    refused(capsys, train.main, options(root, tmp_path, *weights, *pair), VALUES[pair])


LINES = {  # further words of a command line: what the sentence says
    ("--seeds", "0-99999999999"): "--seeds 0-99999999999: too many or too large",
    ("--seeds", "0-x"): "--seeds 0-x: give numbers and ranges",
    ("--seeds", "5-3"): "--seeds 5-3: names no number",
    ("--shots", "1,1"): "--shots 1,1: names no number, or one twice",
    ("--seed", "1" + 23 * "0"): "is too large",
    ("--seed", "zero"): "--seed: invalid int value: 'zero'",
    ("--seeds", "0", "--eval-only"): "--eval-only and --no-train are for one run",
    ("--root", "nowhere"): "DATASET.ROOT nowhere: no such folder",
    ("--config-file", "none.yaml"): "none.yaml cannot be read: No such file or directory; name a config file",
    ("--dataset-config-file", "/"): "/ cannot be read: Is a directory",
    ("--trainer", "SimCLR"): 'TRAINER.NAME "SimCLR": unknown',
    ("--trainer", "DANN"): "domain adaptation",
    ("--load-epoch", "x"): "--load-epoch: invalid int value",
    ("--resume", "nowhere"): "RESUME nowhere: no such folder",
    ("--output-dir", "/proc/none"): "--output-dir /proc/none cannot be made: No such file or directory; choose another",
}


@pytest.mark.parametrize("words", LINES)
def test_a_wrong_option(root, tmp_path, checkpoint, capsys, words):
    arguments = options(root, tmp_path, "MODEL.INIT_WEIGHTS", checkpoint, flags=words)
    refused(capsys, train.main, arguments, LINES[words])


@pytest.mark.parametrize("words", [("OPTIM.LR",), ("--sede", "0"), ("OPTIM.LR", "0.1", "--sede", "0")])
def test_words_that_are_no_option(root, tmp_path, checkpoint, capsys, words):
    arguments = [*options(root, tmp_path, "MODEL.INIT_WEIGHTS", checkpoint), *words]
    refused(capsys, train.main, arguments, words[-2] if len(words) > 1 else "keys and values must come in pairs")


FILES = {  # content of a config file: what the sentence says
    b"- 1\n- 2\n": "no config: it must hold keys and values",
    b"": "no config: it must hold keys and values",
    b"just text": "no config: it must hold keys and values",
    b"\x89PNG\r\n\x1a\n\xff\xfe": "no config: it is no text in UTF-8",
    b"OPTIM: [\n": "no YAML",
    b"OPTIM: !!python/object/apply:os.getcwd []\n": "could not determine a constructor",
    b"a: " + b"[" * 5000: "too deep",
    b"a: &a [x, x, x, x, x, x, x, x, x]\n"
    + b"".join(b"%c: &%c [%s]\n" % (98 + k, 98 + k, b", ".join([b"*%c" % (97 + k)] * 9)) for k in range(8)): "aliases",
    b"a: &a [*a]\n": "aliases",
    b"OPTIM:\n  LR: 1\n  LR: 2\n": "names the key OPTIM.LR twice",
    b"OPTIM:\n  LR: .inf\n": "OPTIM.LR inf: must be a finite number",
    b"OPTIM:\n  LR: [1]\n": "OPTIM.LR [1]: must be a number",
    b"OPTIM: 3\n": "OPTIM 3: holds keys of its own",
    b"DATASET:\n  CLASSES: a\n": "DATASET.CLASSES a: must be a list",
    b"DATASET:\n  CLASSES: [[a]]\n": "is no name",
    b"x" * 1_100_000: "more than 1,000,000 bytes",
}


@pytest.mark.parametrize("content", FILES, ids=range(len(FILES)))
def test_a_config_that_is_none(root, tmp_path, checkpoint, capsys, content):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    arguments = options(root, tmp_path, "MODEL.INIT_WEIGHTS", checkpoint, flags=["--config-file", path])
    refused(capsys, train.main, arguments, FILES[content])


SPLITS = {  # content of a split file: what the sentence says
    '{"train": [["TRAIN/T72/000.jpeg", 1000000000000, "x"]]}': "label 1000000000000 is no number of a class",
    '{"train": [["TRAIN/T72/000.jpeg", Infinity, "x"]]}': "its labels whole numbers",
    '{"train": [["TRAIN/T72/000.jpeg", true, "x"]]}': "its labels whole numbers",
    '{"train": [["TRAIN/T72/000.jpeg", -1, "x"]]}': "label -1 is negative",
    '{"train": [["TRAIN/T72/000.jpeg", 0, "x"], ["TRAIN/T72/001.jpeg", 0, "y"]]}': "label 0 is called x and y",
    '{"train": [["TRAIN/T72/000.jpeg", 0, "x"], ["TRAIN/T72/001.jpeg", 1, "x"]]}': "'x' has the labels 0 and 1",
    '{"train": [["none.jpeg", 0, "x"]]}': "none.jpeg, which split.json lists: no such file",
    '{"train": [["", 0, "x"]]}': "no such file",
    '{"train": [[0, 0, "x"]]}': "must be",
    '{"train": 3}': "must be",
    "[]": "must be",
    "[" * 100_000: "cannot be read as JSON",
    "{}": "no training image",
}


@pytest.mark.parametrize("content", SPLITS, ids=range(len(SPLITS)))
def test_a_split_file_that_is_none(root, tmp_path, checkpoint, capsys, content):
    shutil.copytree(root, tmp_path / "data")
    (tmp_path / "data/MSTAR_EOC1/split.json").write_text(content)
    arguments = options(tmp_path / "data", tmp_path / "out", "MODEL.INIT_WEIGHTS", checkpoint)
    refused(capsys, train.main, arguments, SPLITS[content])


def change(path, **changes):
    """Write a checkpoint anew with other content, and the hash of that."""
    content = load_checkpoint(path) | changes
    save_checkpoint(path, **{key: value for key, value in content.items() if value != "left out"})


UNFIT = {  # what of a run's checkpoint is changed: what the sentence says
    "no epoch": ({"epoch": "left out"}, "its epoch is None"),
    "epoch": ({"epoch": 10**12}, "its epoch is 1000000000000"),
    "infinite epoch": ({"epoch": float("inf")}, "its epoch is inf"),
    "no weights": ({"state_dict": "left out"}, "has no state_dict"),
    "weights": ({"state_dict": {"x": 1}}, "has no state_dict of tensors"),
    "other weights": ({"state_dict": {"x": torch.zeros(1)}}, "does not fit this model"),
    "optimizer": ({"optimizer": {"state": {}, "param_groups": []}}, "its optimizer's state cannot be used"),
    "no groups": ({"optimizer": {}}, "its optimizer's state cannot be used"),
    "number": ({"optimizer": 3}, "its optimizer's state cannot be used"),
    "schedule": ({"scheduler": {"last_epoch": 3}}, "its scheduler's state cannot be used"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_checkpoint_that_does_not_fit_the_run(root, tmp_path, checkpoint, finished, capsys, name):
    shutil.copytree(finished, tmp_path / "out")
    changes, words = UNFIT[name]
    change(tmp_path / "out/probe/model.pth.tar-3", **changes)
    arguments = options(root, tmp_path / "out", "MODEL.INIT_WEIGHTS", checkpoint, flags=["--seed", 0])
    refused(capsys, train.main, arguments, words)


def test_moments_of_other_shapes(root, tmp_path, checkpoint, finished, capsys):
    """PyTorch's optimizers load them without a look, and fail in the first step."""
    shutil.copytree(finished, tmp_path / "out")
    path = tmp_path / "out/probe/model.pth.tar-3"
    state = load_checkpoint(path)["optimizer"]
    state["state"][0]["exp_avg"] = torch.zeros(7)
    change(path, optimizer=state)
    arguments = options(root, tmp_path / "out", "MODEL.INIT_WEIGHTS", checkpoint, flags=["--seed", 0])
    refused(capsys, train.main, arguments, "exp_avg has shape [7], its parameter [32]")


def test_a_checkpoint_of_another_size_is_named(root, tmp_path, tiny, capsys):
    arguments = options(root, tmp_path, "MODEL.INIT_WEIGHTS", tiny, "MODEL.BACKBONE.NAME", "hivit_base")
    refused(
        capsys,
        train.main,
        arguments,
        "is of a HiViT-tiny, and this model is a HiViT-base: choose that size, such as CFG=vit_t16",
    )


def test_wrong_calls_of_the_parser(tmp_path, finished, capsys):
    seeds = tmp_path / "seeds"
    shutil.copytree(finished, seeds / "seed0")
    (tmp_path / "file").touch()
    calls = {
        (tmp_path / "none",): "none: no such folder",
        (tmp_path / "file",): "file: no such folder",
        (): "required: directory",
        (seeds, "--keyword", "recall"): "log.txt with 'recall'",
        (tmp_path,): "no subfolder holds a finished run's results.json",
        (seeds, "--multi-exp"): "give the folder of the seeds",
        (seeds, "--markdown", tmp_path / "none/t.md"): "none/t.md cannot be written: No such file or directory",
        (seeds, "--csv", tmp_path / "file/t.csv"): "file/t.csv cannot be written: Not a directory",
        (seeds, "--csv", tmp_path): "is a folder: name a file for the table",
        (seeds, "--marcdown", "t.md"): "unrecognized arguments: --marcdown t.md",
    }
    for argv, words in calls.items():
        refused(capsys, parse_test_res.main, argv, words)


def bash(script, *args, cwd, **environment):
    command = ["bash", str(STAGE / script), *args]
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": sys.executable} | environment
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False, cwd=cwd)


@pytest.mark.parametrize(
    ("script", "words", "environment", "sentence"),
    [
        ("MIM_linear.sh", (), {"DATA": "none"}, "none holds none of the data sets; set DATA"),
        ("MIM_linear.sh", ("MSTAR",), {}, "datasets/MSTAR.yaml: no such config; there are ATRNet_EOC_Az"),
        ("MIM_linear.sh", ("MSTAR_SOC",), {"CFG": "vit_h"}, "MIM_linear/vit_h.yaml: no such config; there are vit_b16"),
        ("MIM_linear.sh", ("MSTAR_SOC",), {"PYTHON": "/no/python"}, "/no/python is no Python with this project in it"),
        ("finetune/MIM_linear.sh", ("MSTAR_SOC",), {"PYTHON": "/bin/false"}, "/bin/false is no Python with this"),
        ("scripts/kNN/main.sh", ("MSTAR_SOC",), {}, "name the data set, the config and the shots"),
        ("scripts/MIM_finetune/main.sh", ("MSTAR_SOC", "vit_t16", "5"), {"DATA": "none"}, "DATASET.ROOT none: no such"),
        ("scripts/MIM_linear/main.sh", ("MSTAR_SOC", "vit_t16", "5"), {"CHECKPOINT": "a.pth"}, "a.pth cannot be read"),
    ],
)  # fmt: skip
def test_wrong_calls_of_the_scripts(tmp_path, script, words, environment, sentence):
    done = bash(script, *words, cwd=tmp_path, **environment)
    check(done.returncode, pytest_captured(done), sentence, script)
    if "PYTHON" not in environment:
        assert len(done.stderr.splitlines()) <= 2


def pytest_captured(done):
    """Give a process's output in the form of capsys's."""
    return type("Captured", (), {"out": done.stdout, "err": done.stderr})


def test_a_wrong_call_is_told_before_pytorch_is_imported(tmp_path):
    """That alone takes seconds."""
    code = "import sys, train\ntry:\n    train.main(sys.argv[1:])\nexcept Exception as error:\n    print(error)\n"
    code += "print('torch' in sys.modules)"
    for argv in (["--seeds", "x"], ["OPTIM.LR", "nan"], ["--root", "none"], ["--config-file", "x.yaml"], ["A.B", "1"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *argv], cwd=STAGE, capture_output=True, text=True, check=True
        )
        assert done.stdout.endswith("\nFalse\n"), done.stdout


def test_results_that_are_no_json_numbers_do_not_count(tmp_path, finished, capsys):
    seeds = tmp_path / "seeds"
    shutil.copytree(finished, seeds / "seed0")
    (seeds / "seed0/log.txt").unlink()
    for results in ('{"accuracy": NaN}', '{"accuracy": Infinity}', '{"accuracy": true}', '{"accuracy": ' + "[" * 9999):
        (seeds / "seed0/results.json").write_text('{"trained": true, "results": ' + results + "}")
        refused(capsys, parse_test_res.main, [seeds], "no subfolder holds a finished run's")
    (seeds / "seed0/results.json").write_text(json.dumps({"trained": True, "results": {"accuracy": 50}}))
    parse_test_res.main([str(seeds)])
    assert "* accuracy: 50.00% +- 0.00%" in capsys.readouterr().out
