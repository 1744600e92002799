"""Evaluators by name."""

from typing import Any

from yacs.config import CfgNode

from dassl.utils.registry import Registry

EVALUATOR_REGISTRY = Registry("TEST.EVALUATOR")


def build_evaluator(cfg: CfgNode, **kwargs: Any) -> Any:
    """Make the evaluator that the config names; arguments are passed on."""
    return EVALUATOR_REGISTRY.get(cfg.TEST.EVALUATOR)(cfg, **kwargs)
