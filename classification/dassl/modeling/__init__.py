"""Encoders, heads and networks by name."""

from dassl.modeling.backbone import Backbone as Backbone
from dassl.modeling.build import BACKBONE_REGISTRY as BACKBONE_REGISTRY
from dassl.modeling.build import HEAD_REGISTRY as HEAD_REGISTRY
from dassl.modeling.build import NETWORK_REGISTRY as NETWORK_REGISTRY
from dassl.modeling.build import build_backbone as build_backbone
from dassl.modeling.build import build_head as build_head
from dassl.modeling.build import build_network as build_network
