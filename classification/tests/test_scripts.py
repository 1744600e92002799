"""The shell scripts run what they say."""

import os
import subprocess
import sys

import pytest
from small_sets import STAGE, vehicles

import train
from hivit_cls.results import read_metric
from saratrx.errors import exit_on_input_error

SMALL = ["MODEL.RANDOM_INIT", "True", "MODEL.BACKBONE.NAME", "hivit_micro", "INPUT.SIZE", "(32, 32)"]
SMALL += ["OPTIM.MAX_EPOCH", "1", "DATALOADER.NUM_WORKERS", "0", "USE_CUDA", "False"]
PROBE, FINETUNE, KNN = (f"scripts/{name}/main.sh" for name in ("MIM_linear", "MIM_finetune", "kNN"))
MISSING = (
    "cannot be read: No such file or directory; set MODEL.INIT_WEIGHTS, or CHECKPOINT for a script, to a checkpoint\n"
)


def bash(script, *args, cwd, **environment):
    environment = os.environ | {"PYTHON": sys.executable} | environment
    command = ["bash", str(STAGE / script), *args]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False, cwd=cwd)


@pytest.fixture
def script(tmp_path, monkeypatch, capsys):
    """Runs a script from `tmp_path`, but for train.py in this process; gives exit code, stdout and stderr."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nfor word; do echo "$word"; done > words\n')
    python.chmod(0o755)

    def run(name, *args, **environment):
        words = tmp_path / "words"
        words.unlink(missing_ok=True)
        done = bash(name, *args, cwd=tmp_path, **environment | {"PYTHON": str(python)})
        if not words.exists():
            return done.returncode, done.stdout, done.stderr
        path, *arguments = words.read_text().splitlines()
        assert path == str(STAGE / "train.py")
        monkeypatch.chdir(tmp_path)
        capsys.readouterr()
        code = 0
        try:
            with exit_on_input_error():
                train.main(arguments)
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return code, done.stdout + captured.out, done.stderr + captured.err

    return run


def check_tree(folder, trainer, seeds):
    assert {path.name for path in folder.iterdir()} == {f"seed{seed}" for seed in range(seeds)}
    assert all("Finish training" in (path / "log.txt").read_text() for path in folder.iterdir())
    assert all(read_metric(path) is not None for path in folder.iterdir())


@pytest.mark.parametrize(
    ("name", "trainer", "seeds"), [(PROBE, "MIM_linear", 10), (FINETUNE, "MIM_finetune", 5), (KNN, "kNN", 10)]
)
def test_a_script_runs_all_seeds(tmp_path, script, undrawn, name, trainer, seeds):
    """From any folder, into the published tree, with the published names of settings and their defaults."""
    vehicles(tmp_path / "data", train=4, test=2)
    code, out, err = script(name, "MSTAR_EOC1", "vit_t16", "2", *SMALL, CHECKPOINT="")
    assert (code, err) == (0, "")
    check_tree(tmp_path / "output/MSTAR_EOC1" / trainer / "vit_t16_2shots", trainer, seeds)
    assert f"output/MSTAR_EOC1/{trainer}/vit_t16_2shots: accuracy " in out


def test_a_script_runs_in_a_process_of_its_own(tmp_path):
    vehicles(tmp_path / "data", train=4, test=2)
    done = bash(PROBE, "MSTAR_EOC1", "vit_t16", "2", *SMALL, cwd=tmp_path, CHECKPOINT="", SEEDS="0-1")
    assert done.returncode == 0, done.stderr
    check_tree(tmp_path / "output/MSTAR_EOC1/MIM_linear/vit_t16_2shots", "MIM_linear", 2)
    assert "output/MSTAR_EOC1/MIM_linear/vit_t16_2shots: accuracy " in done.stdout


@pytest.mark.parametrize("name", ["MIM_linear.sh", "finetune/MIM_linear.sh"])
def test_the_whole_table_leaves_out_what_is_not_there(tmp_path, script, name):
    vehicles(tmp_path / "sets")
    settings = {"DATA": str(tmp_path / "sets"), "CFG": "vit_t16", "OUTPUT": "o", "CHECKPOINT": "mine.pth"}
    code, out, err = script(name, **settings)
    assert "sets/MSTAR_SOC is not there: left out" in out
    assert (code, err) == (2, f"error: mine.pth {MISSING}")
    code, _, err = script(name)
    assert (code, err) == (2, "error: data holds none of the data sets; set DATA to the folder that does\n")
    code, _, err = script(name, "MSTAR_EOC1", **settings | {"CHECKPOINT": ""})
    assert code == 2
    assert "MODEL.INIT_WEIGHTS names no checkpoint" in err


def test_the_published_checkpoint_is_the_default(tmp_path, script):
    vehicles(tmp_path / "data")
    code, _, err = script(PROBE, "MSTAR_EOC1", "vit_t16", "5")
    assert (code, err) == (2, f"error: checkpoint-200.pth {MISSING}")
    code, _, err = script(PROBE, "MSTAR_EOC1")
    assert code == 2
    assert "name the data set, the config and the shots" in err
