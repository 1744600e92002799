"""What every target says of itself."""

import torch
from torch import nn


class Target(nn.Module):
    """images [B, 1, H, W] in [0, 1] -> maps [B, C, H / cell, W / cell], which the decoder predicts patch by patch.

    It is called without mixed precision, with sides that are multiples of 16, and compiled as part of one graph. What
    is not to be trained computes under `torch.no_grad`.

    Attributes:
        channels: C, maps or values of a cell.
        cell: side of a cell in pixels, a divisor of 16; 1 where there is a value for each pixel.
        normalised: whether the values of each patch get zero mean and unit variance; None leaves it to
            --norm_pix_loss.
        titles: of the pictures that the reconstruction panel shows.

    """

    channels: int = 1
    cell: int = 1
    normalised: bool | None = None
    titles: tuple[str, ...] = ("",)

    def picture(self, maps: torch.Tensor) -> torch.Tensor:
        """Turn maps [B, C, h, w] into what a person can look at, [B, len(titles), h, w]; here they are that already."""
        return maps

    def figures(self) -> dict[str, float]:
        """Give what the log should tell of it after each epoch, by name."""
        return {}
