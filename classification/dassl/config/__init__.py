"""Configuration."""

from dassl.config.defaults import clean_cfg as clean_cfg
from dassl.config.defaults import get_cfg_default as get_cfg_default
