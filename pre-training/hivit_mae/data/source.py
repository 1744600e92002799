"""What training asks of its images, wherever they come from."""

import hashlib
from collections.abc import Iterable
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Sampler

from hivit_mae.data.augment import Crop

Image = NDArray[np.uint8]  # [H, W]
Augmented = tuple[int, torch.Tensor]  # index in the source, [1, S, S] float32 in [0, 1]
Cut = tuple[int, Image, Crop]  # index, pixels of the crop [height, width], what is left to do with them
Sample = Augmented | Cut


def listed(names: Iterable[str]) -> str:
    """Hash a list of images by their names, in its order: 64 hexadecimal digits."""
    return hashlib.sha256("\0".join(names).encode(errors="surrogateescape")).hexdigest()


class ImageSource(Protocol):
    """N images for all processes, of which this one gets its share; a data set for PyTorch's DataLoader too.

    Folders (`folders.FolderImages`) and shards (`shards.ShardImages`) are sources.

    Attributes:
        input_size: side S of the augmented images in pixels.
        on_device: whether samples are cut crops, which `resample` augments in whole batches.
        sampler: gives this process's indices; None if the source deals them out itself.
        bad: bool [N], the images that are known to be unreadable.

    """

    input_size: int
    on_device: bool

    @property
    def sampler(self) -> Sampler[int] | None: ...

    @property
    def bad(self) -> torch.Tensor: ...

    @property
    def identity(self) -> str:
        """Name the list of images by a hash, see `listed`: a run goes on with the same one."""

    def __len__(self) -> int: ...

    def start(self, epoch: int, first_batch: int = 0) -> None:
        """Begin an epoch, counted from 0, at one of its batches; before the loader is iterated."""

    def name(self, index: int) -> str:
        """Name an image for a person."""

    def examples(self, count: int) -> list[Image]:
        """Read up to `count` images, always the same ones."""

    def check_bad(self) -> None:
        """Raise InputError if more images are bad than is tolerated."""
