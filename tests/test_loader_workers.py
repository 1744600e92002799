import subprocess
import sys
import time
from pathlib import Path

import pytest

from saratrx.errors import InputError
from saratrx.loader_workers import lost_workers_named


@pytest.mark.parametrize(
    "text",
    [
        "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out of "
        "shared memory. Please try to raise your shared memory limit.",
        "unable to write to file </torch_7_1_0>: No space left on device (28)",
        "unable to allocate shared memory(shm) for file </torch_7>: No space left on device (28)",
        "DataLoader worker (pid(s) 7) exited unexpectedly",
    ],
)
def test_a_worker_that_died_gets_a_sentence(text):
    said = r"/dev/shm is too small.*--shm-size.*--num_workers 0"
    with pytest.raises(InputError, match=said), lost_workers_named("--num_workers 0"):
        raise RuntimeError(text)


@pytest.mark.parametrize("text", ["other", "CUDA error: a kernel is out of shared memory"])
def test_other_errors_stay(text):
    with pytest.raises(RuntimeError, match=text), lost_workers_named("--num_workers 0"):
        raise RuntimeError(text)


BUSY = """
import os, sys, time
import torch
from saratrx.loader_workers import end_with_parent

class Large(torch.utils.data.Dataset):
    def __len__(self):
        return 1000
    def __getitem__(self, index):
        return torch.zeros(3_000_000)  # the results of one worker fill its pipe, since nobody fetches them

iterator = iter(torch.utils.data.DataLoader(Large(), num_workers=2, worker_init_fn=end_with_parent))
next(iterator)
print(*(worker.pid for worker in iterator._workers), flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="by a call of Linux")
def test_workers_end_with_a_run_that_is_killed():
    run = subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, text=True)
    workers = run.stdout.readline().split()
    assert len(workers) == 2
    run.kill()
    run.wait()
    deadline = time.monotonic() + 5
    while any(is_alive(pid) for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_alive(pid):
    """Whether a process runs; one that nobody waits for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
