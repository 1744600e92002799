"""slurm_pretrain.sh, with programs that stand in for Slurm's."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

STAGE = Path(__file__).parents[1]

SRUN = """#!/usr/bin/env bash
# two tasks of the step; a signal goes to both
while [[ $1 == --* ]]; do shift; done
export SLURM_NTASKS=2
SLURM_PROCID=0 SLURM_LOCALID=0 "$@" & first=$!
SLURM_PROCID=1 SLURM_LOCALID=1 "$@" & second=$!
trap 'kill -TERM $first $second' TERM
while kill -0 $first 2> /dev/null; do wait $first; code=$?; done
wait $second
exit $code
"""
SCONTROL = """#!/usr/bin/env bash
if [ "$1" = show ]; then echo node7; echo node8; else echo "$@" >> "$FOLDER/requeued"; fi
"""
PYTHON = f"""#!{sys.executable}
import os, signal, sys, time
names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
path = os.environ["FOLDER"] + "/task" + os.environ["RANK"]
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
with open(path + ".new", "w") as file:
    print(*(os.environ[name] for name in names), *sys.argv[1:], file=file)
os.rename(path + ".new", path)
if "--wait" in sys.argv:
    time.sleep(60)
sys.exit(int(os.environ["CODE"]))
"""


@pytest.fixture
def slurm(tmp_path):
    """Start the script as sbatch would."""
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("python", PYTHON)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    def start(*options, code=0, folder=STAGE):
        environment = os.environ | {
            "PATH": f"{tmp_path}:{os.environ['PATH']}", "FOLDER": str(tmp_path), "CODE": str(code),
            "PYTHON": str(tmp_path / "python"), "SLURM_SUBMIT_DIR": str(folder), "SLURM_JOB_ID": "12345",
            "SLURM_JOB_NODELIST": "node[7-8]",
        }  # fmt: skip
        command = ["bash", str(STAGE / "slurm_pretrain.sh"), *options]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


def test_every_task_knows_its_place(slurm, tmp_path):
    run = slurm("--data_path", "a folder", "--epochs", "3")
    assert run.wait(timeout=60) == 0
    for rank in (0, 1):
        expected = f"{rank} 2 {rank} node7 32345 {STAGE}/main_pretrain.py --resume auto --data_path a folder --epochs 3"
        assert (tmp_path / f"task{rank}").read_text() == expected + "\n"
    assert not (tmp_path / "requeued").exists()


@pytest.mark.parametrize(("code", "requeued"), [(75, True), (1, False), (2, False)])
def test_only_a_run_that_saved_its_state_is_queued_again(slurm, tmp_path, code, requeued):
    run = slurm("--data_path", "x", code=code)
    assert run.wait(timeout=60) == code
    assert (tmp_path / "requeued").exists() == requeued
    if requeued:
        assert (tmp_path / "requeued").read_text() == "requeue 12345\n"


def test_a_preempted_job_waits_for_its_run_and_is_queued_again(slurm, tmp_path):
    run = slurm("--data_path", "x", "--wait")
    deadline = time.monotonic() + 30
    while not all((tmp_path / f"task{rank}").exists() for rank in (0, 1)) and time.monotonic() < deadline:
        time.sleep(0.05)
    run.send_signal(signal.SIGTERM)
    assert run.wait(timeout=60) == 75
    assert (tmp_path / "requeued").read_text() == "requeue 12345\n"


def test_a_folder_without_the_stage_is_refused(slurm, tmp_path):
    run = slurm("--data_path", "x", folder=tmp_path)
    assert run.wait(timeout=60) == 2
    assert run.stderr.read().startswith(f"error: no main_pretrain.py in {tmp_path}")
