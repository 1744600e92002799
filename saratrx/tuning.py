"""What fine-tuning trains of a HiViT: all, new layers, the last attention blocks, or low-rank changes of matrices."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import nn
from torch.nn.utils import parametrize

from saratrx.errors import InputError
from saratrx.hivit import AttentionBlock, HiViT

TUNES = ("all", "head", "last_k", "lora")
TARGETS = ("qkv", "proj", "mlp")  # linear layers of the blocks: two of the attention, and the two of an mlp
APART = ".parametrizations.weight."  # in the keys of a matrix with a change: of the matrix, and of the change


class LowRank(nn.Module):
    """LoRA (Hu et al., ICLR 2022): a matrix W [out, in] becomes W + alpha / rank * up @ down. At first up is 0.

    The scale is saved beside the factors: weights tell what they mean, and are used so whatever a config says.

    Args:
        linear: the layer whose matrix it is.
        rank: of the change.
        alpha: its scale.

    """

    def __init__(self, linear: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.register_buffer("scale", linear.weight.new_tensor(alpha / rank))
        self.down = nn.Parameter(linear.weight.new_empty(rank, linear.in_features))
        self.up = nn.Parameter(linear.weight.new_zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))  # as nn.Linear begins

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        with torch.autocast(weight.device.type, enabled=False):  # so that merged weights are those of training
            return changed(weight, self.get_buffer("scale"), self.up, self.down)


def changed(weight: torch.Tensor, scale: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """Add a low-rank change [out, rank] @ [rank, in] to a matrix [out, in]."""
    return weight + scale * (up @ down)


def freeze(
    model: HiViT,
    new: Sequence[str],
    tune: str,
    *,
    last_k: tuple[str, int],
    rank: tuple[str, int],
    alpha: float,
    targets: Sequence[str],
) -> None:
    """Leave a part of a model trainable, its new layers always.

    Args:
        model: a HiViT; with `lora`, its matrices get their changes.
        new: names of the layers that pre-training has not trained.
        tune: what is trained besides, one of `TUNES`.
        last_k: of `last_k`, how many attention blocks: the option's name and its value.
        rank: of `lora`, likewise.
        alpha: of `lora`, the scale of the changes.
        targets: of `lora`, some of `TARGETS`.

    Raises:
        InputError: for more attention blocks than there are, or a larger rank than a matrix can have.

    """
    if tune == "all":
        return
    trained = [getattr(model, name) for name in new]
    if tune == "last_k":
        blocks = [block for block in model.blocks if isinstance(block, AttentionBlock)]
        if len(blocks) < last_k[1]:
            raise InputError(f"{last_k[0]} {last_k[1]}: the encoder has {len(blocks)} attention blocks")
        trained += blocks[-last_k[1] :]
    model.requires_grad_(False)
    for part in trained:
        part.requires_grad_(True)
    if tune == "lora":
        for name, linear in list(linears(model, targets)):
            if min(linear.weight.shape) < rank[1]:
                shape = "x".join(map(str, linear.weight.shape))
                raise InputError(f"{rank[0]} {rank[1]}: {name} has {shape} weights")
            parametrize.register_parametrization(linear, "weight", LowRank(linear, rank[1], alpha))


def linears(model: HiViT, targets: Sequence[str]) -> Iterator[tuple[str, nn.Linear]]:
    """Give the linear layers of the blocks that some of `TARGETS` are about, with their names."""
    for name, module in model.blocks.named_modules():
        if isinstance(module, nn.Linear) and set(targets) & set(name.split(".")):
            yield f"blocks.{name}", module


def rest_frozen_blocks(model: HiViT) -> None:
    """Put the blocks without anything to train into evaluation mode: no stochastic depth there."""
    for block in model.blocks:
        if not any(parameter.requires_grad for parameter in block.parameters()):
            block.eval()


def count(model: nn.Module) -> tuple[int, int]:
    """Count the parameters that are trained, and those that the model has without its low-rank changes."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    added = sum(p.numel() for part in model.modules() if isinstance(part, LowRank) for p in part.parameters())
    return trained, sum(p.numel() for p in model.parameters()) - added


def merged(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give weights as a model without low-rank changes has them: each change is added to its matrix.

    Changes that do not fit their matrix are left out, and the matrix with them.
    """
    found = {key: value for key, value in weights.items() if APART not in key}
    for key, value in weights.items():
        name, _, part = key.partition(APART)
        scale, up, down = (weights.get(f"{name}{APART}0.{factor}") for factor in ("scale", "up", "down"))
        if part != "original" or scale is None or up is None or down is None or up.ndim != 2 or down.ndim != 2:
            continue
        if (up.shape[0], down.shape[1]) == value.shape and up.shape[1] == down.shape[0] and scale.ndim == 0:
            found[f"{name}.weight"] = changed(value, scale, up, down)
    return found


def fitted(weights: dict[str, torch.Tensor], own: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Bring weights to the form of a model, so that ones with low-rank changes and ones without can be exchanged.

    Args:
        weights: to be loaded.
        own: of the model. Where it has no changes, those in `weights` are added to their matrices; where it has some
            and `weights` have none, its own, at first zero, come beside the matrices.

    """
    if not any(APART in key for key in own):
        return merged(weights)
    if any(APART in key for key in weights):
        return weights
    changes = {key: value for key, value in own.items() if APART in key}
    names = {f"{key.partition(APART)[0]}.weight": f"{key.partition(APART)[0]}{APART}original" for key in changes}
    return changes | {names.get(key, key): value for key, value in weights.items()}
