"""The targets of SARATR-X-v2 (arXiv 2607.23238): six scales, and their sum with trained weights.

All see the standardised image through a sigmoid, leave the pixel that is described out of its own description, and are
always normalised patch by patch.
"""

import torch
from torch import nn

from hivit_mae.models.gradient_feature import half_windows, integral_image, window
from hivit_mae.models.targets.target import Target

MEAN, DEVIATION = 0.2109, 0.2178  # of the published images, in [0, 1]
RADII = (1, 3, 5, 9, 13, 17)  # of s1 to s6
EPS = 1e-6


def standardised(images: torch.Tensor) -> torch.Tensor:
    """Give images in [0, 1] the mean and deviation that the published encoder sees."""
    return (images - MEAN) / DEVIATION


class StandardPixel(Target):
    """The standardised image, which SARATR-X-v2 compares with."""

    normalised = True

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return standardised(images)


class Scale(Target):
    """One of s1 to s6.

    Args:
        radius: 1 gives s1, the blind spot; others the ratio gradient of windows with that half-width.

    """

    normalised = True

    def __init__(self, radius: int) -> None:
        super().__init__()
        self.radius = radius

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return scale_maps(images, (self.radius,))


class Fused(Target):
    """Sum of all six scales with weights that add up to 1.

    Args:
        is_trained: train the weights with the model; else they stay equal.

    """

    normalised = True

    def __init__(self, is_trained: bool = True) -> None:
        super().__init__()
        if is_trained:
            self.logits = nn.Parameter(torch.zeros(len(RADII)))
        else:
            self.register_buffer("logits", torch.zeros(len(RADII)), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        weights = self.logits.softmax(dim=0)
        return (scale_maps(images, RADII) * weights[:, None, None]).sum(dim=1, keepdim=True)

    def figures(self) -> dict[str, float]:
        """Give the six weights: where one nears 1, the sum has collapsed onto its scale."""
        weights = self.logits.detach().softmax(dim=0).tolist()
        return {f"weight_s{number}": weight for number, weight in enumerate(weights, start=1)}


@torch.no_grad()
def scale_maps(images: torch.Tensor, radii: tuple[int, ...]) -> torch.Tensor:
    """Images [B, 1, H, W] in [0, 1] -> a map in (0, 1) for each radius, [B, len(radii), H, W], float32."""
    (height, width), margin = images.shape[-2:], max(radii)
    squashed = standardised(images).sigmoid()
    integral = integral_image(squashed, margin, offset=0)
    maps = []
    for r in radii:
        if r == 1:
            neighbours = window(integral, 1, margin, height, width) - squashed[:, 0]
            maps.append((neighbours + EPS).float().log())
        else:
            left, right, up, down = half_windows(integral, r, margin, height, width, with_centre=False)
            gx, gy = ((a + EPS).div(b + EPS).float().log() for a, b in ((left, right), (up, down)))
            maps.append(torch.hypot(gx, gy))
    return torch.stack(maps, dim=1).sigmoid()
