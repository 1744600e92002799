"""What `INPUT.TRANSFORMS` can name, put in their fixed order around the resizing that always happens."""

from collections.abc import Callable

import torch
from PIL import Image
from torch import nn
from torchvision.transforms import InterpolationMode, v2
from yacs.config import CfgNode

from dassl.data.datasets.base_dataset import centre_crop_of
from dassl.data.transforms.augment import (
    Cutout,
    GaussianNoise,
    InstanceNorm,
    RandAugment,
    RandAugment2,
    RandomCrop,
    Translation,
)
from saratrx.errors import InputError

INTERPOLATION_MODES = {
    "nearest": InterpolationMode.NEAREST,
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
}
FIXED = ("center_crop", "normalize", "instance_norm")
RANDOM = (
    "random_flip",
    "random_resized_crop",
    "random_crop",
    "random_translation",
    "randaugment",
    "randaugment2",
    "colorjitter",
    "gaussian_blur",
    "gaussian_noise",
    "cutout",
)
Transform = Callable[[Image.Image], torch.Tensor]


def is_random(cfg: CfgNode) -> bool:
    """Tell whether the training transform gives another result each time."""
    return any(choice in RANDOM for choice in cfg.INPUT.TRANSFORMS)


def build_transform(
    cfg: CfgNode, is_train: bool = True, choices: list[str] | None = None, centre_crop: int | None = None
) -> Transform | None:
    """Make the transform of a Pillow image to float32 [1, H, W] with (H, W) = INPUT.SIZE, amplitude in [0, 1].

    Training: resize to INPUT.SIZE, whatever the shape, and do what `choices` name; `random_crop` and
    `random_resized_crop` stand in for the resizing, as in Dassl. Test: resize the smaller side to the larger of
    INPUT.SIZE and cut the centre; of `choices` only the normalisations.

    Args:
        cfg: INPUT says what to do.
        is_train: for training or for test.
        choices: names of transforms (None: INPUT.TRANSFORMS).
        centre_crop: side in pixels of the square cut from the middle first (0: none; None: by DATASET.NAME); see
            `DatasetBase`.

    Returns:
        The transform, or None with INPUT.NO_TRANSFORM.

    Raises:
        InputError: for a name or an interpolation that does not exist.

    """
    if cfg.INPUT.NO_TRANSFORM:
        return None
    choices = list(cfg.INPUT.TRANSFORMS if choices is None else choices)
    for choice in choices:
        if choice not in FIXED + RANDOM:
            raise InputError(f"INPUT.TRANSFORMS {choice}: unknown; choose of {', '.join(FIXED + RANDOM)}")
    if cfg.INPUT.INTERPOLATION not in INTERPOLATION_MODES:
        modes = ", ".join(INTERPOLATION_MODES)
        raise InputError(f"INPUT.INTERPOLATION {cfg.INPUT.INTERPOLATION}: unknown; choose one of {modes}")
    crop = centre_crop_of(cfg) if centre_crop is None else centre_crop
    sides = [side for side in (crop, cfg.INPUT.get("MIDDLE", 0)) if side]
    steps: list[nn.Module] = [v2.CenterCrop(side) for side in sides]
    steps += training_steps(cfg.INPUT, choices) if is_train else test_steps(cfg.INPUT)
    steps += [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)]
    steps += steps_on_tensor(cfg.INPUT, choices, is_train)
    return v2.Compose(steps)


def training_steps(options: CfgNode, choices: list[str]) -> list[nn.Module]:
    """List what is done to the training image, still 8-bit."""
    size, mode = tuple(options.SIZE), INTERPOLATION_MODES[options.INTERPOLATION]
    if "center_crop" in choices:
        resize = test_steps(options)
    elif "random_crop" in choices or "random_resized_crop" in choices:
        resize = []
    else:
        resize = [v2.Resize(size, interpolation=mode)]
    jitter = (options.COLORJITTER_B, options.COLORJITTER_C)
    optional: dict[str, list[nn.Module]] = {
        "random_translation": [Translation(size, interpolation=mode)],
        "random_crop": [RandomCrop(size, options.CROP_PADDING)],
        "random_resized_crop": [v2.RandomResizedCrop(size, scale=tuple(options.RRCROP_SCALE), interpolation=mode)],
        "random_flip": [v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()],
        "randaugment": [RandAugment(options.RANDAUGMENT_N, options.RANDAUGMENT_M)],
        "randaugment2": [RandAugment2(options.RANDAUGMENT_N)],
        "colorjitter": [v2.ColorJitter(*jitter)],  # one channel has no saturation and hue
        "gaussian_blur": [v2.RandomApply([v2.GaussianBlur(options.GB_K, sigma=(0.1, 2.0))], p=options.GB_P)],
    }
    return resize + [step for name, steps in optional.items() if name in choices for step in steps]


def test_steps(options: CfgNode) -> list[nn.Module]:
    """List what is done to a test image, still 8-bit."""
    mode = INTERPOLATION_MODES[options.INTERPOLATION]
    return [v2.Resize(max(options.SIZE), interpolation=mode), v2.CenterCrop(tuple(options.SIZE))]


def steps_on_tensor(options: CfgNode, choices: list[str], is_train: bool) -> list[nn.Module]:
    """List what is done to float32 [1, H, W]."""
    steps: list[nn.Module] = []
    if is_train and "cutout" in choices:
        steps.append(Cutout(options.CUTOUT_N, options.CUTOUT_LEN))
    if "normalize" in choices:
        steps += [v2.Grayscale(len(options.PIXEL_MEAN)), v2.Normalize(options.PIXEL_MEAN, options.PIXEL_STD)]
    if is_train and "gaussian_noise" in choices:
        steps.append(GaussianNoise(options.GN_MEAN, options.GN_STD))
    if "instance_norm" in choices:
        steps.append(InstanceNorm())
    return steps
