"""Multi-scale gradient features (MGF), the target of SARATR-X (IEEE TIP 2025, doi 10.1109/TIP.2025.3531988).

The gradient of a SAR image by the ratio of averages: speckle is multiplicative, so the logarithm of the ratio of two
windows' sums is as uncertain in a bright region as in a dark one, where a difference would grow with the brightness.

Rectangle sums come from one integral image in float64, not from dense (2r+1)^2 convolutions: the cost no longer depends
on r, and float64 keeps the differences of large prefix sums exact to 1e-7 after the logarithm.
"""

import torch
import torch.nn.functional as F
from torch import nn

RADII = (9, 13, 17)  # the published scales: windows 19, 27 and 35 px wide
OFFSET = 0.01  # added to every pixel, so that a black window has a ratio


class GradientFeature(nn.Module):
    """images [B, 1, H, W] in [0, 1] -> gradient magnitude at each radius, [B, len(radii), H, W], float32.

    With sums over rectangles around pixel (i, j), the centre line counted on both sides:
    gx = ln(left / right), gy = ln(up / down), feature = sqrt(gx^2 + gy^2).

    Args:
        radii: half-widths r of the windows in pixels; H and W must be larger than the largest.

    """

    def __init__(self, radii: tuple[int, ...] = RADII) -> None:
        super().__init__()
        self.radii = tuple(radii)

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        height, width = images.shape[-2:]
        margin = max(self.radii)
        if images.ndim != 4 or images.shape[1] != 1 or min(height, width) <= margin:
            raise ValueError(f"expected images [B, 1, H, W] with sides over {margin} px, not {list(images.shape)}")
        integral = integral_image(images, margin)
        features = [gradient_magnitude(integral, r, margin, height, width) for r in self.radii]
        return torch.stack(features, dim=1)


def integral_image(images: torch.Tensor, margin: int) -> torch.Tensor:
    """Sum all pixels above and to the left of each corner of the padded image.

    images [B, 1, H, W] -> [B, H + 2 margin + 1, W + 2 margin + 1], float64, with zeros in the first row and column.
    """
    padded = F.pad(images, (margin,) * 4, mode="reflect")[:, 0].double() + OFFSET
    return F.pad(padded.cumsum(1).cumsum(2), (1, 0, 1, 0))


def gradient_magnitude(integral: torch.Tensor, r: int, margin: int, height: int, width: int) -> torch.Tensor:
    """Feature [B, H, W] at half-width r, float32, from the integral image of the image padded by `margin` >= r.

    Corner k of a dimension lies before its pixel k, so the sum over pixels a..b is corner(b + 1) - corner(a).
    """

    def rows(offset: int, strips: torch.Tensor) -> torch.Tensor:  # corner (i + offset) for all i
        return strips[:, margin + offset : margin + offset + height, :]

    def columns(offset: int, strips: torch.Tensor) -> torch.Tensor:  # corner (j + offset) for all j
        return strips[:, :, margin + offset : margin + offset + width]

    band = rows(r + 1, integral) - rows(-r, integral)  # rows i-r..i+r, still a prefix sum along the columns
    left = columns(1, band) - columns(-r, band)
    right = columns(r + 1, band) - columns(0, band)
    band = columns(r + 1, integral) - columns(-r, integral)
    up = rows(1, band) - rows(-r, band)
    down = rows(r + 1, band) - rows(0, band)
    # the quotient is taken in float64; its logarithm in float32 is then exact to float32
    return torch.hypot((left / right).float().log_(), (up / down).float().log_())
