"""Encoders and heads by name."""

from dassl.modeling.build import BACKBONE_REGISTRY as BACKBONE_REGISTRY
from dassl.modeling.build import HEAD_REGISTRY as HEAD_REGISTRY
from dassl.modeling.build import build_backbone as build_backbone
from dassl.modeling.build import build_head as build_head
