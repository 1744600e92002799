"""Labelled images for the evaluation during pre-training: found, split and read."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hivit_mae.data.augment import whole_image
from saratrx.errors import InputError, first_line
from saratrx.files import find_images, is_folder, visible
from saratrx.reading import AS_DEFAULT, Reading
from saratrx.sar_image import ImageError

PARTS = ("train", "test")  # in any case of letters
SPLIT_SEED = 0  # not the run's: all runs are measured alike


@dataclass(frozen=True)
class Labelled:
    """N images of a part: where they are and of which class, counted from 0."""

    paths: list[str]
    labels: NDArray[np.int64]  # [N]

    def read(self, size: int, crop: int, reading: Reading = AS_DEFAULT) -> torch.Tensor:
        """Read all, whole, without augmentation: uint8 [N, 1, size, size]; `crop` as in `whole_image`.

        Raises:
            InputError: naming the first that cannot be read.

        """
        transform = whole_image(size, crop)
        images = torch.empty(len(self.paths), 1, size, size, dtype=torch.uint8)
        for image, path in zip(images, self.paths, strict=True):
            try:
                image.copy_(transform(torch.from_numpy(reading.read(path))[None]))
            except ImageError as error:
                raise InputError(f"--eval_data: {error}; fix or remove it") from error
        return images


def find_labelled(folder: str | Path, shots: int) -> tuple[Labelled, Labelled]:
    """Find the images to train on and those to test on.

    Args:
        folder: holds a folder per class, or such folders in `train` and in `test`. What is not split is: a half of each
            class is for training, always the same.
        shots: images that each class must have for training.

    Raises:
        InputError: for a folder of another layout, without two classes, or with a class of too few images.

    """
    parts = [name for name in folders_in(folder) if name.lower() in PARTS]
    if not parts:
        halves = {name: split(paths, label) for label, (name, paths) in enumerate(find_classes(folder).items())}
        train, test = ({name: half[part] for name, half in halves.items()} for part in range(2))
        few = f"in the half that is for training (fewer than --eval_shots {shots})"
    elif sorted(map(str.lower, parts)) == sorted(PARTS):
        by_part = {name.lower(): name for name in parts}
        train, test = (find_classes(Path(folder, by_part[part])) for part in PARTS)
        few = f"for training (fewer than --eval_shots {shots})"
    else:
        raise InputError(f"--eval_data {folder}: has {' and '.join(parts)}; it needs one folder train and one test")
    for name, paths in train.items():
        if len(paths) < shots:
            raise InputError(f"--eval_data {folder}: {name} has {len(paths)} images {few}")
    unknown = [name for name in test if name not in train]
    if unknown:
        raise InputError(f"--eval_data {folder}: {unknown[0]} has images for testing and none for training")
    return labelled(train, list(train)), labelled(test, list(train))


def find_classes(folder: str | Path) -> dict[str, list[str]]:
    """Find the paths of the images of each class, by its folder's name; both sorted.

    Raises:
        InputError: if there are not two classes, or one has no image.

    """
    names = folders_in(folder)
    if not names:
        raise InputError(f"--eval_data {folder}: no class folder in it; it needs a folder of images for each class")
    if len(names) == 1:
        raise InputError(f"--eval_data {folder}: only one class folder, {names[0]}; two are needed to tell apart")
    return {name: find_images(Path(folder, name), "--eval_data") for name in names}


def folders_in(folder: str | Path) -> list[str]:
    """List the names of the folders in a folder, sorted, without hidden ones.

    Raises:
        InputError: if it cannot be listed.

    """
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise InputError(f"--eval_data {folder}: cannot be listed: {first_line(error)}") from error
    return [name for name in visible(names) if is_folder(Path(folder, name))]


def split(paths: list[str], label: int) -> tuple[list[str], list[str]]:
    """Split a class at random, always alike: a half, rounded down, for training and the rest for testing."""
    order = np.random.default_rng([SPLIT_SEED, label]).permutation(len(paths))
    shuffled = [paths[place] for place in order]
    return sorted(shuffled[: len(paths) // 2]), sorted(shuffled[len(paths) // 2 :])


def labelled(found: dict[str, list[str]], classes: Sequence[str]) -> Labelled:
    """Give images with labels: the places of their classes in `classes`."""
    pairs = [(path, classes.index(name)) for name, paths in found.items() for path in paths]
    return Labelled([path for path, _ in pairs], np.array([label for _, label in pairs], dtype=np.int64))
