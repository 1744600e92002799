"""Targets that are the image: as it is, or without its finest detail."""

import torch
from torchvision.transforms.v2.functional import gaussian_blur

from hivit_mae.models.targets.target import Target


class Pixel(Target):
    """The image itself (MAE, CVPR 2022)."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images


class LowPass(Target):
    """The image blurred by a Gaussian; its width is our choice."""

    SIGMA = 2.0  # px

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        side = 2 * round(3 * self.SIGMA) + 1
        blurred: torch.Tensor = gaussian_blur(images, [side, side], [self.SIGMA, self.SIGMA])
        return blurred
