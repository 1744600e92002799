"""Optimizers from the OPTIM section of a config."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from yacs.config import CfgNode

from saratrx.errors import InputError

ADAM_EPS = 1e-4  # of "adam" and "amsgrad", as published; "adamw" has the usual 1e-8
NAMES = ("adam", "amsgrad", "sgd", "rmsprop", "radam", "adamw")


def build_optimizer(
    model: nn.Module | Iterable[Any], optim_cfg: CfgNode, param_groups: list[dict[str, Any]] | None = None
) -> torch.optim.Optimizer:
    """Make an optimizer.

    Args:
        model: a module, or parameters, or groups of them.
        optim_cfg: the OPTIM section. With STAGED_LR the layers of `model` not in NEW_LAYERS learn at BASE_LR_MULT of
            the rate.
        param_groups: groups to be used instead of the model's parameters.

    Raises:
        InputError: for a name that does not exist, or layers that the model does not have.

    """
    groups: list[Any] = param_groups or []
    if param_groups is None and optim_cfg.STAGED_LR:
        groups = staged_groups(model, optim_cfg)
    elif param_groups is None:
        groups = list(model.parameters() if isinstance(model, nn.Module) else model)
    common = {"lr": optim_cfg.LR, "weight_decay": optim_cfg.WEIGHT_DECAY}
    betas = (optim_cfg.ADAM_BETA1, optim_cfg.ADAM_BETA2)
    if optim_cfg.NAME == "sgd":
        return torch.optim.SGD(
            groups,
            momentum=optim_cfg.MOMENTUM,
            dampening=optim_cfg.SGD_DAMPNING,
            nesterov=optim_cfg.SGD_NESTEROV,
            **common,
        )
    if optim_cfg.NAME == "rmsprop":
        return torch.optim.RMSprop(groups, momentum=optim_cfg.MOMENTUM, alpha=optim_cfg.RMSPROP_ALPHA, **common)
    if optim_cfg.NAME in ("adam", "amsgrad"):
        amsgrad = optim_cfg.NAME == "amsgrad"
        return torch.optim.Adam(groups, betas=betas, eps=ADAM_EPS, amsgrad=amsgrad, **common)
    if optim_cfg.NAME == "radam":
        return torch.optim.RAdam(groups, betas=betas, **common)
    if optim_cfg.NAME == "adamw":
        return torch.optim.AdamW(groups, betas=betas, **common)
    raise InputError(f"OPTIM.NAME {optim_cfg.NAME}: unknown; choose one of {', '.join(NAMES)}")


def staged_groups(model: nn.Module | Iterable[Any], optim_cfg: CfgNode) -> list[dict[str, Any]]:
    """Group parameters: new layers at the full rate, the others at a part of it."""
    if not isinstance(model, nn.Module):
        raise InputError("OPTIM.STAGED_LR True: the optimizer was given parameters, not a model with named layers")
    new_layers = optim_cfg.NEW_LAYERS
    new_layers = [new_layers] if isinstance(new_layers, str) else list(new_layers)
    layers = dict(model.named_children())
    unknown = [name for name in new_layers if name not in layers]
    if unknown:
        raise InputError(f"OPTIM.NEW_LAYERS {', '.join(unknown)}: the model has only {', '.join(layers)}")
    own_lr = optim_cfg.LR * optim_cfg.BASE_LR_MULT
    new = [p for name, layer in layers.items() if name in new_layers for p in layer.parameters()]
    inside_new = {id(p) for p in new}
    base = [p for p in model.parameters() if id(p) not in inside_new]
    return [{"params": base, "lr": own_lr}, {"params": new}]
