"""Which images are nearest to which, by their features."""

import torch
import torch.nn.functional as F


def nearest(memory: torch.Tensor, asked: torch.Tensor, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the nearest of remembered images for each of others.

    Features are first standardised by the memory's mean and standard deviation: those of a masked autoencoder all point
    nearly the same way (mean cosine 0.99).

    Args:
        memory: features [N, D].
        asked: features [M, D].
        number: K, of neighbours; N if there are fewer.

    Returns:
        Cosine similarities [M, K], from -1 to 1, the nearest first, and places in the memory [M, K].

    """
    mean, deviation = memory.mean(dim=0), memory.std(dim=0, correction=0) + 1e-6
    memory, asked = (F.normalize((x - mean) / deviation, dim=1) for x in (memory, asked))
    similarity, places = (asked @ memory.T).topk(min(number, len(memory)), dim=1)
    return similarity, places
