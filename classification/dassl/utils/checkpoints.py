"""A trainer's checkpoints: `<folder>/model.pth.tar-<epoch>`, and a file `checkpoint` that names the newest.

Beside each stands its hash, against which it is checked when it is read.
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from dassl.utils.tools import mkdir_if_missing
from saratrx import checkpoint as saratrx_checkpoint
from saratrx.checkpoint import CheckpointError, LoadReport, load_all, read_checkpoint
from saratrx.files import write_text
from saratrx.reporting import get_logger

log = get_logger(__name__)
BEST = "model-best.pth.tar"


def save_checkpoint(
    state: dict[str, Any],
    save_dir: str | Path,
    is_best: bool = False,
    remove_module_from_keys: bool = True,
    model_name: str = "",
) -> None:
    """Write a checkpoint in one step, with its hash.

    Args:
        state: `state_dict`, `epoch` (epochs done) and what else is to be kept: tensors, numbers, strings, and dicts and
            lists of them.
        save_dir: its folder.
        is_best: write it as model-best.pth.tar too.
        remove_module_from_keys: leave out the prefix `module.` of DataParallel.
        model_name: file name, which is then not taken for the newest (default: model.pth.tar-<epoch>).

    """
    mkdir_if_missing(save_dir)
    if remove_module_from_keys:
        weights = {key.removeprefix("module."): value for key, value in state["state_dict"].items()}
        state = state | {"state_dict": weights}
    path = Path(save_dir, model_name or f"model.pth.tar-{state['epoch']}")
    saratrx_checkpoint.save_checkpoint(path, **state)
    if not model_name:
        write_text(Path(save_dir, "checkpoint"), path.name + "\n")
    if is_best:
        saratrx_checkpoint.save_checkpoint(Path(save_dir, BEST), **state)
    log.info("Checkpoint saved to %s", path)


def load_checkpoint(fpath: str | Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, onto the CPU and without running anything that it contains.

    Raises:
        CheckpointError: if it is missing, torn, not what the hash beside it says, or no such file.

    """
    content = read_checkpoint(fpath)
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise CheckpointError(f"{fpath} is no checkpoint of a trainer: it has no state_dict")
    return content


def load_pretrained_weights(model: nn.Module, weight_path: str | Path) -> None:
    """Load the weights whose names and shapes agree, and print which were loaded, stay new and were ignored.

    Raises:
        CheckpointError: if none agrees.

    """
    found = saratrx_checkpoint.load_checkpoint(weight_path)["model"]
    own = model.state_dict()
    fitting = {key: value for key, value in found.items() if key in own and own[key].shape == value.shape}
    if not fitting:
        raise CheckpointError(f"{weight_path} does not fit this model: no name and shape agree")
    model.load_state_dict(own | fitting)
    new, ignored = (sorted(keys - fitting.keys()) for keys in (own.keys(), found.keys()))
    log.info("%s", LoadReport(Path(weight_path), loaded=list(fitting), new=new, ignored=ignored))


def newest_checkpoint(folder: str | Path) -> Path:
    """Give the path that the file `checkpoint` of a folder names.

    Raises:
        CheckpointError: without that file.

    """
    pointer = Path(folder, "checkpoint")
    if not pointer.is_file():
        raise CheckpointError(f"{folder} holds nothing to resume: there is no file named checkpoint")
    return Path(folder, pointer.read_text(encoding="utf-8").strip())


def resume_from_checkpoint(
    fdir: str | Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
) -> int:
    """Load the newest checkpoint of a folder; return the number of epochs that it has seen.

    Raises:
        CheckpointError: if there is none, or it cannot be read or is another model's.

    """
    path = newest_checkpoint(fdir)
    checkpoint = load_checkpoint(path)
    load_all(model, checkpoint["state_dict"], path)
    for part, name in ((optimizer, "optimizer"), (scheduler, "scheduler")):
        if part is not None and checkpoint.get(name) is not None:
            part.load_state_dict(checkpoint[name])
    log.info("Resumed %s after epoch %s", path, checkpoint["epoch"])
    epochs: int = checkpoint["epoch"]
    return epochs
