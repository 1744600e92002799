"""Learning rates that decay from the detector's head to the image."""

from typing import Any

from mmdet.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from saratrx.errors import InputError
from saratrx.layer_decay import layer_decay_groups


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class HiViTLayerDecayOptimizerConstructor(DefaultOptimWrapperConstructor):
    """Parameter groups by the layer of the backbone; `paramwise_cfg` names layer_decay_rate and num_layers.

    The rate of layer k is lr * rate ** (num_layers + 1 - k): layer 0 is all before the first attention block and the
    position embedding, 1 to num_layers are the attention blocks, and the rest of the detector learns at the full rate.
    Biases and norms are not decayed towards 0; frozen parameters are left out.
    """

    def add_params(self, params: list[dict[str, Any]], module: nn.Module, **kwargs: Any) -> None:
        """Add the groups of a detector to `params`.

        Raises:
            InputError: if the backbone has another number of attention blocks than `num_layers`.

        """
        rate, depth = self.paramwise_cfg["layer_decay_rate"], self.paramwise_cfg["num_layers"]
        backbone: Any = module.backbone
        top = backbone.decay_layer("fpn1.weight")
        if top != depth + 1:
            raise InputError(f"paramwise_cfg num_layers {depth}: the backbone has {top - 1} attention blocks")

        def layer_of(name: str) -> int:
            return backbone.decay_layer(name.removeprefix("backbone.")) if name.startswith("backbone.") else top

        groups = layer_decay_groups(
            module.named_parameters(), layer_of, top, lr=self.base_lr, weight_decay=self.base_wd, rate=rate
        )
        params += groups
        print_log(f"{len(groups)} parameter groups, rates from {params[0]['lr']:.2e} to {self.base_lr:.2e}", "current")
