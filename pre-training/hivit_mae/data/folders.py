"""Images of any folder tree, cropped and jittered as published."""

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset, DistributedSampler

from hivit_mae.data.augment import Augmentation
from hivit_mae.data.bad_images import BadImages
from hivit_mae.data.image_cache import open_cache
from hivit_mae.data.source import Image, Sample, listed
from saratrx import sar_image
from saratrx.files import find_images
from saratrx.reading import AS_DEFAULT, Reading


class EpochSampler(DistributedSampler[int]):
    """Deals the same shuffled order out to any number of processes, from any image of this process's part on."""

    first = 0

    def __iter__(self) -> Iterator[int]:
        return itertools.islice(super().__iter__(), self.first, None)


class FolderImages(Dataset[Sample]):
    """Images of folder trees, opened one by one or decoded once into a cache; an `ImageSource`.

    An image that cannot be read is replaced by the next one that can, and marked, for all loader workers at once.

    Args:
        folders: trees of images.
        input_size: side S in pixels.
        seed: with the epoch and the index, decides the order and the augmentation.
        max_bad: share of unreadable images that is tolerated.
        cache: folder of decoded images, filled if need be; none if empty.
        reading: how images are read.
        on_device: leave the augmentation to the device, see `ImageSource`.
        batch_size: images per batch of one process.
        rank: of this process.
        world_size: processes.

    Raises:
        InputError: if a folder has no images, or the cache cannot be written.

    """

    def __init__(
        self,
        folders: Sequence[str | Path],
        input_size: int,
        seed: int,
        max_bad: float,
        *,
        cache: str | Path = "",
        reading: Reading = AS_DEFAULT,
        on_device: bool = False,
        batch_size: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.by_folder = [(folder, find_images(folder)) for folder in folders]
        self.paths = [path for _, paths in self.by_folder for path in paths]
        self.input_size, self.on_device, self.batch_size = input_size, on_device, batch_size
        self.reading = reading
        self.augmentation = Augmentation(input_size, seed, on_device)
        self.bad_images = BadImages(len(self.paths), max_bad)
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # loader workers outlive an epoch
        self.sampler = EpochSampler(self, world_size, rank, shuffle=True, seed=seed, drop_last=True)
        self.cache = open_cache(cache, self.paths, reading) if cache else None
        if self.cache is not None:
            self.bad_images.mark_known(self.cache.reasons)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def bad(self) -> torch.Tensor:
        """Bool [N]: the images that are known to be unreadable."""
        return self.bad_images.flags

    def start(self, epoch: int, first_batch: int = 0) -> None:
        """Choose the epoch and the number of its first batch."""
        self.epoch.fill_(epoch)
        self.sampler.set_epoch(epoch)
        self.sampler.first = first_batch * self.batch_size

    def __getitem__(self, index: int) -> Sample:
        return self.augmentation.sample(int(self.epoch), index, self.read(index))

    def read(self, index: int) -> Image:
        """Read the image at `index`, or the next that can be read, uint8 [H, W]; blank if too many in a row cannot."""
        tolerated = int(self.bad_images.max_bad * len(self))
        for place in range(index, index + tolerated + 1):
            candidate = place % len(self)
            if not self.bad_images.is_flagged(candidate):
                try:
                    return self.decode(candidate)
                except sar_image.ImageError as error:
                    self.bad_images.mark(candidate, str(error))
        return np.zeros((self.input_size, self.input_size), np.uint8)  # `check_bad` ends the run

    def decode(self, index: int) -> Image:
        """Read the very image at `index`, uint8 [H, W]; raises ImageError."""
        return self.reading.read(self.paths[index]) if self.cache is None else self.cache.read(index)

    def name(self, index: int) -> str:
        """Give the path of an image."""
        return self.paths[index]

    @property
    def identity(self) -> str:
        """Name the list of images, wherever the folders are."""
        return listed(path[len(str(root)) :].lstrip(os.sep) for root, paths in self.by_folder for path in paths)

    def examples(self, count: int) -> list[Image]:
        """Read up to `count` images, always the same ones, uint8 [H, W]."""
        indices = np.random.default_rng(0).permutation(len(self))[:count]
        return [self.read(index) for index in sorted(indices.tolist())]

    def check_bad(self) -> None:
        """Raise InputError if more images than `max_bad` allows are known to be unreadable."""
        self.bad_images.check(self.name)
