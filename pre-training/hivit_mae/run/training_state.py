"""The checkpoints of a run, from which it continues as if it had never stopped.

`checkpoint-<epoch>.pth` is the state after whole epochs; `checkpoint-<epoch>-<step>.pth` that in the middle of the next
one; `checkpoint-best.pth` that after the epoch which the evaluation liked best. All that is random follows from the
seed and the place in the run (see `seeds`), so the place is all that has to be kept of it, for any number of processes
and workers.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.amp.grad_scaler import GradScaler

from hivit_mae.cluster.distributed import Processes, broadcast_from_main
from hivit_mae.models.models_hivit_mae import HiViTMaskedAutoencoder
from hivit_mae.models.targets import DEFAULT
from saratrx.checkpoint import CheckpointError, load_all, load_checkpoint, save_checkpoint
from saratrx.errors import InputError
from saratrx.files import remove_with_hash
from saratrx.grey_scale import REMAPS
from saratrx.reporting import get_logger

log = get_logger(__name__)

KEPT_IN_EPOCH = 2  # states of the middle of an epoch: the newest, and one before it in case it is damaged


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        epoch: whole epochs done.
        step: optimizer steps done in the next one.
        images_a_step: over all processes; what one step is may change when a run is resumed.
        loss_sums: of each process, [sum of its losses, their number] over the steps done in the epoch.
        lr_factor: 1, or 0.5 after the run went back because of losses that were not finite.
        skipped: steps skipped for that reason, since the run began.
        best: of the evaluation so far: accuracy in percent, `epoch`, and `images`, which names what it was measured on;
            empty before the first.

    """

    epoch: int = 0
    step: int = 0
    images_a_step: int = 1
    loss_sums: list[list[float]] = field(default_factory=list)
    lr_factor: float = 1.0
    skipped: int = 0
    best: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        text = f"epoch {self.epoch}" + (f" and {self.step} steps" if self.step else "")
        return text if self.lr_factor == 1 else f"{text}, with {self.lr_factor:g} times the learning rate"

    def end_epoch(self) -> None:
        """Count the epoch as done, of which all steps are."""
        self.epoch, self.step, self.loss_sums = self.epoch + 1, 0, []

    def count_in(self, images_a_step: int) -> None:
        """Express the place in steps of another size, rounded down: no image of the epoch is left out."""
        if self.step and images_a_step != self.images_a_step:
            self.step = self.step * self.images_a_step // images_a_step
            self.images_a_step = images_a_step


@dataclass
class TrainingState:
    """All that a run continues from."""

    model: HiViTMaskedAutoencoder
    optimizer: torch.optim.Optimizer
    scaler: GradScaler
    progress: Progress


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of a run in its folder.

    Args:
        folder: where they are; it exists.
        keep: how many of whole epochs stay, the newest (0: all).
        epochs: of the whole run.
        recorded: the options that each holds as `args`, plain values.
        images: names the list of images, see `ImageSource.identity`.

    """

    folder: Path
    keep: int = 0
    epochs: int = 0
    recorded: dict[str, Any] = field(default_factory=dict)
    images: str = ""

    def existing(self) -> list[Path]:
        """List them, the newest first."""
        found = {
            (int(m[1]), int(m[2] or 0)): path
            for path in self.folder.glob("checkpoint-*.pth")
            if (m := re.fullmatch(r"checkpoint-(\d+)(?:-(\d+))?", path.stem))
        }
        return [found[place] for place in sorted(found, reverse=True)]

    @property
    def best(self) -> Path:
        """Give the path of the one that was the best in evaluation."""
        return self.folder / "checkpoint-best.pth"

    def to_continue_from(self) -> list[Path]:
        """List those that a run can continue from: `existing`, and the best one where none of them can be used."""
        return [*self.existing(), *([self.best] if self.best.exists() else [])]

    def of_epoch(self, epoch: int) -> Path:
        """Give the path of the one after `epoch` whole epochs."""
        return self.folder / f"checkpoint-{epoch}.pth"

    def save(self, state: TrainingState) -> None:
        """Write the state, and delete the checkpoints that it makes superfluous.

        Of whole epochs the newest `keep` stay; of the middle of an epoch the newest two, until the run ends.

        Raises:
            OSError: if it cannot be written; then all earlier ones are still there.

        """
        progress = state.progress
        place = f"{progress.epoch}-{progress.step}" if progress.step else f"{progress.epoch}"
        self.write(self.folder / f"checkpoint-{place}.pth", state)
        existing = self.existing()
        in_epoch = [path for path in existing if is_in_epoch(path)]
        superfluous = in_epoch if progress.epoch >= self.epochs else in_epoch[KEPT_IN_EPOCH:]
        if self.keep:
            superfluous += [path for path in existing if not is_in_epoch(path)][self.keep :]
        for old in superfluous:
            remove_with_hash(old)

    def save_best(self, state: TrainingState) -> None:
        """Write the state in the place of the one that was the best so far.

        Raises:
            OSError: if it cannot be written; then the earlier one is still there.

        """
        self.write(self.best, state)

    def write(self, path: Path, state: TrainingState) -> None:
        """Write the state to a file in one step; raises OSError."""
        save_checkpoint(
            path,
            model=state.model.state_dict(),
            optimizer=state.optimizer.state_dict(),
            epoch=state.progress.epoch,
            scaler=state.scaler.state_dict(),
            args=self.recorded | {"images": self.images},
            progress=vars(state.progress),
        )

    def restore(self, resume: str, state: TrainingState, processes: Processes) -> Path | None:
        """Continue what --resume asks for; returns the checkpoint that was taken, None for a new run.

        The main process chooses, so that all continue from the same file.

        Raises:
            InputError: if the file cannot be used, none of several can, another process does not see it, or a new run
                would mix its files with those of an earlier one.

        """
        path = broadcast_from_main(lambda: self.restore_newest(resume, state), processes)
        if path is not None and not processes.is_main:
            try:
                restore(path, load_checkpoint(path), state)
            except CheckpointError as error:
                raise InputError(f"{error}; --output_dir must be a folder that all machines share") from error
        return path

    def restore_newest(self, resume: str, state: TrainingState) -> Path | None:
        """Restore the file that is named, or the newest one that can be used; says which ones cannot."""
        if resume and resume != "auto":
            self.restore_from(Path(resume), state)
            return Path(resume)
        existing = self.to_continue_from()
        if existing and not resume:
            raise InputError(
                f"{existing[0]} is there already: continue that run with --resume auto, or choose another --output_dir"
            )
        for path in existing:
            try:
                self.restore_from(path, state)
                return path
            except CheckpointError as error:
                log.warning("%s; skipped", error)
        if existing:
            raise InputError(f"no checkpoint in {self.folder} can be continued: move them away to start again")
        return None

    def restore_from(self, path: Path, state: TrainingState) -> None:
        """Restore a checkpoint of these images.

        Raises:
            CheckpointError: if it cannot be used.
            InputError: if its run had other images, so that what it saw of the epoch would mean nothing, or read them
                in another way, or had another target.

        """
        content = load_checkpoint(path)
        options = content.get("args")
        images = options.get("images") if isinstance(options, dict) else None
        if images and self.images and images != self.images:
            raise InputError(
                f"{path} is of a run with another list of images than --data_path has now: give it those, or begin a "
                f"new run from its weights with --init_weights {path}"
            )
        for name, default in (("target", DEFAULT), ("remap", REMAPS[0]), ("channel", "")):
            before, now = option_of(content, name, default), self.recorded.get(name, default)
            if before != now:
                raise InputError(
                    f"{path} is of a run with {said(name, before)}, and this one has {said(name, now)}: give it that "
                    f"{name}, or begin a new run from its weights with --init_weights {path}"
                )
        restore(path, content, state)


def target_of(content: dict[str, Any]) -> str:
    """Name the target of a checkpoint's run; what does not tell, as published files, is taken to be of "mgf"."""
    return option_of(content, "target", DEFAULT)


def option_of(content: dict[str, Any], name: str, default: str) -> str:
    """Give an option of a checkpoint's run; the default of what does not tell."""
    options = content.get("args")
    return str(options.get(name, default)) if isinstance(options, dict) else default


def said(name: str, value: str) -> str:
    """Say an option and its value, or that it was not given."""
    return f"--{name} {value}" if value else f"no --{name}"


def is_in_epoch(path: Path) -> bool:
    """Tell whether a checkpoint is of the middle of an epoch."""
    return path.stem.count("-") == 2


def restore(path: Path, content: dict[str, Any], state: TrainingState) -> None:
    """Put a checkpoint's content back.

    Raises:
        CheckpointError: if it is of another model, or holds weights only.

    """
    if not {"optimizer", "epoch"} <= content.keys():
        raise CheckpointError(f"{path} holds weights without a training state: start from it with --init_weights")
    load_all(state.model, content["model"], path)
    try:
        restore_optimizer(state.optimizer, content["optimizer"])
        if content.get("scaler"):
            state.scaler.load_state_dict(content["scaler"])
        progress = Progress(**content.get("progress", {"epoch": int(content["epoch"])}))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} holds the state of another optimizer: {error}") from error
    state.progress.__dict__.update(vars(progress))


def restore_optimizer(optimizer: torch.optim.Optimizer, content: dict[str, Any]) -> None:
    """Load an optimizer's state, which PyTorch would take whatever its shapes.

    Raises:
        ValueError: if it is of other parameters.

    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for number, moments in content["state"].items():
        if any(moments[key].shape != parameters[number].shape for key in ("exp_avg", "exp_avg_sq")):
            raise ValueError(f"the moments of parameter {number} have another shape")
    for group in content["param_groups"]:
        group["fused"] = True  # published files do not say; where AdamW keeps its step counts depends on it
    optimizer.load_state_dict(content)
