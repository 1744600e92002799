"""Top-k accuracy."""

from typing import Any

import torch


def compute_accuracy(
    output: torch.Tensor | tuple[Any, ...] | list[Any], target: torch.Tensor, topk: tuple[int, ...] = (1,)
) -> list[torch.Tensor]:
    """Compute the share of samples, in percent, whose label is among the k highest scores.

    Args:
        output: scores [B, C], or a tuple or list that begins with them.
        target: labels [B].
        topk: each k that is asked for; one larger than C counts as C.

    Returns:
        A tensor [1] for each k.

    """
    scores = output[0] if isinstance(output, (tuple, list)) else output
    ranking = scores.topk(min(max(topk), scores.shape[1]), dim=1).indices
    hit = ranking == target[:, None]
    return [100 * hit[:, :k].any(dim=1).float().mean()[None] for k in topk]
