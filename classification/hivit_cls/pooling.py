"""From the tokens of an image's patches to one feature."""

import torch

WIDTHS = {"mean": 1, "mean_std": 2, "cls": 1}  # of the feature, times that of the tokens


def pool_tokens(tokens: torch.Tensor, pooling: str) -> torch.Tensor:
    """Pool tokens [B, N, D]: "mean" [B, D], or "mean_std", which adds their standard deviation: [B, 2 D], float32."""
    if pooling == "mean":
        return tokens.mean(dim=1)
    deviation, mean = torch.std_mean(tokens.float(), dim=1, correction=0)
    return torch.cat([mean, deviation], dim=1)
