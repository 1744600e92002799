"""Images of any folder tree, cropped and jittered as published."""

import os
from pathlib import Path

import torch
from torch.utils.data import Dataset
from torchvision.transforms import InterpolationMode, v2

from saratrx import sar_image
from saratrx.errors import InputError
from util.seeds import CROP, derived_seed


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
    """Augmented images [1, S, S], float32, amplitude in [0, 1].

    An image that cannot be read is replaced by the next one that can, and marked, for all loader workers at once;
    `report_bad` names it.

    Args:
        folders: trees of images.
        input_size: side S in pixels.
        seed: with the epoch and the index, decides the augmentation.
        max_bad: share of unreadable images that is tolerated.

    """

    def __init__(self, folders: list[str], input_size: int, seed: int, max_bad: float) -> None:
        self.paths = [path for folder in folders for path in find_images(folder)]
        self.input_size, self.seed, self.max_bad = input_size, seed, max_bad
        self.transform = v2.Compose(
            [
                v2.RandomResizedCrop(input_size, scale=(0.2, 1.0), interpolation=InterpolationMode.BICUBIC),
                v2.RandomHorizontalFlip(),
                v2.ColorJitter(contrast=0.5),
                v2.ToDtype(torch.float32, scale=True),
            ]
        )
        # shared memory: loader workers outlive an epoch, and what one marks, all see
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self.bad = torch.zeros(len(self.paths), dtype=torch.bool).share_memory_()
        self.named: set[int] = set()

    def __len__(self) -> int:
        return len(self.paths)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose augmentation is drawn; before the loader is iterated."""
        self.epoch.fill_(epoch)

    def __getitem__(self, index: int) -> torch.Tensor:
        image = self.read(index)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derived_seed(CROP, self.seed, int(self.epoch), index))
            return self.transform(image)

    def read(self, index: int) -> torch.Tensor:
        """The image at `index`, or the next that can be read, uint8 [1, H, W]; blank if too many in a row cannot."""
        tolerated = int(self.max_bad * len(self))
        for place in range(index, index + tolerated + 1):
            candidate = place % len(self)
            if not self.bad[candidate]:
                try:
                    return torch.from_numpy(sar_image.read(self.paths[candidate]))[None]
                except sar_image.ImageError:
                    self.bad[candidate] = True
        return torch.zeros(1, self.input_size, self.input_size, dtype=torch.uint8)  # `report_bad` ends the run

    def report_bad(self) -> None:
        """Name the unreadable images that were met since the last call.

        Raises:
            InputError: if they are more than `max_bad` of all.

        """
        bad = self.bad.nonzero().flatten().tolist()
        if len(bad) > self.max_bad * len(self):
            raise InputError(
                f"at least {len(bad)} of {len(self)} images cannot be read, such as {self.paths[bad[0]]}: more than "
                f"--max_bad {self.max_bad:g} allows; mend or remove them"
            )
        for index in sorted(set(bad) - self.named):
            self.named.add(index)
            try:
                sar_image.read(self.paths[index])
            except sar_image.ImageError as error:
                print(f"skipped: {error}", flush=True)
