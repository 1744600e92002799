"""Data sets of a few small images, written in the layouts of the real ones."""

from pathlib import Path

import numpy as np
from PIL import Image

import train
from dassl.data.datasets import build_dataset
from hivit_cls.configuration import setup_cfg
from hivit_cls.options import parse_options

STAGE = Path(train.__file__).parent
CLASSES = ("2S1", "BRDM2", "T72", "ZSU234")


def draw(label, number, side=48):
    """An image of its own, whose class shows in the place of a bright block."""
    rng = np.random.default_rng((label, number))
    image = rng.gamma(1.0, 30.0, (side, side)).clip(0, 255)
    row, column = 6 + 16 * (label // 3 % 3), 6 + 12 * (label % 3)
    image[row : row + 12, column : column + 9] = rng.uniform(150, 255)
    return image.astype(np.uint8)


def write(root, parts, suffix=".png", side=48, first_number=0):
    """Write {part: {class: number of images}}; the label is the place of the class among all."""
    names = sorted({name for classes in parts.values() for name in classes})
    number = first_number
    for part, classes in parts.items():
        for name, count in classes.items():
            folder = Path(root, part, name)
            folder.mkdir(parents=True, exist_ok=True)
            for place in range(count):
                number += 1
                Image.fromarray(draw(names.index(name), number, side)).save(folder / f"{place:03d}{suffix}")
    return Path(root)


def vehicles(root, name="MSTAR_EOC1", train=10, test=6, suffix=".jpeg", **kwargs):
    """A small set of four classes; returns the folder that holds it."""
    parts = {"TRAIN": dict.fromkeys(CLASSES, train), "TEST": dict.fromkeys(CLASSES, test)}
    write(Path(root, name), parts, suffix, **kwargs)
    return Path(root)


def options(root, output, *opts, dataset="MSTAR_EOC1", trainer="MIM_linear", flags=()):
    """Command line of a small run."""
    small = {
        "MODEL.BACKBONE.NAME": "hivit_micro", "INPUT.SIZE": "(48, 48)", "DATALOADER.NUM_WORKERS": 0,
        "USE_CUDA": False, "OPTIM.MAX_EPOCH": 3, "MODEL.PRECISION": "fp32",
    }  # fmt: skip
    given = dict(zip(opts[::2], opts[1::2], strict=True))
    pairs = [str(word) for pair in (small | given).items() for word in pair]
    paths = [
        "--root", str(root), "--output-dir", str(output), "--trainer", trainer,
        "--dataset-config-file", str(STAGE / "configs/datasets" / f"{dataset}.yaml"),
        "--config-file", str(STAGE / "configs/trainers" / trainer / "vit_t16.yaml"),
    ]  # fmt: skip
    return [*paths, *map(str, flags), *pairs]


def parse(*args, **kwargs):
    """The options of a small run that its config is made of."""
    return parse_options(options(*args, **kwargs))[0]


def dataset(root, *opts, name="MSTAR_EOC1", seed=0):
    """A data set of the config."""
    arguments = parse(root, "unused", *opts, flags=["--seed", seed])
    cfg = setup_cfg(arguments)
    cfg.DATASET.NAME = name
    return build_dataset(cfg)


def names(part):
    """Images of a part by class folder and file name."""
    return ["/".join(Path(item.impath).parts[-2:]) for item in part or []]
