"""Operations that trainers written for Dassl import."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


def cross_entropy(
    input: torch.Tensor,  # noqa: A002 -- Dassl's name
    target: torch.Tensor,
    label_smooth: float = 0,
    reduction: str = "mean",
) -> torch.Tensor:
    """Compute the cross-entropy of logits [B, C] and labels [B], with labels smoothed by `label_smooth` in [0, 1)."""
    return F.cross_entropy(input, target, label_smoothing=label_smooth, reduction=reduction)


def mixup(
    x1: torch.Tensor, x2: torch.Tensor, y1: torch.Tensor, y2: torch.Tensor, beta: float, preserve_order: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix images [B, ...] and soft labels [B, C] of two batches, by a share drawn from Beta(beta, beta) for each.

    Args:
        x1: images.
        x2: images to be mixed in.
        y1: labels of the first.
        y2: labels of the second.
        beta: above 0.
        preserve_order: the first have at least half.

    """
    share = torch.distributions.Beta(beta, beta).sample((len(x1),)).to(x1)
    share = torch.maximum(share, 1 - share) if preserve_order else share
    of_images, of_labels = share.view(-1, *[1] * (x1.ndim - 1)), share[:, None]
    return x1 * of_images + x2 * (1 - of_images), y1 * of_labels + y2 * (1 - of_labels)


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, scale: float) -> torch.Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return -ctx.scale * gradient, None


class ReverseGrad(nn.Module):
    """Passes values on and turns their gradients round, times `lambd` (Ganin and Lempitsky, ICML 2015)."""

    def forward(self, x: torch.Tensor, lambd: float = 1.0) -> torch.Tensor:
        result: torch.Tensor = _Reversed.apply(x, lambd)
        return result
