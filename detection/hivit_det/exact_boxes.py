"""Boxes in float32 where the rest is computed in bfloat16, whose numbers above 512 are 4 apart."""

from typing import Any

import torch
from mmdet.models.dense_heads import DETRHead
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from saratrx.errors import InputError


def keep_boxes_exact(model: nn.Module) -> None:
    """Make a detector's neck and heads give float32, also under autocast.

    Priors, RoIs and boxes take the precision of what they are computed from: RoIs that of the neck's maps, priors and
    boxes that of the heads' outputs. What is inside the backbone, neck and heads keeps its precision.

    Raises:
        InputError: for DETR and its kin, which compute boxes inside.

    """
    for name, module in model.named_modules():
        if isinstance(module, DETRHead):
            raise InputError(f"--amp: {type(module).__name__} computes its boxes in 16 bits then; leave --amp out")
        if name.rpartition(".")[2] == "neck" or isinstance(module, BaseDenseHead | BBoxHead):
            module.register_forward_hook(give_float32)


def give_float32(module: nn.Module, inputs: object, output: object) -> object:
    """Cast what a module gives; a hook of PyTorch."""
    return to_float32(output)


def to_float32(value: Any) -> Any:
    """Cast the floating-point tensors in a value, which may hold lists, tuples and dicts."""
    if isinstance(value, torch.Tensor):
        return value.float() if value.is_floating_point() else value
    if isinstance(value, dict):
        return {key: to_float32(each) for key, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(to_float32, value))
    return value


@HOOKS.register_module()
class ExactBoxesHook(Hook):
    """Keeps boxes in float32 in a training with mixed precision."""

    def before_run(self, runner: Runner) -> None:
        """Prepare the model, once."""
        keep_boxes_exact(runner.model)
