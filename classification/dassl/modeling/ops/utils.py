"""Small functions that trainers written for Dassl import."""

import math

import torch
from torch import nn


def sharpen_prob(p: torch.Tensor, temperature: float = 2) -> torch.Tensor:
    """Make probabilities [B, C] more certain: their powers of `temperature`, brought to the sum 1."""
    powers = p**temperature
    return powers / powers.sum(dim=1, keepdim=True)


def create_onehot(label: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Labels [B] -> float32 [B, num_classes] with a 1 at each label."""
    return nn.functional.one_hot(label, num_classes).float()


def linear_rampup(current: float, rampup_length: float) -> float:
    """Give a weight that rises from 0 to 1 in `rampup_length` steps, linearly."""
    return min(max(current / rampup_length, 0.0), 1.0)


def sigmoid_rampup(current: float, rampup_length: float) -> float:
    """Give a weight that rises from exp(-5) to 1 in `rampup_length` steps (Tarvainen and Valpola, NeurIPS 2017)."""
    if rampup_length == 0:
        return 1.0
    return math.exp(-5.0 * (1.0 - min(max(current / rampup_length, 0.0), 1.0)) ** 2)


@torch.no_grad()
def ema_model_update(model: nn.Module, ema_model: nn.Module, alpha: float) -> None:
    """Move the parameters of `ema_model` to `alpha` times their own and 1 - `alpha` times those of `model`."""
    for average, parameter in zip(ema_model.parameters(), model.parameters(), strict=True):
        average.lerp_(parameter, 1 - alpha)
