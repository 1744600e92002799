import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from hivit_mae.cluster.distributed import Processes
from hivit_mae.data.loading import BatchLoader, open_images
from hivit_mae.run.options import DataOptions
from saratrx.errors import InputError, sentence


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(26):
        pixels = rng.integers(0, 256, (40 + number % 3, 40), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number:02d}.png")
    return tmp_path


def make(folder, workers=0, augment="loader", batch_size=4, rank=0, world_size=1, seed=0):
    processes = Processes(rank, world_size, torch.device("cpu"))
    data = DataOptions(data_path=(str(folder),), augment=augment, max_bad=0.0)
    source = open_images(data, processes, input_size=32, batch_size=batch_size, seed=seed, sizes_folder=folder)
    return BatchLoader(source, processes, batch_size, workers)


def all_indices(batches):
    return [batch.indices.tolist() for batch in batches]


@pytest.mark.parametrize("augment", ["loader", "device"])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_can_be_entered_at_any_batch(folder, workers, augment):
    loader = make(folder, workers, augment)
    state = torch.get_rng_state()
    epochs = [list(loader.batches(epoch)) for epoch in range(2)]
    assert torch.equal(state, torch.get_rng_state())
    assert loader.batches_per_epoch == len(epochs[0]) == 6  # the last two images are left out
    assert all(b.images.shape == (4, 1, 32, 32) and b.images.dtype == torch.float32 for b in epochs[0])
    assert all_indices(epochs[0]) != all_indices(epochs[1])
    for first in (0, 1, 5, 6):
        tail = list(loader.batches(0, first))
        assert all_indices(tail) == all_indices(epochs[0][first:])
        assert all(torch.equal(a.images, b.images) for a, b in zip(tail, epochs[0][first:], strict=True))


def test_a_new_epoch_may_begin_before_the_last_one_ended(folder):
    loader = make(folder, 2)
    whole = all_indices(loader.batches(3))
    begun = loader.batches(1)
    next(begun)
    assert all_indices(loader.batches(3)) == whole


@pytest.mark.parametrize("augment", ["loader", "device"])
def test_indices_name_the_images(folder, augment):
    loader = make(folder, augment=augment)
    batch = next(loader.batches(2))
    for index, image in zip(batch.indices.tolist(), batch.images, strict=True):
        assert loader.source.name(index).endswith(f"{index:02d}.png")
        source = np.array(Image.open(loader.source.name(index)))
        augmentation = loader.source.augmentation
        expected = augmentation.apply(source, augmentation.draw(2, index, *source.shape))
        assert (image - expected).abs().max() < 3 / 255


def test_any_number_of_processes_sees_the_same_batches(folder):
    whole = list(make(folder, batch_size=6).batches(1))
    ranks = [list(make(folder, batch_size=2, rank=rank, world_size=3).batches(1)) for rank in range(3)]
    assert len(whole) == 4
    for number, batch in enumerate(whole):
        parts = [rank[number] for rank in ranks]
        assert torch.stack([part.indices for part in parts], dim=1).flatten().tolist() == batch.indices.tolist()
        assert torch.equal(torch.stack([part.images for part in parts], dim=1).flatten(0, 1), batch.images)


def test_the_order_depends_on_the_seed(folder):
    assert all_indices(make(folder, seed=1).batches(0)) != all_indices(make(folder, seed=2).batches(0))


def test_waiting_is_counted(folder, monkeypatch):
    loader = make(folder)
    read = loader.source.read
    monkeypatch.setattr(loader.source, "read", lambda index: (time.sleep(0.01), read(index))[1])
    begun = time.perf_counter()
    for _ in loader.batches(0):
        time.sleep(0.05)  # a step
    assert 24 * 0.01 < loader.seconds_waited < time.perf_counter() - begun - 6 * 0.05


def test_a_run_has_one_side_stream(folder, monkeypatch):
    """With stand-ins for what CUDA brings; the batches are those without it."""
    loader, made = make(folder), []
    stream = SimpleNamespace(record_event=lambda: SimpleNamespace(query=lambda: True), wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: (made.append(device), stream)[1])
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda which: contextlib.nullcontext())
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, which: None)
    expected = all_indices(loader.batches(0)) + all_indices(loader.batches(1))
    found = []
    for epoch in (0, 1):
        loader.source.start(epoch)
        found += all_indices(loader.on_side_stream(iter(loader.loader)))
    assert found == expected
    assert made == [loader.device]


def test_folders_of_images_need_no_webdataset_opencv_or_tensorboard():
    names = ("webdataset", "cv2", "tensorboard", "rasterio", "matplotlib")
    script = f"import sys; sys.modules |= dict.fromkeys({names}); import hivit_mae.pretraining"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_mistake_that_a_worker_finds_is_told_in_its_sentence(folder, monkeypatch):
    loader = make(folder, 1)

    def broken(index):
        raise InputError("file.png is broken; mend it")

    monkeypatch.setattr(loader.source, "read", broken)
    with pytest.raises(InputError) as raised:
        next(loader.batches(0))
    assert sentence(raised.value) == "file.png is broken; mend it"


def test_workers_outlive_the_signals_of_a_job_and_end_with_it(folder):
    """A whole process group is told to end; the main process alone decides, here to go on and to end with an error."""
    script = f"""
import multiprocessing, signal, sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_loading import all_indices, make
told = []
for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
    signal.signal(number, lambda number, frame: told.append(number))
loader = make({str(folder)!r}, workers=2)
whole = all_indices(loader.batches(0))
workers = {{worker.pid for worker in multiprocessing.active_children()}}
print(*workers, flush=True)
while len(told) < 3:
    time.sleep(0.01)
assert all_indices(loader.batches(0)) == whole
assert {{worker.pid for worker in multiprocessing.active_children()}} == workers
batches = loader.batches(0)
next(batches)
raise SystemExit(3)
"""
    run = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True)
    workers = run.stdout.readline().split()
    assert len(workers) == min(2, len(os.sched_getaffinity(0)))
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        os.killpg(run.pid, number)
    assert run.wait(timeout=120) == 3
    assert not any(is_running(Path(f"/proc/{worker}")) for worker in workers)


def test_the_workers_of_a_killed_run_end(folder):
    def run():
        batches = make(folder, workers=2).batches(0)
        next(batches)
        sender.send([worker.pid for worker in multiprocessing.active_children()])
        os.kill(os.getpid(), signal.SIGKILL)

    receiver, sender = multiprocessing.Pipe(duplex=False)
    killed = multiprocessing.get_context("fork").Process(target=run)
    killed.start()
    workers = [Path(f"/proc/{pid}") for pid in receiver.recv()]
    killed.join()
    deadline = time.monotonic() + 15  # they look for their parent every 5 s
    while any(is_running(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(is_running(worker) for worker in workers)


def is_running(process):
    try:
        return process.joinpath("stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
