"""Runs of main_pretrain.py with a model that trains in a second."""

import contextlib
import io
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import torch

from hivit_mae import pretraining
from hivit_mae.run.options import parse_options

SCRIPT = Path(__file__).parents[1] / "main_pretrain.py"


def options(images, output, **changes):
    """The command line of a small run; in float32, so that it is exact on every CPU."""
    values = {
        "model": "mae_hivit_micro_dec32d1b", "data_path": images, "output_dir": output, "input_size": 48,
        "batch_size": 8, "epochs": 2, "warmup_epochs": 1, "lr": 1e-3, "num_workers": 1, "device": "cpu", "amp": "off",
        "image_every": 0,
    }  # fmt: skip
    values |= changes
    return [word for name, value in values.items() for word in (f"--{name}", *str(value).split(" "))]


def run(arguments, launcher=(), script=SCRIPT):
    """A finished process of the run, on one thread: a model this small gains nothing from more."""
    command = [sys.executable, *launcher, str(script), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)


def run_here(arguments):
    """The run in this process, which starts ten seconds sooner; returns what it printed."""
    printed, threads, precision = io.StringIO(), torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_num_threads(1)
    try:
        with contextlib.redirect_stdout(printed):
            pretraining.run(parse_options(arguments))
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
    return printed.getvalue()


def losses(output):
    """The epochs and losses of log.txt."""
    entries = [json.loads(line) for line in (output / "log.txt").read_text().splitlines()]
    assert all(entry.keys() == {"train_lr", "train_loss", "epoch"} for entry in entries)
    return {entry["epoch"]: entry["train_loss"] for entry in entries}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])
