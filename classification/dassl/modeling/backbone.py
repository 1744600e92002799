"""What an encoder written for Dassl inherits."""

from torch import nn


class Backbone(nn.Module):
    """An encoder of images, whose `out_features` says how many features it gives."""

    out_features: int = 0
