"""Configuration."""

from dassl.config.defaults import get_cfg_default as get_cfg_default
