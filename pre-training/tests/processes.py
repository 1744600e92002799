"""Processes of a run whose output can be waited for."""

import multiprocessing
import os
import re
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import torch
from process_threads import check_groups_ended
from small_runs import SCRIPT, free_port

# Forked from a process that has imported everything, a run starts seconds sooner
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["hivit_mae.pretraining"])


class Printed:
    """A process, its output and its end."""

    def __init__(self):
        handle, name = tempfile.mkstemp(suffix=".txt")
        os.close(handle)
        self.output = Path(name)

    @property
    def text(self):
        return self.output.read_text()

    def wait_for(self, pattern, seconds=120):
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.text)):
            assert time.monotonic() < deadline, f"no {pattern} in:\n{self.text}"
            time.sleep(0.02)
        return found

    def send_signal(self, number):
        os.kill(self.pid, number)

    def close(self):
        for kill in (os.killpg, os.kill):
            with suppress(ProcessLookupError):
                kill(self.pid, signal.SIGKILL)
        self.output.unlink()


class Command(Printed):
    """A process of any command."""

    def __init__(self, command, environment):
        super().__init__()
        environment = os.environ | {"OMP_NUM_THREADS": "1"} | environment
        with self.output.open("a") as file:
            self.process = subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)
        self.pid = self.process.pid

    def ended(self, seconds=120):
        return self.process.wait(timeout=seconds)


class Run(Printed):
    """A process of main_pretrain.py, or of another script."""

    def __init__(self, arguments, environment, script=SCRIPT, errors=None):
        super().__init__()
        outputs = [str(self.output), str(errors or self.output)]
        self.process = FORKS.Process(target=play, args=(str(script), arguments, environment, outputs))
        self.process.start()
        self.pid = self.process.pid

    def ended(self, seconds=120):
        self.process.join(seconds)
        assert self.process.exitcode is not None, self.text
        return self.process.exitcode


def play(script, arguments, environment, outputs):
    """Be the process of a script, as if started by a shell."""
    os.setsid()
    for stream, output in enumerate(outputs, start=1):
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    os.environ.update(environment)
    multiprocessing.set_start_method("fork", force=True)  # Python's own choice, for the loader's processes
    torch.set_num_threads(1)
    sys.argv = [script, *arguments]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        if end.code in (None, 0, 75):
            check_groups_ended()
        raise


def two(started, arguments, script=SCRIPT):
    """The two processes of a run that no launcher watches over."""
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": "2"}
    places = [{"RANK": str(rank), "LOCAL_RANK": "0"} | meeting for rank in (0, 1)]
    return [started(Run(arguments, place, script)) for place in places]
