"""A trainer's checkpoints: `<folder>/model.pth.tar-<epoch>`, and a file `checkpoint` that names the newest."""

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dassl.utils.tools import mkdir_if_missing
from saratrx import checkpoint as saratrx_checkpoint
from saratrx.checkpoint import CheckpointError, LoadReport, load_all, load_pickled_file


def save_checkpoint(
    state: dict[str, Any],
    save_dir: str | Path,
    is_best: bool = False,
    remove_module_from_keys: bool = True,
    model_name: str = "",
) -> None:
    """Write a checkpoint in one step.

    Args:
        state: `state_dict`, `epoch` (epochs done) and what else is to be kept: tensors, numbers, strings, and dicts and
            lists of them.
        save_dir: its folder.
        is_best: copy it to model-best.pth.tar too.
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
        Path(save_dir, "checkpoint").write_text(path.name + "\n", encoding="utf-8")
    if is_best:
        shutil.copy(path, Path(save_dir, "model-best.pth.tar"))
    print(f"Checkpoint saved to {path}")


def load_checkpoint(fpath: str | Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, onto the CPU and without running anything that it contains.

    Raises:
        CheckpointError: if it is missing, torn, or no such file.

    """
    path = Path(fpath)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; give the path of a checkpoint")
    content = load_pickled_file(path)
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise CheckpointError(f"{path} is no checkpoint of a trainer: it has no state_dict")
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
    print(LoadReport(Path(weight_path), loaded=list(fitting), new=new, ignored=ignored))


def resume_from_checkpoint(
    fdir: str | Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
) -> int:
    """Load the checkpoint that the file `checkpoint` of a folder names; returns the epochs that it has seen.

    Raises:
        CheckpointError: if it cannot be read or is another model's.

    """
    pointer = Path(fdir, "checkpoint")
    if not pointer.is_file():
        raise CheckpointError(f"{fdir} holds nothing to resume: there is no file named checkpoint")
    path = Path(fdir, pointer.read_text(encoding="utf-8").strip())
    checkpoint = load_checkpoint(path)
    load_all(model, checkpoint["state_dict"], path)
    for part, name in ((optimizer, "optimizer"), (scheduler, "scheduler")):
        if part is not None and checkpoint.get(name) is not None:
            part.load_state_dict(checkpoint[name])
    print(f"Resumed {path} after epoch {checkpoint['epoch']}")
    return checkpoint["epoch"]
