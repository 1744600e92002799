"""Which layers of a model learn, and what their weights begin as."""

from collections.abc import Sequence

from torch import nn

from saratrx.errors import InputError

KINDS = ("normal", "xavier", "kaiming", "orthogonal")


def open_all_layers(model: nn.Module) -> None:
    """Let all parameters learn."""
    model.train()
    model.requires_grad_(True)


def open_specified_layers(model: nn.Module, open_layers: str | Sequence[str]) -> None:
    """Let the named children learn, and nothing else: the others are frozen and in evaluation mode.

    Raises:
        InputError: for a layer that the model does not have.

    """
    model = model.module if isinstance(model, nn.DataParallel) else model
    names = [open_layers] if isinstance(open_layers, str) else list(open_layers)
    layers = dict(model.named_children())
    unknown = [name for name in names if name not in layers]
    if unknown:
        raise InputError(f"layers {', '.join(unknown)}: the model has only {', '.join(layers)}")
    for name, layer in layers.items():
        layer.train(name in names)
        layer.requires_grad_(name in names)


def init_network_weights(model: nn.Module, init_type: str = "normal", gain: float = 0.02) -> None:
    """Draw the weights of all convolutions and linear layers anew; biases become 0, BatchNorm 1 (or near) and 0.

    Raises:
        InputError: for an `init_type` that does not exist.

    """
    if init_type not in KINDS:
        raise InputError(f"init_type {init_type}: unknown; choose one of {', '.join(KINDS)}")

    def draw(module: nn.Module) -> None:
        if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.InstanceNorm2d):
            if module.weight is not None:
                nn.init.normal_(module.weight, 1.0, gain)
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
            if init_type == "normal":
                nn.init.normal_(module.weight, 0.0, gain)
            elif init_type == "xavier":
                nn.init.xavier_normal_(module.weight, gain)
            elif init_type == "kaiming":
                nn.init.kaiming_normal_(module.weight)
            else:
                nn.init.orthogonal_(module.weight, gain)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    model.apply(draw)
