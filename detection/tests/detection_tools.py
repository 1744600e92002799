"""The stage's commands, in this process or in one of their own."""

import contextlib
import io
import os
import runpy
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

STAGE = Path(__file__).parents[1]
MICRO = {  # of a config: the backbone of saratrx.hivit.SIZES["micro"]
    "model.backbone.embed_dim": 32,
    "model.backbone.depths": [1, 1, 2],
    "model.backbone.num_heads": 2,
    "model.backbone.out_indices": ["H", "M", 1, 1],
    "model.backbone.global_indices": [1],
    "model.backbone.init_cfg": None,
    "model.neck.in_channels": [8, 16, 32, 32],
}


@dataclass
class Done:
    """What a command did, as subprocess.run says it."""

    returncode: int
    stdout: str
    stderr: str


def run_here(script, *args, cwd="."):
    """Run a script of the stage as a command in this process, which has imported PyTorch already."""
    out, err, code = io.StringIO(), io.StringIO(), 0
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
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PORT": port, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=cwd, env=environment)


def run_and_list_imports(script, *args, cwd):
    """Run a script in a process of its own: what it did, and the top-level names of all modules that it imported."""
    done = run(script, *args, cwd=cwd, python=("-X", "importtime"))
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return done, {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
