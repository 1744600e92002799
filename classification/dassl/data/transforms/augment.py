"""Augmentation under Dassl's names, with the operations that make sense on amplitude.

All randomness is PyTorch's, which loader workers seed.
"""

import torch
from PIL import Image
from torch import nn
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional

from saratrx.errors import InputError

FACTORS = (0.1, 1.9)  # of brightness and sharpness; 1 leaves an image as it is
LARGEST_ANGLE = 45.0  # degrees
STRONGEST = 30  # magnitudes of RandAugment go from 0 to this (Cubuk et al., CVPR Workshops 2020)


def uniform(low: float, high: float) -> float:
    """Draw a random number."""
    return low + (high - low) * torch.rand(()).item()


def apply(name: str, image: Image.Image, strength: float) -> Image.Image:
    """Do one operation of RandAugment, with a strength in [0, 1] between the ends of its range."""
    factor = FACTORS[0] + strength * (FACTORS[1] - FACTORS[0])
    if name == "rotate":
        return functional.rotate(image, LARGEST_ANGLE * strength * (1 if uniform(-1, 1) > 0 else -1))
    if name == "brightness":
        return functional.adjust_brightness(image, factor)
    if name == "sharpness":
        return functional.adjust_sharpness(image, factor)
    return image  # identity


class RandAugment(nn.Module):
    """`n` random operations of identity, rotation, brightness and sharpness, all of magnitude `m` of 30."""

    operations = ("identity", "rotate", "brightness", "sharpness")

    def __init__(self, n: int = 2, m: int = 10) -> None:
        super().__init__()
        self.n, self.m = n, m

    def forward(self, image: Image.Image) -> Image.Image:
        for place in torch.randint(len(self.operations), (self.n,)).tolist():
            image = apply(self.operations[place], image, self.m / STRONGEST)
        return image


class RandAugment2(nn.Module):
    """`n` random operations of identity and brightness, each done with probability `p`, of random magnitude."""

    operations = ("identity", "brightness")

    def __init__(self, n: int = 2, p: float = 0.6) -> None:
        super().__init__()
        self.n, self.p = n, p

    def forward(self, image: Image.Image) -> Image.Image:
        for place in torch.randint(len(self.operations), (self.n,)).tolist():
            if uniform(0, 1) < self.p:
                image = apply(self.operations[place], image, uniform(0, 1))
        return image


class Translation(nn.Module):
    """With probability `p`, scale to 9/8 of the size and cut the size at a random place."""

    def __init__(self, size: tuple[int, int], interpolation: InterpolationMode, p: float = 0.5) -> None:
        super().__init__()
        height, width = size
        larger = (round(height * 1.125), round(width * 1.125))
        self.p = p
        self.move = v2.Compose([v2.Resize(larger, interpolation=interpolation), v2.RandomCrop(size)])

    def forward(self, image: Image.Image) -> Image.Image:
        return self.move(image) if uniform(0, 1) < self.p else image


class RandomCrop(nn.Module):
    """Cut (height, width) at a random place, after `padding` black pixels were added on each side."""

    def __init__(self, size: tuple[int, int], padding: int) -> None:
        super().__init__()
        self.size, self.padding = size, padding
        self.cut = v2.RandomCrop(size, padding=padding)

    def forward(self, image: Image.Image) -> Image.Image:
        (height, width), added = self.size, 2 * self.padding
        if image.height + added < height or image.width + added < width:
            raise InputError(
                f"INPUT.TRANSFORMS random_crop: an image of {image.height}x{image.width} px is smaller than INPUT.SIZE "
                f"{self.size}, to which it is not resized; take random_resized_crop, or a smaller INPUT.SIZE"
            )
        return self.cut(image)


class Cutout(nn.Module):
    """Set `n` squares at random places of [C, H, W] to 0 (DeVries and Taylor, 2017); the border cuts them."""

    def __init__(self, n: int = 1, length: int = 16) -> None:
        super().__init__()
        self.n, self.length = n, length

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        image = image.clone()
        height, width = image.shape[-2:]
        for _ in range(self.n):
            row, column = (int(torch.randint(side, ())) for side in (height, width))
            top, left = row - self.length // 2, column - self.length // 2
            image[..., max(top, 0) : max(top + self.length, 0), max(left, 0) : max(left + self.length, 0)] = 0
        return image


class GaussianNoise(nn.Module):
    """With probability `p`, add normal noise to [C, H, W]."""

    def __init__(self, mean: float = 0.0, std: float = 0.15, p: float = 0.5) -> None:
        super().__init__()
        self.mean, self.std, self.p = mean, std, p

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if uniform(0, 1) >= self.p:
            return image
        return image + self.mean + self.std * torch.randn_like(image)


class InstanceNorm(nn.Module):
    """Bring each channel of [C, H, W] to mean 0 and standard deviation 1."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        mean, std = image.mean((-2, -1), keepdim=True), image.std((-2, -1), keepdim=True)
        return (image - mean) / (std + 1e-8)
