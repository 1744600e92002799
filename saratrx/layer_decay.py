"""Learning rates that decay from the last layer to the image (BEiT, MAE), for fine-tuning."""

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn


def layer_decay_groups(
    parameters: Iterable[tuple[str, nn.Parameter]],
    layer_of: Callable[[str], int],
    top: int,
    *,
    lr: float,
    weight_decay: float,
    rate: float,
) -> list[dict[str, Any]]:
    """Group parameters by layer: the learning rate of layer k is lr * rate ** (top - k).

    Biases and norms, which have one dimension, are not decayed towards 0; frozen parameters are left out.

    Args:
        parameters: names and parameters, as `named_parameters` gives them.
        layer_of: layer of a parameter's name, 0 to `top`, such as `HiViT.decay_layer`.
        top: layer that learns at the full rate.
        lr: full learning rate.
        weight_decay: of matrices.
        rate: in (0, 1].

    Returns:
        Groups for an optimizer, from layer 0 up, within a layer those without weight decay first.

    """
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in parameters:
        if not parameter.requires_grad:
            continue
        layer, is_matrix = layer_of(name), parameter.ndim > 1
        scaled = {"lr": lr * rate ** (top - layer), "weight_decay": weight_decay if is_matrix else 0.0}
        groups.setdefault((layer, is_matrix), {"params": [], **scaled})["params"].append(parameter)
    return [groups[key] for key in sorted(groups)]
