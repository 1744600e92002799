"""The checkpoints of a run: one file an epoch that is kept, from which the run continues as if it had never stopped."""

import re
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from saratrx.checkpoint import CheckpointError, load_all, load_checkpoint, save_checkpoint
from saratrx.errors import InputError


def checkpoints(output_dir: Path) -> list[Path]:
    """checkpoint-<epoch>.pth of a folder, the newest epoch first."""
    found = {
        int(m[1]): p for p in output_dir.glob("checkpoint-*.pth") if (m := re.fullmatch(r"checkpoint-(\d+)", p.stem))
    }
    return [found[epoch] for epoch in sorted(found, reverse=True)]


def save(
    output_dir: Path,
    epoch: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    args: Namespace,
) -> None:
    """Write checkpoint-<epoch>.pth, the state after that many epochs, and delete what `args.keep` no longer keeps."""
    save_checkpoint(
        output_dir / f"checkpoint-{epoch}.pth",
        model=model.state_dict(),
        optimizer=optimizer.state_dict(),
        epoch=epoch,
        scaler=scaler.state_dict(),
        args=vars(args),
    )
    if args.keep:
        for path in checkpoints(output_dir)[args.keep :]:
            path.unlink()


def find(resume: str, output_dir: Path) -> tuple[Path, dict[str, Any]] | None:
    """What --resume asks for: None for a new run, else the checkpoint's path and content.

    Raises:
        InputError: if the file cannot be used, or a new run would mix its files with those of an earlier one.

    """
    if resume and resume != "auto":
        return Path(resume), load_checkpoint(resume)
    existing = checkpoints(output_dir)
    if existing and not resume:
        raise InputError(
            f"{existing[0]} is there already: continue that run with --resume auto, or choose another --output_dir"
        )
    for path in existing:
        try:
            return path, load_checkpoint(path)
        except CheckpointError as error:
            print(f"warning: {error}", flush=True)
    if existing:
        raise InputError(f"no checkpoint in {output_dir} can be read: move them away to start again")
    return None


def restore(
    path: Path,
    state: dict[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
) -> int:
    """Put a checkpoint's content back; returns the number of epochs that it has seen.

    Raises:
        CheckpointError: if it is of another model, or holds weights only.

    """
    load_all(model, state["model"], path)
    if not {"optimizer", "epoch"} <= state.keys():
        raise CheckpointError(f"{path} holds weights without a training state: start from it with --init_weights")
    try:
        for group in state["optimizer"]["param_groups"]:
            group["fused"] = True  # published files do not say; where AdamW keeps its step counts depends on it
        optimizer.load_state_dict(state["optimizer"])
    except (ValueError, KeyError) as error:
        raise CheckpointError(f"{path} holds the state of another optimizer: {error}") from error
    if state.get("scaler"):
        scaler.load_state_dict(state["scaler"])
    return int(state["epoch"])
