"""Batches for the training step, on its device before it asks for them."""

import functools
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from hivit_mae.cluster.distributed import Processes, broadcast_from_main
from hivit_mae.data import resample
from hivit_mae.data.folders import FolderImages
from hivit_mae.data.reading import warn_of_doubts
from hivit_mae.data.source import ImageSource, Sample
from hivit_mae.run.options import DataOptions, is_shards
from saratrx.cores import available
from saratrx.errors import InputError
from saratrx.loader_workers import end_with_parent

PREFETCHED = 2  # batches of each worker, DataLoader's default
BYTES_OF_A_PIXEL = 4  # float32


class Batch(NamedTuple):
    """Augmented images and where they are from."""

    indices: torch.Tensor  # [B] int64, on the CPU; source.name(i) names the image
    images: torch.Tensor  # [B, 1, S, S] float32 in [0, 1], on the device


def open_images(
    data: DataOptions, processes: Processes, *, input_size: int, batch_size: int, seed: int, sizes_folder: Path
) -> ImageSource:
    """Open the images of --data_path; all processes call this.

    Args:
        data: where they are and how they are read.
        processes: this one and the others, which share the images.
        input_size: side of the augmented images in pixels.
        batch_size: images per batch of one process.
        seed: decides order and augmentation.
        sizes_folder: keeps the numbers of images of shards, see `count_images`.

    Raises:
        InputError: if there are none, or the cache cannot be written.

    """
    on_device = data.augment == "device"
    rank, world_size = processes.rank, processes.world_size
    if not any(map(is_shards, data.data_path)):
        images = FolderImages(
            data.data_path,
            input_size,
            seed,
            data.max_bad,
            cache=data.cache,
            reading=data.reading,
            on_device=on_device,
            batch_size=batch_size,
            rank=rank,
            world_size=world_size,
        )
        if processes.is_main:
            for folder, paths in images.by_folder:
                warn_of_doubts(f"--data_path {folder}", paths, data.reading)
        return images
    # with WebDataset, which nothing else needs
    from hivit_mae.data.shards import ShardImages, count_images, find_shards  # noqa: PLC0415

    shards = find_shards(data.data_path, data.cache)
    return ShardImages(
        shards,
        broadcast_from_main(lambda: count_images(shards, sizes_folder), processes),
        input_size,
        seed,
        data.max_bad,
        reading=data.reading,
        on_device=on_device,
        batch_size=batch_size,
        rank=rank,
        world_size=world_size,
    )


class BatchLoader:
    """Batches of one process, made by loader workers.

    Args:
        source: the images.
        processes: this one and the others.
        batch_size: images per batch of one process.
        num_workers: loader processes, at most; there are never more than cores.
        pin_memory: for faster copies to a GPU.

    Attributes:
        batches_per_epoch: whole ones; an incomplete last one is left out.
        seconds_waited: so far; how long the training step could not go on for want of data.

    """

    def __init__(
        self,
        source: ImageSource,
        processes: Processes,
        batch_size: int,
        num_workers: int,
        pin_memory: bool = True,
    ) -> None:
        self.source, self.device = source, processes.device
        self.batches_per_epoch = len(source) // processes.world_size // batch_size
        self.seconds_waited = 0.0
        workers = min(num_workers, available())
        if not source.on_device:  # else the size of a batch follows from its images
            check_shared_memory(workers * PREFETCHED * batch_size * source.input_size**2 * BYTES_OF_A_PIXEL)
        self.loader: DataLoader[Sample] = DataLoader(
            cast(Dataset[Sample], source),  # a Protocol cannot say that it is one
            batch_size=batch_size,
            sampler=source.sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=resample.collate_crops if source.on_device else default_collate,
            pin_memory=pin_memory and self.device.type == "cuda",
            drop_last=True,
            worker_init_fn=outlive_signals,
            generator=torch.Generator(),  # its own, or each epoch would draw from the global one
        )

    def batches(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Give the batches of an epoch, counted from 0, from number `first` on.

        On a GPU, a batch is copied, and augmented if that is left to the device, while the step before it runs.

        Raises:
            InputError: from a loader worker; its text is then a traceback, for `saratrx.errors.sentence`.

        """
        self.source.start(epoch, first)
        iterator = iter(self.loader)
        if self.device.type == "cuda":
            yield from self.on_side_stream(iterator)
            return
        while True:
            begun = time.perf_counter()
            loaded = next(iterator, None)
            self.seconds_waited += time.perf_counter() - begun
            if loaded is None:
                return
            yield self.finish(loaded)

    @functools.cached_property
    def side_stream(self) -> torch.cuda.Stream:
        """The stream of the loader's work, one for the whole run: the memory that one frees is for it alone."""
        return torch.cuda.Stream(self.device)

    def on_side_stream(self, iterator: Iterator[Any]) -> Iterator[Batch]:
        """Finish batches on a stream of their own, beside the training step's."""
        stream = self.side_stream
        while True:
            step_done = torch.cuda.current_stream(self.device).record_event()
            begun = time.perf_counter()
            loaded = next(iterator, None)
            if step_done.query():  # else the step before is still running: nothing waits for this batch yet
                self.seconds_waited += time.perf_counter() - begun
            if loaded is None:
                return
            with torch.cuda.stream(stream):
                batch = self.finish(loaded)
            training = torch.cuda.current_stream(self.device)
            training.wait_stream(stream)
            batch.images.record_stream(training)
            yield batch

    def finish(self, loaded: Any) -> Batch:
        """Bring what a worker made to the device, with the augmentation that was left to it."""
        if self.source.on_device:
            images = resample.resize_crops(loaded.to(self.device), self.source.input_size)
            return Batch(torch.tensor(loaded.indices), images)
        indices, images = loaded
        return Batch(indices, images.to(self.device, non_blocking=True))


def check_shared_memory(needed: int, folder: str = "/dev/shm") -> None:
    """Refuse to start workers whose batches do not fit into shared memory, where they would die of a bus error.

    Args:
        needed: bytes of all batches that wait there at once.
        folder: what shared memory is mounted on; where it is not, nothing is checked.

    Raises:
        InputError: naming the folder, the bytes and the way out.

    """
    if needed and Path(folder).is_dir():
        room = shutil.disk_usage(folder).free
        if room < needed:
            raise InputError(
                f"{folder} has {room / 1e6:.1f} MB free, and the loader's workers need {needed / 1e6:.1f} MB: give the "
                "container more (docker run --shm-size 1g), or set --num_workers 0"
            )


def outlive_signals(worker: int) -> None:
    """Let a loader worker live on: a signal for all processes of a job is for the main one, which ends its workers."""
    end_with_parent(worker)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # in all threads: the next one waits for it
    threading.Thread(target=end_when_the_parent_says, daemon=True).start()


def end_when_the_parent_says() -> None:
    """End this process on its parent's SIGTERM, by which DataLoader and Python end workers; on nobody else's."""
    while (received := signal.sigwaitinfo({signal.SIGTERM})) and received.si_pid != os.getppid():
        pass
    os._exit(0)
