"""The published augmentation: a random crop, scaled to the input's size, flipped half the time, with another contrast.

What is drawn is split from its application, so that an image can be augmented here, one at a time, or in `resample`,
a whole batch at once.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional

from hivit_mae.seeds import CROP, uniforms

AREA = (0.2, 1.0)  # of the crop, as a share of the image's
LARGEST_RATIO = 4 / 3  # of a crop's width and height, and of its height and width
ATTEMPTS = 10  # to draw a crop that fits into the image
CONTRAST = (0.5, 1.5)  # times the distance from the mean


@dataclass(frozen=True)
class Crop:
    """What is done to one image; in pixels."""

    top: int
    left: int
    height: int
    width: int
    flip: bool  # left and right change places, after the cropping
    contrast: float  # 0.5 to 1.5 times the distance from the mean

    def cut(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """View the crop's pixels, not flipped: [H, W] -> [height, width]."""
        return image[self.top : self.top + self.height, self.left : self.left + self.width]


class Augmentation:
    """Draws and applies crops of 20 to 100 % of the area.

    Args:
        size: side S of the result in pixels.
        seed: with the epoch and the index of an image, decides what is drawn.
        on_device: whether samples are left for `resample` to augment.

    """

    def __init__(self, size: int, seed: int, on_device: bool) -> None:
        self.size, self.seed, self.on_device = size, seed, on_device

    def sample(
        self, epoch: int, index: int, image: NDArray[np.uint8]
    ) -> tuple[int, torch.Tensor] | tuple[int, NDArray[np.uint8], Crop]:
        """Augment an image uint8 [H, W], or cut it for the device.

        Returns:
            Its index and the augmented image; or its index, the crop's pixels uint8 [height, width], and the crop.

        """
        crop = self.draw(epoch, index, *image.shape)
        if self.on_device:
            return index, crop.cut(image), crop
        return index, self.apply(image, crop)

    def draw(self, epoch: int, index: int, height: int, width: int) -> Crop:
        """Draw for one image of height x width pixels.

        By the rules of torchvision's RandomResizedCrop, RandomHorizontalFlip and ColorJitter, whose own drawing would
        take longer than all else that is done to an image of a cache.
        """
        random = uniforms(CROP, self.seed, epoch, index)
        flip, contrast = next(random) < 0.5, between(*CONTRAST, next(random))
        return Crop(*self.draw_box(random, height, width), flip, contrast)

    def draw_box(self, random: Iterator[float], height: int, width: int) -> tuple[int, int, int, int]:
        """Top, left, height and width of a crop of an image of height x width."""
        for _ in range(ATTEMPTS):
            area = height * width * between(*AREA, next(random))
            ratio = math.exp(between(-math.log(LARGEST_RATIO), math.log(LARGEST_RATIO), next(random)))
            tall, wide = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
            if 0 < tall <= height and 0 < wide <= width:
                top, left = int((height - tall + 1) * next(random)), int((width - wide + 1) * next(random))
                return top, left, tall, wide
        # an image so long that no crop fits: its middle
        tall = min(height, round(width * LARGEST_RATIO))
        wide = min(width, round(height * LARGEST_RATIO))
        return (height - tall) // 2, (width - wide) // 2, tall, wide

    def apply(self, image: NDArray[np.uint8], crop: Crop) -> torch.Tensor:
        """Augment one image: uint8 [H, W] -> float32 [1, S, S] in [0, 1]."""
        pixels = torch.from_numpy(crop.cut(image))[None]
        size = [self.size, self.size]
        pixels = functional.resize(pixels, size, InterpolationMode.BICUBIC, antialias=True)
        if crop.flip:
            pixels = functional.horizontal_flip(pixels)
        return functional.to_dtype(functional.adjust_contrast(pixels, crop.contrast), torch.float32, scale=True)


def whole_image(size: int, crop: int = 0) -> v2.Compose:
    """Give what is done to images uint8 [1, H, W] that are looked at, not learnt from: the middle, uint8 [1, S, S].

    Args:
        size: S, to which the shorter side is scaled.
        crop: side in pixels of the square that is cut from the middle before, black where there is no image; 0: none.

    """
    steps = [v2.Resize(size, interpolation=InterpolationMode.BICUBIC), v2.CenterCrop(size)]
    return v2.Compose([v2.CenterCrop(crop), *steps] if crop else steps)


def between(low: float, high: float, share: float) -> float:
    """Give the number at a share, 0 to 1, of the way from one to another."""
    return low + (high - low) * share
