"""Weights of whole detectors, read without running anything that a file may contain."""

from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import HistoryBuffer
from torch import nn

from saratrx.checkpoint import load_all, load_checkpoint


def read_detector(path: str | Path) -> dict[str, Any]:
    """What tools/train.py saved in a file: the weights under `model`, and what MMEngine keeps beside them.

    Raises:
        CheckpointError: for a file that is missing, torn, without weights, or that could run code.

    """
    return load_checkpoint(path, allowed=[*LOG_TYPES, (statistic, "builtins.getattr")])


def load_detector(model: nn.Module, path: str | Path) -> None:
    """Load all weights of a detector.

    Raises:
        CheckpointError: if the file cannot be read, or is of another detector.

    """
    weights = read_detector(path)["model"]
    load_all(model, weights, path)
    print(f"weights from {path}: all {len(weights)} tensors of the detector", flush=True)


def statistic(owner: type, name: str) -> object:
    """A method of HistoryBuffer; stands in for `getattr` in files, which could reach anything."""
    if owner is not HistoryBuffer or name not in ("min", "max", "current", "mean"):
        raise ValueError(f"{name} of {owner} is no statistic of a log")
    return getattr(owner, name)


# MMEngine's checkpoints hold the curves since the last line of the log as pickled arrays
LOG_TYPES = (
    HistoryBuffer,
    np.ndarray,
    np.dtype,
    type(np.dtype(np.float64)),
    type(np.dtype(np.int64)),
    np._core.multiarray._reconstruct,
    np._core.multiarray.scalar,
)
