"""Multi-scale gradient features (MGF), the target of SARATR-X (IEEE TIP 2025, doi 10.1109/TIP.2025.3531988).

The gradient of a SAR image by the ratio of averages: speckle is multiplicative, so the logarithm of the ratio of two
windows' sums is as uncertain in a bright region as in a dark one, where a difference would grow with the brightness.

Rectangle sums come from one integral image in float64, not from dense (2r+1)^2 convolutions: the cost no longer depends
on r, and float64 keeps the differences of large prefix sums exact to 1e-7 after the logarithm.
"""

import torch
import torch.nn.functional as F

from hivit_mae.models.targets.target import Target

RADII = (9, 13, 17)  # the published scales: windows 19, 27 and 35 px wide
OFFSET = 0.01  # added to every pixel, so that a black window has a ratio


class GradientFeature(Target):
    """images [B, 1, H, W] in [0, 1] -> gradient magnitude at each radius, [B, len(radii), H, W], float32.

    With sums over rectangles around pixel (i, j), the centre line counted on both sides:
    gx = ln(left / right), gy = ln(up / down), feature = sqrt(gx^2 + gy^2).

    Args:
        radii: half-widths r of the windows in pixels; H and W must be larger than the largest.

    """

    def __init__(self, radii: tuple[int, ...] = RADII) -> None:
        super().__init__()
        self.radii = tuple(radii)
        self.channels = len(self.radii)
        self.titles = tuple(f"r={r}" for r in self.radii)

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        height, width = images.shape[-2:]
        margin = max(self.radii)
        if images.ndim != 4 or images.shape[1] != 1 or min(height, width) <= margin:
            raise ValueError(f"expected images [B, 1, H, W] with sides over {margin} px, not {list(images.shape)}")
        integral = integral_image(images, margin)
        features = [torch.hypot(*ratio_gradient(integral, r, margin, height, width)) for r in self.radii]
        return torch.stack(features, dim=1)


class SarJepa(GradientFeature):
    """The four scales of SAR-JEPA (ISPRS J. 2024), as they are: never normalised."""

    normalised = False

    def __init__(self) -> None:
        super().__init__((5, 9, 13, 17))


def integral_image(images: torch.Tensor, margin: int, offset: float = OFFSET) -> torch.Tensor:
    """Sum all pixels above and to the left of each corner of the padded image.

    images [B, 1, H, W] -> [B, H + 2 margin + 1, W + 2 margin + 1], float64, with zeros in the first row and column.
    `offset` is added to every pixel.
    """
    padded = F.pad(images, (margin,) * 4, mode="reflect")[:, 0].double() + offset
    return F.pad(padded.cumsum(1).cumsum(2), (1, 0, 1, 0))


def rows(strips: torch.Tensor, first: int, last: int, height: int) -> torch.Tensor:
    """Sum the rows from `first` up to and without `last` of prefix sums along the rows, for `height` pixels.

    Both are counted from the padding's edge for the first pixel, and move on with it. Corner k lies before row k, so
    a sum is the difference of two corners.
    """
    return strips[:, last : last + height, :] - strips[:, first : first + height, :]


def columns(strips: torch.Tensor, first: int, last: int, width: int) -> torch.Tensor:
    """Do the same for columns."""
    return strips[:, :, last : last + width] - strips[:, :, first : first + width]


def window(integral: torch.Tensor, r: int, margin: int, height: int, width: int) -> torch.Tensor:
    """Sum over the window of half-width r around each pixel, [B, H, W], float64."""
    band = rows(integral, margin - r, margin + r + 1, height)
    return columns(band, margin - r, margin + r + 1, width)


def half_windows(
    integral: torch.Tensor, r: int, margin: int, height: int, width: int, *, with_centre: bool
) -> tuple[torch.Tensor, ...]:
    """Sum over the left, right, upper and lower half of the window of half-width r around each pixel.

    Args:
        integral: of the image padded by `margin` >= r.
        r: half-width in pixels.
        margin: of the padding in pixels.
        height: of the image in pixels.
        width: of the image in pixels.
        with_centre: whether the column (row) of the pixel counts on both sides, or on neither.

    Returns:
        Four sums [B, H, W], float64.

    """
    begin, end = margin - r, margin + r + 1
    near, far = (margin + 1, margin) if with_centre else (margin, margin + 1)
    band = rows(integral, begin, end, height)  # still a prefix sum along the columns
    left, right = columns(band, begin, near, width), columns(band, far, end, width)
    band = columns(integral, begin, end, width)
    up, down = rows(band, begin, near, height), rows(band, far, end, height)
    return left, right, up, down


def ratio_gradient(
    integral: torch.Tensor, r: int, margin: int, height: int, width: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """gx, gy [B, H, W] at half-width r, float32, from the integral image of the image padded by `margin` >= r."""
    left, right, up, down = half_windows(integral, r, margin, height, width, with_centre=True)
    # the quotient is taken in float64; its logarithm in float32 is then exact to float32
    return (left / right).float().log_(), (up / down).float().log_()
