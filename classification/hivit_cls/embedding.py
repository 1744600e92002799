"""A folder of images as features, and which of them are nearest to others.

The folder holds `features.npy` [N, D], float32, `images.csv` with the file of each row, and `settings.yaml` with all
that decides a feature, so that other images can be looked at in the same way later.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from yacs.config import CfgNode

from dassl.data.datasets import Datum
from dassl.data.datasets.base_dataset import centre_crop_of
from dassl.data.transforms import build_transform
from dassl.data.transforms.transforms import Transform
from hivit_cls.encoder import FrozenEncoder
from hivit_cls.feature_bank import FeatureBank
from saratrx.device import choose_device
from saratrx.errors import InputError, first_line
from saratrx.files import open_whole, refused_if_unwritable, write_text

FEATURES, IMAGES = "features.npy", "images.csv"


def embed(cfg: CfgNode, paths: Sequence[str]) -> torch.Tensor:
    """Compute the features [N, D] of images; what has been computed before with the same settings is read."""
    if cfg.INPUT.NO_TRANSFORM:
        raise InputError("INPUT.NO_TRANSFORM True: an encoder needs images of its size; leave it out")
    encoder = FrozenEncoder(cfg, choose_device("auto" if cfg.USE_CUDA else "cpu"))
    transform = build_transform(cfg, is_train=False, centre_crop=centre_crop_of(cfg))
    try:
        return FeatureBank(encoder, cast(Transform, transform)).features([Datum(path) for path in paths])
    except FloatingPointError as error:
        raise InputError(str(error)) from error


def write(folder: Path, paths: Sequence[str], features: torch.Tensor) -> None:
    """Write the features of images.

    Raises:
        InputError: if that cannot be.

    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([["image"], *([str(Path(path).absolute())] for path in paths)])
    with refused_if_unwritable(folder):
        write_text(folder / IMAGES, text.getvalue())
        with open_whole(folder / FEATURES) as file:
            np.save(file, features.numpy(), allow_pickle=False)


def read(folder: Path) -> tuple[list[str], NDArray[np.float32]]:
    """Read the files of images, and their features [N, D].

    Raises:
        InputError: if the folder holds none, or they do not fit together.

    """
    try:
        with (folder / IMAGES).open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            paths = [row["image"] for row in csv.DictReader(file)]
        # mapped, a file shorter than it says is refused before memory is asked for
        features = np.array(np.lib.format.open_memmap(folder / FEATURES, mode="r"))
    except Exception as error:  # NumPy's reader of a damaged head raises what Python's parser does
        raise InputError(f"{folder} holds no features of embed.py: {first_line(error)}; run it again") from error
    fits = features.ndim == 2 and len(features) == len(paths) > 0 and features.dtype == np.float32
    if not fits or not all(paths) or not np.isfinite(features).all():
        raise InputError(f"{folder}: {IMAGES} and {FEATURES} do not fit together; run embed.py again")
    return paths, features
