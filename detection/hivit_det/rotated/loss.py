"""The loss of oriented boxes."""

import torch
from mmdet.models.losses.utils import weight_reduce_loss
from mmdet.registry import MODELS
from torch import nn


@MODELS.register_module()
class GaussianDivergenceLoss(nn.Module):
    """1 - 1 / (1 + ln(1 + sqrt(D))), D the mean divergence (Kullback and Leibler) of two boxes from each other.

    Both are taken as Gaussian distributions, of which that of a box w x h has the standard deviations w / 2 and h / 2
    along its sides, so that an angle and the same a half turn on are one (Yang et al., NeurIPS 2021, doi
    10.48550/arXiv.2106.01883). By one of the two divergences alone, uncertain boxes become too small, or too large. It
    is MMRotate's GDLoss("jd", tau=1) without the determinants, which are no numbers for long thin boxes.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(
        self,
        pred: torch.Tensor,
        target: torch.Tensor,
        weight: torch.Tensor | None = None,
        avg_factor: float | torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Boxes [N, 5] and [N, 5] (x, y, w, h, angle), weights [N] and what to divide their sum by -> a number."""
        mean = (divergence(pred, target) + divergence(target, pred)) / 2
        distance = mean.clamp(min=1e-7).sqrt()  # the root has no slope at 0
        loss = 1 - 1 / (1 + distance.log1p())
        return self.loss_weight * weight_reduce_loss(loss, weight, "mean", avg_factor)


def divergence(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Divergence [N] of boxes [N, 5] from others [N, 5], both as Gaussian distributions; in the frame of the second."""
    x, y = (first[:, :2] - second[:, :2]).unbind(1)
    cos, sin = second[:, 4].cos(), second[:, 4].sin()
    turn = first[:, 4] - second[:, 4]
    w, h = first[:, 2:4].clamp(min=1e-6).unbind(1)
    other_w, other_h = second[:, 2:4].clamp(min=1e-6).unbind(1)
    along = ((2 * (x * cos + y * sin)) ** 2 + (w * turn.cos()) ** 2 + (h * turn.sin()) ** 2) / other_w**2
    across = ((2 * (y * cos - x * sin)) ** 2 + (w * turn.sin()) ** 2 + (h * turn.cos()) ** 2) / other_h**2
    return (along + across) / 2 - 1 + (other_w / w).log() + (other_h / h).log()
