"""A trainer's checkpoints: `<folder>/model.pth.tar-<epoch>`, and a file `checkpoint` that names the newest.

Beside each stands its hash, against which it is checked when it is read.
"""

from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from dassl.utils.tools import mkdir_if_missing
from saratrx import checkpoint as saratrx_checkpoint
from saratrx.checkpoint import CheckpointError, LoadReport, load_all, read_checkpoint
from saratrx.errors import first_line
from saratrx.files import is_file, refused_if_unwritable, write_text
from saratrx.reporting import get_logger

log = get_logger(__name__)
BEST = "model-best.pth.tar"
MOST_EPOCHS = 10**9
LONGEST_NAME = 300  # characters that a sentence shows


def save_checkpoint(
    state: dict[str, Any],
    save_dir: str | Path,
    is_best: bool = False,
    remove_module_from_keys: bool = True,
    model_name: str = "",
) -> None:
    """Write a checkpoint in one step, with its hash; it raises an InputError if that cannot be.

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
    with refused_if_unwritable(path):
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
    weights = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise CheckpointError(f"{fpath} is no checkpoint of a trainer: it has no state_dict of tensors")
    epoch = content.get("epoch")
    if isinstance(epoch, bool) or not isinstance(epoch, int) or not 0 <= epoch <= MOST_EPOCHS:
        raise CheckpointError(
            f"{fpath} is no checkpoint of a trainer: its epoch is {str(epoch)[:40]}, not a number of epochs"
        )
    return cast(dict[str, Any], content)


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
    """Give the path that the file `checkpoint` of a folder names; where that is damaged, the one of the latest epoch.

    Raises:
        CheckpointError: without that file, or any checkpoint.

    """
    return checkpoints_in(folder)[0]


def checkpoints_in(folder: str | Path) -> list[Path]:
    """List the checkpoints of a folder: the one that the file `checkpoint` names, then the others, latest epoch first.

    Raises:
        CheckpointError: without that file, or any checkpoint.

    """
    pointer = Path(folder, "checkpoint")
    if not is_file(pointer):
        raise CheckpointError(f"{folder} holds nothing to resume: there is no file named checkpoint")
    named = Path(folder, Path(pointer.read_text(encoding="utf-8", errors="replace").strip().replace("\0", "")).name)
    found = [(path.name.removeprefix("model.pth.tar-"), path) for path in Path(folder).glob("model.pth.tar-*")]
    others = [
        path for _, path in sorted(((int(epoch), path) for epoch, path in found if epoch.isdecimal()), reverse=True)
    ]
    first = [named] if is_file(named) and named != pointer else []
    if not first + others:
        raise CheckpointError(
            f"{str(named)[:LONGEST_NAME]}, which {pointer} names, is not there; start anew in another folder"
        )
    return first + [path for path in others if path not in first]


def resume_from_checkpoint(
    fdir: str | Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
) -> int:
    """Load the newest checkpoint of a folder that can be read; return the number of epochs that it has seen.

    Raises:
        CheckpointError: if there is none, none can be read, or it is another model's.

    """
    path, checkpoint = newest_whole(fdir)
    load_all(model, checkpoint["state_dict"], path)
    for part, name in ((optimizer, "optimizer"), (scheduler, "scheduler")):
        if part is not None and checkpoint.get(name) is not None:
            load_state(part, checkpoint[name], f"{path} does not fit this run: its {name}'s state")
    log.info("Resumed %s after epoch %s", path, checkpoint["epoch"])
    epochs: int = checkpoint["epoch"]
    return epochs


def newest_whole(folder: str | Path) -> tuple[Path, dict[str, Any]]:
    """Read the newest checkpoint of a folder that is not torn; each that is gets a warning.

    Raises:
        CheckpointError: if there is none, or all are torn.

    """
    *newer, oldest = checkpoints_in(folder)
    for path in newer:
        try:
            return path, load_checkpoint(path)
        except CheckpointError as error:
            log.warning("%s; looking for an earlier one", error)
    return oldest, load_checkpoint(oldest)


def load_state(part: Any, state: Any, what: str) -> None:
    """Load the state of an optimizer or a schedule.

    Raises:
        CheckpointError: beginning with `what`, if it is another's: other parameters, groups, shapes or parts.

    """
    try:
        part.load_state_dict(state)
    except Exception as error:  # PyTorch looks at next to nothing before it uses it
        raise CheckpointError(f"{what} cannot be used ({first_line(error)})") from error
    for parameter, values in getattr(part, "state", {}).items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor) and value.ndim and value.shape != parameter.shape:
                shapes = f"{list(value.shape)}, its parameter {list(parameter.shape)}"
                raise CheckpointError(f"{what} cannot be used ({name} has shape {shapes})")
