"""What fine-tuning trains of a HiViT: all, the head, the last attention blocks, or low-rank changes of matrices."""

import math
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.utils import parametrize
from yacs.config import CfgNode

from saratrx.checkpoint import Weights
from saratrx.errors import InputError
from saratrx.hivit import AttentionBlock, HiViTClassifier

NEW = ("fc_norm", "head")  # the layers that pre-training has not trained: always trained here


class LowRank(nn.Module):
    """LoRA (Hu et al., ICLR 2022): a matrix W [out, in] becomes W + alpha / rank * up @ down. At first up is 0.

    Args:
        linear: the layer whose matrix it is.
        rank: of the change.
        alpha: its scale.

    """

    def __init__(self, linear: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.scale = alpha / rank
        self.down = nn.Parameter(linear.weight.new_empty(rank, linear.in_features))
        self.up = nn.Parameter(linear.weight.new_zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))  # as nn.Linear begins

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        with torch.autocast(weight.device.type, enabled=False):  # so that merged weights are those of training
            return weight + self.scale * (self.up @ self.down)


def freeze(model: HiViTClassifier, options: CfgNode) -> None:
    """Leave that part of a model trainable which TRAINER.MIM_FINETUNE.TUNE names, the new layers always.

    Args:
        model: the classifier; with `lora`, its matrices get their changes.
        options: the section TRAINER.MIM_FINETUNE.

    Raises:
        InputError: for more attention blocks than there are, or a larger rank than a matrix can have.

    """
    if options.TUNE == "all":
        return
    trained = [getattr(model, name) for name in NEW]
    if options.TUNE == "last_k":
        blocks = [block for block in model.blocks if isinstance(block, AttentionBlock)]
        if len(blocks) < options.LAST_K:
            raise InputError(
                f"TRAINER.MIM_FINETUNE.LAST_K {options.LAST_K}: the encoder has {len(blocks)} attention blocks"
            )
        trained += blocks[-options.LAST_K :]
    model.requires_grad_(False)
    for part in trained:
        part.requires_grad_(True)
    if options.TUNE == "lora":
        for name, linear in list(targets(model, options.LORA.TARGETS)):
            if min(linear.weight.shape) < options.LORA.RANK:
                shape = "x".join(map(str, linear.weight.shape))
                raise InputError(f"TRAINER.MIM_FINETUNE.LORA.RANK {options.LORA.RANK}: {name} has {shape} weights")
            parametrize.register_parametrization(
                linear, "weight", LowRank(linear, options.LORA.RANK, options.LORA.ALPHA)
            )


def targets(model: HiViTClassifier, kinds: list[str]) -> Iterator[tuple[str, nn.Linear]]:
    """Give the linear layers of the blocks that are called so: qkv and proj of the attention, the two of an mlp."""
    for name, module in model.blocks.named_modules():
        if isinstance(module, nn.Linear) and set(kinds) & set(name.split(".")):
            yield f"blocks.{name}", module


def count(model: nn.Module) -> tuple[int, int]:
    """Count the parameters that are trained, and those that the model has without its low-rank changes."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    added = sum(p.numel() for part in model.modules() if isinstance(part, LowRank) for p in part.parameters())
    return trained, sum(p.numel() for p in model.parameters()) - added


def merged(model: nn.Module) -> Weights:
    """Give the weights as a model without low-rank changes has them: each change is added to its matrix."""
    weights = {key: value for key, value in model.state_dict().items() if ".parametrizations." not in key}
    for name, module in model.named_modules():
        if parametrize.is_parametrized(module, "weight"):
            weights[f"{name}.weight"] = module.weight.detach()
    return weights
