"""Features without weights, to set beside those of an encoder: what does pre-training add to them?"""

import math
from typing import Any

import torch
import torch.nn.functional as F

from dassl.modeling import BACKBONE_REGISTRY, Backbone
from saratrx.errors import InputError


class Baseline(Backbone):
    """Features of grey images by a fixed formula.

    Args:
        img_size: height and width in pixels, both at least 32.
        **kwargs: of other encoders; no effect.

    """

    has_weights = False
    smallest = 32

    def __init__(self, img_size: tuple[int, int] = (224, 224), **kwargs: Any) -> None:
        super().__init__()
        if min(img_size) < self.smallest:
            raise InputError(f"INPUT.SIZE {img_size}: {type(self).__name__} takes {self.smallest} px or more")
        self.out_features = self(torch.zeros(1, 1, *img_size)).shape[1]


@BACKBONE_REGISTRY.register()
class raw_pixels(Baseline):  # noqa: N801 -- its name in the config
    """The middle half of the image in both directions, where targets lie, scaled to 32 px: [B, 1, H, W] -> [B, 1024].

    Of chips cut to 128 px and an input of that size, these are the middle 64 px.
    """

    side = 32

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        height, width = images.shape[-2:]
        top, left = height // 4, width // 4
        middle = images[:, :1, top : height - top, left : width - left]
        size = (self.side, self.side)
        return F.interpolate(middle, size, mode="bilinear", antialias=True, align_corners=False).flatten(1)


@BACKBONE_REGISTRY.register()
class hog(Baseline):  # noqa: N801
    """Histograms of oriented gradients (Dalal and Triggs, 2005): [B, 1, H, W] -> [B, (rows - 1) * (columns - 1) * 36].

    Cells of 16 px, 9 directions without sign, blocks of 2x2 cells normalised by L2-Hys.
    """

    cell, directions, clip, eps = 16, 9, 0.2, 1e-5

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = images[:, 0]
        across, down = torch.zeros_like(x), torch.zeros_like(x)
        across[:, :, 1:-1] = x[:, :, 2:] - x[:, :, :-2]
        down[:, 1:-1] = x[:, 2:] - x[:, :-2]
        angle = torch.atan2(down, across) % math.pi
        direction = (angle * (self.directions / math.pi)).long().clamp_max(self.directions - 1)
        strength = F.one_hot(direction, self.directions) * torch.hypot(across, down)[..., None]
        cells = F.avg_pool2d(strength.permute(0, 3, 1, 2), self.cell)
        blocks = F.unfold(cells, kernel_size=2)  # B, directions and places in a block, blocks
        return self.normalised(self.normalised(blocks).clamp_max(self.clip)).flatten(1)

    def normalised(self, blocks: torch.Tensor) -> torch.Tensor:
        """Blocks [B, values, N] at unit length."""
        return blocks / (blocks.square().sum(dim=1, keepdim=True) + self.eps**2).sqrt()


@BACKBONE_REGISTRY.register()
class mgf_histogram(Baseline):  # noqa: N801
    """Histograms of the multi-scale gradient features (MGF) of SARATR-X: [B, 1, H, W] -> [B, 3 * 8 * 16].

    MGF (IEEE TIP 2025) is the magnitude of a gradient by ratios: the logarithms of the sum right of a pixel over that
    left of it, and of below over above, in windows of 2r + 1 px whose centre line counts on both sides. It is counted
    in 8 bins, in 4x4 parts of the image, for each r.
    """

    radii = (9, 13, 17)  # px, as published
    bins, largest, parts, offset = 8, 2.0, 4, 1e-2

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        grey = images[:, :1].float()
        found = []
        for radius in self.radii:
            across, down = self.ratio(grey, radius), self.ratio(grey.mT, radius).mT
            place = torch.hypot(across, down) * (self.bins / self.largest)
            counted = F.one_hot(place[:, 0].long().clamp_max(self.bins - 1), self.bins).permute(0, 3, 1, 2)
            found.append(F.adaptive_avg_pool2d(counted.float(), self.parts).flatten(1))
        return torch.cat(found, dim=1)

    def ratio(self, grey: torch.Tensor, radius: int) -> torch.Tensor:
        """Logarithm of the mean right of each pixel over that left of it, [B, 1, H, W] -> [B, 1, H, W]."""
        width = grey.shape[-1]
        padded = F.pad(grey, (radius, radius, radius, radius), mode="reflect") + self.offset
        along = F.avg_pool2d(padded, (2 * radius + 1, 1), stride=1)  # one direction after the other: faster
        means = F.avg_pool2d(along, (1, radius + 1), stride=1)
        return (means[..., radius : radius + width] / means[..., :width]).log()
