"""Registries of encoders, heads and networks."""

from typing import Any

from dassl.utils.registry import Registry

BACKBONE_REGISTRY = Registry("MODEL.BACKBONE.NAME")
HEAD_REGISTRY = Registry("MODEL.HEAD.NAME")
NETWORK_REGISTRY = Registry("network")  # of clients' own; there is none here


def build_backbone(name: str, **kwargs: Any) -> Any:
    """Make the encoder registered under a name, images -> features [B, out_features]; arguments are passed on."""
    return BACKBONE_REGISTRY.get(name)(**kwargs)


def build_head(name: str, **kwargs: Any) -> Any:
    """Make the head registered under a name, features -> features [B, out_features]; arguments are passed on."""
    return HEAD_REGISTRY.get(name)(**kwargs)


def build_network(name: str, **kwargs: Any) -> Any:
    """Make the network registered under a name; arguments are passed on."""
    return NETWORK_REGISTRY.get(name)(**kwargs)
