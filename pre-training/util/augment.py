"""The published augmentation: a random crop, scaled to the input's size, flipped half the time, with another contrast.

What is drawn is split from its application, so that an image can be augmented here, one at a time, or in `resample`,
a whole batch at once.
"""

from dataclasses import dataclass

import torch
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional

from util.seeds import CROP, derived_seed


@dataclass(frozen=True)
class Crop:
    """What is done to one image; in pixels."""

    top: int
    left: int
    height: int
    width: int
    flip: bool  # left and right change places, after the cropping
    contrast: float  # 0.5 to 1.5 times the distance from the mean

    def cut(self, image: torch.Tensor) -> torch.Tensor:
        """A view of the crop's pixels, not flipped: [..., H, W] -> [..., height, width]."""
        return image[..., self.top : self.top + self.height, self.left : self.left + self.width]


class Augmentation:
    """Draws and applies crops of 20 to 100 % of the area.

    Args:
        size: side S of the result in pixels.
        seed: with the epoch and the index of an image, decides what is drawn.
        on_device: whether samples are left for `resample` to augment.

    """

    def __init__(self, size: int, seed: int, on_device: bool) -> None:
        self.size, self.seed, self.on_device = size, seed, on_device
        self.crop = v2.RandomResizedCrop(size, scale=(0.2, 1.0), interpolation=InterpolationMode.BICUBIC)
        self.flip = v2.RandomHorizontalFlip()
        self.jitter = v2.ColorJitter(contrast=0.5)

    def sample(
        self, epoch: int, index: int, image: torch.Tensor
    ) -> tuple[int, torch.Tensor] | tuple[int, torch.Tensor, Crop]:
        """An image uint8 [1, H, W] as data sets give it.

        Returns:
            Its index and the augmented image; or its index, the crop's pixels uint8 [1, height, width], and the crop.

        """
        crop = self.draw(epoch, index, image)
        if self.on_device:
            return index, crop.cut(image), crop
        return index, self.apply(image, crop)

    def draw(self, epoch: int, index: int, image: torch.Tensor) -> Crop:
        """Draw for one image [..., H, W], in the order in which v2.Compose would; global random state is left alone."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derived_seed(CROP, self.seed, epoch, index))
            box = self.crop.make_params([image])
            flip = torch.rand(1).item() < self.flip.p
            contrast = self.jitter.make_params([image])["contrast_factor"]
        return Crop(**box, flip=flip, contrast=contrast)

    def apply(self, image: torch.Tensor, crop: Crop) -> torch.Tensor:
        """Augment one image: uint8 [1, H, W] -> float32 [1, S, S] in [0, 1]."""
        image = functional.resize(crop.cut(image), [self.size, self.size], self.crop.interpolation, antialias=True)
        if crop.flip:
            image = functional.horizontal_flip(image)
        return functional.to_dtype(functional.adjust_contrast(image, crop.contrast), torch.float32, scale=True)
