"""The shell scripts run what they say."""

import os
import subprocess
import sys

import pytest
from small_sets import STAGE, vehicles

SMALL = ["INPUT.SIZE", "(32, 32)", "OPTIM.MAX_EPOCH", "1", "DATALOADER.NUM_WORKERS", "0", "USE_CUDA", "False"]
PROBE, FINETUNE, KNN = (f"scripts/{name}/main.sh" for name in ("MIM_linear", "MIM_finetune", "kNN"))


def bash(script, *args, cwd, **environment):
    environment = os.environ | {"PYTHON": sys.executable} | environment
    command = ["bash", str(STAGE / script), *args]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False, cwd=cwd)


@pytest.mark.parametrize(
    ("script", "trainer", "seeds"), [(PROBE, "MIM_linear", 10), (FINETUNE, "MIM_finetune", 5), (KNN, "kNN", 10)]
)
def test_a_script_runs_all_seeds(tmp_path, script, trainer, seeds):
    """From any folder, into the published tree, with the published names of settings and their defaults."""
    vehicles(tmp_path / "data", train=4, test=3)
    done = bash(script, "MSTAR_EOC1", "vit_t16", "2", "MODEL.RANDOM_INIT", "True", *SMALL, cwd=tmp_path, CHECKPOINT="")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "output/MSTAR_EOC1" / trainer / "vit_t16_2shots"
    assert {path.name for path in folder.iterdir()} == {f"seed{seed}" for seed in range(seeds)}
    assert all("Finish training" in (path / "log.txt").read_text() for path in folder.iterdir())
    summary = f"output/MSTAR_EOC1/{trainer}/vit_t16_2shots: accuracy "
    assert summary in done.stdout


@pytest.mark.parametrize("script", ["MIM_linear.sh", "finetune/MIM_linear.sh"])
def test_the_whole_table_leaves_out_what_is_not_there(tmp_path, script):
    vehicles(tmp_path / "sets")
    settings = {"DATA": str(tmp_path / "sets"), "CFG": "vit_t16", "OUTPUT": "o", "CHECKPOINT": "mine.pth"}
    done = bash(script, cwd=tmp_path, **settings)
    assert "sets/MSTAR_SOC is not there: left out" in done.stdout
    assert done.stderr == "error: mine.pth cannot be read: No such file or directory\n"
    assert done.returncode == 2
    done = bash(script, cwd=tmp_path)
    assert done.stderr == "error: data holds none of the data sets; set DATA to the folder that does\n"
    assert done.returncode == 2
    done = bash(script, "MSTAR_EOC1", cwd=tmp_path, **settings | {"CHECKPOINT": ""})
    assert "MODEL.INIT_WEIGHTS names no checkpoint" in done.stderr


def test_the_published_checkpoint_is_the_default(tmp_path):
    vehicles(tmp_path / "data")
    done = bash(PROBE, "MSTAR_EOC1", "vit_t16", "5", cwd=tmp_path)
    assert done.stderr == "error: checkpoint-200.pth cannot be read: No such file or directory\n"
    done = bash(PROBE, "MSTAR_EOC1", cwd=tmp_path)
    assert done.returncode == 2
    assert "name the data set, the config and the shots" in done.stderr
