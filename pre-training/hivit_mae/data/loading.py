"""Batches for the training step, on its device before it asks for them."""

import itertools
import os
import signal
import threading
import time
from argparse import Namespace
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch.utils.data import DataLoader, DistributedSampler, default_collate

from hivit_mae.cluster.distributed import Processes
from hivit_mae.data import resample
from hivit_mae.data.folders import PretrainImages
from hivit_mae.data.shards import ShardImages, find_shards


class Batch(NamedTuple):
    """Augmented images and where they are from."""

    indices: torch.Tensor  # [B] int64, on the CPU; dataset.name(i) names the image
    images: torch.Tensor  # [B, 1, S, S] float32 in [0, 1], on the device


def open_images(args: Namespace, processes: Processes, counts: list[int] | None = None) -> PretrainImages | ShardImages:
    """The images of --data_path.

    Args:
        args: the run's options.
        processes: the process group.
        counts: images of each shard that `find_shards` finds; None for folders.

    Raises:
        InputError: if there are none, or the cache cannot be written.

    """
    on_device = args.augment == "device"
    if counts is None:
        return PretrainImages(args.data_path, args.input_size, args.seed, args.max_bad, args.cache, on_device)
    return ShardImages(
        find_shards(args.data_path, args.cache),
        counts,
        args.input_size,
        args.seed,
        args.max_bad,
        on_device,
        args.batch_size,
        processes.rank,
        processes.world_size,
    )


class EpochSampler(DistributedSampler):
    """Deals the same shuffled order out to any number of processes, from any image of this process's part on."""

    first = 0

    def __iter__(self) -> Iterator[int]:
        return itertools.islice(super().__iter__(), self.first, None)


class BatchLoader:
    """Batches of one process, made by loader workers.

    Args:
        dataset: the images.
        args: the run's options.
        processes: the process group.

    Attributes:
        batches_per_epoch: whole ones; an incomplete last one is left out.
        seconds_waited: so far; how long the training step could not go on for want of data.

    """

    def __init__(self, dataset: PretrainImages | ShardImages, args: Namespace, processes: Processes) -> None:
        self.dataset, self.batch_size = dataset, args.batch_size
        self.input_size, self.device = args.input_size, processes.device
        self.batches_per_epoch = len(dataset) // processes.world_size // args.batch_size
        self.seconds_waited = 0.0
        self.sampler: EpochSampler | None = None
        if isinstance(dataset, PretrainImages):
            self.sampler = EpochSampler(
                dataset, processes.world_size, processes.rank, shuffle=True, seed=args.seed, drop_last=True
            )
        workers = min(args.num_workers, len(os.sched_getaffinity(0)))
        self.loader = DataLoader(
            dataset,
            batch_size=args.batch_size,
            sampler=self.sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=resample.collate_crops if args.augment == "device" else default_collate,
            pin_memory=args.pin_mem and self.device.type == "cuda",
            drop_last=True,
            worker_init_fn=outlive_signals,
            generator=torch.Generator(),  # its own, or each epoch would draw from the global one
        )

    def batches(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, counted from 0, from number `first` on.

        On a GPU, a batch is copied, and augmented if that is left to the device, while the step before it runs.

        Raises:
            InputError: from a loader worker; its text is then a traceback, for `saratrx.errors.sentence`.

        """
        if self.sampler is None:
            self.dataset.set_position(epoch, first)
        else:
            self.dataset.set_epoch(epoch)
            self.sampler.set_epoch(epoch)
            self.sampler.first = first * self.batch_size
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

    def on_side_stream(self, iterator: Iterator) -> Iterator[Batch]:
        """Finish batches on a stream of their own, beside the training step's."""
        stream = torch.cuda.Stream(self.device)
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

    def finish(self, loaded: resample.CropBatch | list[torch.Tensor]) -> Batch:
        """What a worker made, on the device, with the augmentation that was left to it."""
        if isinstance(loaded, resample.CropBatch):
            return Batch(torch.tensor(loaded.indices), resample.resize_crops(loaded.to(self.device), self.input_size))
        indices, images = loaded
        return Batch(indices, images.to(self.device, non_blocking=True))


def outlive_signals(_worker: int) -> None:
    """Let a loader worker live on: a signal for all processes of a job is for the main one, which ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # in all threads: the next one waits for it
    threading.Thread(target=end_when_the_parent_says, daemon=True).start()


def end_when_the_parent_says() -> None:
    """End this process on its parent's SIGTERM, by which DataLoader and Python end workers; on nobody else's."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
