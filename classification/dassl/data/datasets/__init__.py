"""What a data set is, and those that are known by name."""

from dassl.data.datasets.base_dataset import DatasetBase as DatasetBase
from dassl.data.datasets.base_dataset import Datum as Datum
from dassl.data.datasets.build import DATASET_REGISTRY as DATASET_REGISTRY
from dassl.data.datasets.build import build_dataset as build_dataset
