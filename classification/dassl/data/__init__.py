"""Data sets, transforms and loaders."""

from dassl.data.data_manager import DataManager as DataManager
from dassl.data.data_manager import DatasetWrapper as DatasetWrapper
from dassl.data.data_manager import build_data_loader as build_data_loader
