"""The stage's commands, in this process or in one of their own."""

import contextlib
import io
import multiprocessing
import os
import runpy
import secrets
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from mmdet.visualization import DetLocalVisualizer
from process_threads import check_groups_ended

from hivit_det.scenes.scene import Scene
from saratrx import sar_files

STAGE = Path(__file__).parents[1]
# Forked from a process that has imported everything, a command starts seconds sooner
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["hivit_det.training", "hivit_det.testing"])
MICRO = {  # of a config: the backbone of saratrx.hivit.SIZES["micro"]
    "model.backbone.embed_dim": 32,
    "model.backbone.depths": [1, 1, 2],
    "model.backbone.num_heads": 2,
    "model.backbone.out_indices": ["H", "M", 1, 1],
    "model.backbone.global_indices": [1],
    "model.backbone.init_cfg": None,
    "model.neck.in_channels": [8, 16, 32, 32],
}


def scene_of(values):
    """Open an array [H, W] as a scene, in memory."""
    content = io.BytesIO()
    np.save(content, values)
    return Scene(Path("scene"), sar_files.open("scene.npy", content.getvalue()))


@dataclass
class Done:
    """What a command did, as subprocess.run says it."""

    returncode: int
    stdout: str
    stderr: str


def run_here(script, *args, cwd="."):
    """Run a script of the stage as a command in this process, which has imported PyTorch already."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    DetLocalVisualizer._instance_dict.clear()  # MMEngine keeps the one of an earlier run, which writes to its folder
    with (
        patch.object(sys, "argv", [script, *map(str, args)]),
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            runpy.run_path(str(STAGE / script), run_name="__main__")
        except SystemExit as stop:
            code = stop.code or 0
            if isinstance(code, str):
                print(code, file=err)
                code = 1
    return Done(code, out.getvalue(), err.getvalue())


def run(script, *args, cwd, python=()):
    """Run a script of the stage in a process of its own, with options for Python."""
    command = [str(STAGE / script), *map(str, args)]
    if script.endswith(".py"):
        command = [sys.executable, *python, *command]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=cwd, env=environment)


def free_port():
    """Find a port that nobody listens to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


class Forked:
    """A command in a process of its own, started at once; its output goes to a file."""

    def __init__(self, output, script, *args, cwd, environment=None):
        self.output = output
        words = [script, *map(str, args)]
        self.process = FORKS.Process(target=play, args=(words, str(cwd), environment or {}, str(output)))
        self.process.start()

    def ended(self, seconds=200):
        """Wait for its end: what it did, with all that it printed as `stdout`."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, self.output.read_text()
        return Done(self.process.exitcode, self.output.read_text(), "")

    def wait_for(self, is_so, seconds=100):
        """Wait until something is so, while it runs."""
        end = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < end, self.output.read_text()
            assert self.process.is_alive(), self.output.read_text()
            time.sleep(0.01)


def play(words, cwd, environment, output):
    """Be the process of a command."""
    os.setsid()
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.chdir(cwd)
    os.environ.update(environment)
    multiprocessing.set_start_method("fork", force=True)  # Python's own choice, for the loader's processes
    torch.set_num_threads(1)
    sys.argv = words
    runpy.run_path(str(STAGE / words[0]), run_name="__main__")
    check_groups_ended()


def run_two(script, *args, folder):
    """Run a command in two processes that share their work, as torchrun starts them."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    args, started = [*args, "--launcher", "pytorch"], []
    for rank in ("0", "1"):
        place = shared | {"RANK": rank, "LOCAL_RANK": rank}
        started.append(Forked(folder / f"{secrets.token_hex(4)}.txt", script, *args, cwd=folder, environment=place))
    done = [each.ended() for each in started]
    return Done(max(each.returncode for each in done), "".join(each.stdout for each in done), "")


def run_and_list_imports(script, *args, cwd):
    """Run a script in a process of its own: what it did, and the top-level names of all modules that it imported."""
    done = run(script, *args, cwd=cwd, python=("-X", "importtime"))
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return done, {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
