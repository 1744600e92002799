"""What an encoder written for Dassl inherits."""

from torch import nn


class Backbone(nn.Module):
    """An encoder of images.

    Attributes:
        out_features: how many features it gives.
        has_weights: false if there is nothing to load, so that a config names no weights.

    """

    out_features: int = 0
    has_weights: bool = True
