"""Histograms of oriented gradients (HOG): 9 values for each cell of 8 px, so 36 for a patch."""

import math

import torch
import torch.nn.functional as F

from hivit_mae.models.gradient_feature import integral_image, ratio_gradient
from hivit_mae.models.targets.target import Target

BINS = 9  # of orientations from 0 to 180 degrees
CELL = 8  # px
EPS = 1e-5  # keeps the norm of an empty histogram from 0


class Hog(Target):
    """HOG as MaskFeat (CVPR 2022) predicts it, each cell a block of its own: [B, 9, H / 8, W / 8]."""

    channels = BINS
    cell = CELL
    titles = ("strongest",)

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return histograms(*self.gradient(images))

    def gradient(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images [B, 1, H, W] -> gx, gy [B, H, W]: differences of neighbours, 0 at the image's edges."""
        padded = F.pad(images, (1, 1, 1, 1), mode="reflect")[:, 0]
        return padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2], padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]

    def picture(self, maps: torch.Tensor) -> torch.Tensor:
        """Give how strong the strongest orientation of each cell is."""
        return maps.amax(dim=1, keepdim=True)


class SarHog(Hog):
    """HOG of the ratio gradient (SAR-HOG; compared in SAR-JEPA), which speckle sways less; the radius is our choice."""

    RADIUS = 5  # px: windows 11 px wide, the smallest of SAR-JEPA

    def gradient(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        integral = integral_image(images, self.RADIUS)
        gx, gy = ratio_gradient(integral, self.RADIUS, self.RADIUS, *images.shape[-2:])
        return gx, gy


def histograms(gx: torch.Tensor, gy: torch.Tensor) -> torch.Tensor:
    """gx, gy [B, H, W] -> the magnitude in each bin, [B, 9, H / 8, W / 8], of L2 norm 1 (0 where nothing changes)."""
    # in float64, where half a turn is a whole number of bins to the last digit
    bins = (torch.atan2(gy.double(), gx.double()) * (BINS / math.pi)).floor().long() % BINS
    spread = gx.new_zeros(gx.shape[0], BINS, *gx.shape[1:]).scatter_(1, bins[:, None], torch.hypot(gx, gy)[:, None])
    sums = F.avg_pool2d(spread, CELL)
    return sums / (sums.square().sum(dim=1, keepdim=True) + EPS**2).sqrt()
