"""Weights of whole detectors, read without running anything that a file may contain."""

from pathlib import Path
from typing import Any

from mmengine.logging import HistoryBuffer
from torch import nn

from saratrx.checkpoint import load_all, load_checkpoint
from saratrx.reporting import get_logger

log = get_logger(__name__)


def read_detector(path: str | Path) -> dict[str, Any]:
    """Read what tools/train.py saved in a file: the weights under `model`, and what MMEngine keeps beside them.

    Raises:
        CheckpointError: for a file that is missing, torn, without weights, or that could run code.

    """
    return load_checkpoint(path, allowed=ALLOWED)


def load_detector(model: nn.Module, path: str | Path) -> None:
    """Load all weights of a detector.

    Raises:
        CheckpointError: if the file cannot be read, or is of another detector.

    """
    weights = read_detector(path)["model"]
    load_all(model, weights, path)
    log.info("weights from %s: all %d tensors of the detector", path, len(weights))


def statistic(owner: type, name: str) -> object:
    """Give a method of HistoryBuffer; stands in for `getattr` in files, which could reach anything."""
    if owner is not HistoryBuffer or name not in ("min", "max", "current", "mean"):
        raise ValueError(f"{name} of {owner} is no statistic of a log")
    return getattr(owner, name)


# MMEngine's checkpoints hold the curves since the last line of the log as pickled arrays
ALLOWED: list[Any] = [HistoryBuffer, (statistic, "builtins.getattr")]
