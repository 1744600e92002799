"""Images of any folder tree, cropped and jittered as published."""

import os
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from hivit_mae.data.augment import Augmentation, Crop
from hivit_mae.data.bad_images import BadImages
from hivit_mae.data.image_cache import open_cache
from saratrx import sar_image
from saratrx.errors import InputError


def find_images(folder: str | Path) -> list[str]:
    """Paths of all images under a folder at any depth, sorted; links are followed, hidden files left out.

    Raises:
        InputError: if there is no such folder, or no image in it.

    """
    if not Path(folder).is_dir():
        raise InputError(f"--data_path {folder}: no such folder")
    paths, seen = [], set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        identity = os.path.realpath(parent)
        if identity in seen:  # a link back to a folder above or beside
            folders.clear()
            continue
        seen.add(identity)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        images = [n for n in names if not n.startswith(".") and Path(n).suffix.lower() in sar_image.EXTENSIONS]
        paths += [os.path.join(parent, name) for name in images]
    if not paths:
        raise InputError(f"--data_path {folder}: no image in it ({' '.join(sorted(sar_image.EXTENSIONS))})")
    return sorted(paths)


class PretrainImages(Dataset):
    """Indices with augmented images [1, S, S], float32, amplitude in [0, 1]; or with what `resample` makes them of.

    An image that cannot be read is replaced by the next one that can, and marked, for all loader workers at once.

    Args:
        folders: trees of images.
        input_size: side S in pixels.
        seed: with the epoch and the index, decides the augmentation.
        max_bad: share of unreadable images that is tolerated.
        cache: folder of decoded images, filled if need be; none if empty.
        on_device: leave the augmentation to the device: an item is then (index, pixels of the crop, crop).

    Raises:
        InputError: if a folder has no images, or the cache cannot be written.

    """

    def __init__(
        self,
        folders: list[str],
        input_size: int,
        seed: int,
        max_bad: float,
        cache: str = "",
        on_device: bool = False,
    ) -> None:
        self.paths = [path for folder in folders for path in find_images(folder)]
        self.input_size = input_size
        self.augmentation = Augmentation(input_size, seed, on_device)
        self.bad_images = BadImages(len(self.paths), max_bad)
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # loader workers outlive an epoch
        self.cache = open_cache(cache, self.paths) if cache else None
        if self.cache is not None:
            self.bad_images.mark_known(self.cache.reasons)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def bad(self) -> torch.Tensor:
        """Bool [N]: the images that are known to be unreadable."""
        return self.bad_images.flags

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose augmentation is drawn; before the loader is iterated."""
        self.epoch.fill_(epoch)

    def __getitem__(self, index: int) -> tuple[int, torch.Tensor] | tuple[int, np.ndarray, Crop]:
        return self.augmentation.sample(int(self.epoch), index, self.read(index))

    def read(self, index: int) -> np.ndarray:
        """The image at `index`, or the next that can be read, uint8 [H, W]; blank if too many in a row cannot."""
        tolerated = int(self.bad_images.max_bad * len(self))
        for place in range(index, index + tolerated + 1):
            candidate = place % len(self)
            if not self.bad_images.is_flagged(candidate):
                try:
                    return self.decode(candidate)
                except sar_image.ImageError as error:
                    self.bad_images.mark(candidate, str(error))
        return np.zeros((self.input_size, self.input_size), np.uint8)  # `report_bad` ends the run

    def decode(self, index: int) -> np.ndarray:
        """The very image at `index`, uint8 [H, W]; raises ImageError."""
        return sar_image.read(self.paths[index]) if self.cache is None else self.cache.read(index)

    def name(self, index: int) -> str:
        """The path of an image."""
        return self.paths[index]

    def examples(self, count: int) -> list[np.ndarray]:
        """Up to `count` images, always the same ones, uint8 [H, W]."""
        indices = np.random.default_rng(0).permutation(len(self))[:count]
        return [self.read(index) for index in sorted(indices.tolist())]

    def report_bad(self) -> None:
        """Raise InputError if more images than `max_bad` allows are known to be unreadable."""
        self.bad_images.check(self.name)
