"""Data sets by name."""

from yacs.config import CfgNode

from dassl.data.datasets.base_dataset import DatasetBase
from dassl.utils.registry import Registry

DATASET_REGISTRY = Registry("DATASET.NAME")


def build_dataset(cfg: CfgNode) -> DatasetBase:
    """Make the data set that the config names.

    Raises:
        InputError: if there is none of that name, or its files are not as they should be.

    """
    return DATASET_REGISTRY.get(cfg.DATASET.NAME)(cfg)
