"""Checkpoints of a training: written whole, the old ones deleted afterwards, the newest whole one found again."""

import re
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from hivit_det.weights import bare, check_resumable, read_detector
from saratrx.checkpoint import refuse_nonfinite
from saratrx.errors import InputError
from saratrx.files import refused_if_unwritable, remove_with_hash, write_text
from saratrx.reporting import get_logger

log = get_logger(__name__)


@HOOKS.register_module()
class WholeCheckpointHook(CheckpointHook):
    """MMEngine's hook, which never has fewer whole checkpoints than before: it deletes after it has written.

    Beside each file stands its hash. What is deleted is found in the folder, not in notes of the run, so that a copied
    run does not touch the one that it was copied from. A resumed run validates first where a validation was due, which
    the crash may have cut off: so it finds the same best epoch as a run that was never stopped.

    Raises:
        InputError: if a checkpoint cannot be written, as on a full disk; the older ones are then all there.

    """

    best_ckpt_path: str | None
    best_ckpt_path_dict: dict[str, str | None]

    def before_train(self, runner: Runner) -> None:
        """Make good what a crash may have cut off: a validation, and the deleting of what is no longer needed."""
        super().before_train(runner)
        if is_main_process():
            with refused_if_unwritable(self.out_dir):
                Path(self.out_dir).mkdir(parents=True, exist_ok=True)
        step = runner.epoch if self.by_epoch else runner.iter
        if step and is_main_process():
            self.remove_older(step)
            for best in self.noted_best().values():
                self.remove_earlier_best(best)
        if step and runner.val_loop and validation_is_due(runner.train_loop, step):
            runner.val_loop.run()

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        """Write the checkpoint of an epoch, note it in `last_checkpoint` as MMEngine does, then delete old ones.

        Raises:
            InputError: if weights are not finite: the training has failed, and the checkpoints before stay.

        """
        what = (
            f"the training has failed at {'epoch' if self.by_epoch else 'iteration'} {step}, so nothing was written: it"
        )
        refuse_nonfinite(what, bare(runner.model).state_dict())
        name = self.filename_tmpl.format(step)
        self.last_ckpt = str(Path(self.out_dir, name))
        runner.message_hub.update_info("last_ckpt", self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            **self.args,
        )
        if not is_main_process():
            return
        last = Path(runner.work_dir, "last_checkpoint")
        with refused_if_unwritable(last):
            write_text(last, self.last_ckpt)
        self.remove_older(step)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, Any]) -> None:
        """Write the best checkpoint if this is it, then delete the one that was."""
        missing = [figure for figure in self.key_indicators or () if figure != "auto" and figure not in metrics]
        if missing:
            log.warning("this validation gave no %s, by which the best epoch is chosen", missing[0])
            return
        before = self.noted_best()
        if self.has_several():  # MMEngine deletes what it finds noted here before it writes
            self.best_ckpt_path_dict = dict.fromkeys(self.best_ckpt_path_dict)
        else:
            self.best_ckpt_path = None
        super()._save_best_checkpoint(runner, metrics)
        new = self.noted_best()
        if self.has_several():
            self.best_ckpt_path_dict |= before | new
        elif not new:
            self.best_ckpt_path = before.get("")
        if is_main_process():
            for best in new.values():
                self.remove_earlier_best(best)

    def has_several(self) -> bool:
        """Whether there is a best checkpoint by each of several figures."""
        return len(getattr(self, "key_indicators", ())) > 1

    def noted_best(self) -> dict[str, str | None]:
        """Give the best checkpoints so far, by figure; where there is one figure its name is empty."""
        noted = self.best_ckpt_path_dict if self.has_several() else {"": getattr(self, "best_ckpt_path", None)}
        return {figure: path for figure, path in noted.items() if path}

    def remove_older(self, step: int) -> None:
        """Delete the checkpoints before that of `step` that are too many."""
        if self.max_keep_ckpts > 0:
            older = [path for number, path in numbered(Path(self.out_dir), self.filename_tmpl) if number < step]
            for path in older[self.max_keep_ckpts - 1 :]:
                remove_with_hash(path)

    def remove_earlier_best(self, best: str | None) -> None:
        """Delete the best checkpoints of earlier epochs by the same figure, if the best one is there."""
        path = Path(self.out_dir, Path(best or "").name)
        start, end = (re.escape(part) for part in self.filename_tmpl.split("{}"))
        own = re.fullmatch(rf"(?P<figure>.*){start}(?P<step>\d+){end}", path.name)
        if own and path.is_file():
            for other in path.parent.iterdir():
                found = re.fullmatch(rf"{re.escape(own['figure'])}{start}(\d+){end}", other.name)
                if found and int(found[1]) < int(own["step"]):
                    remove_with_hash(other)


def validation_is_due(loop: EpochBasedTrainLoop | IterBasedTrainLoop, step: int) -> bool:
    """Whether a training validates after an epoch or iteration."""
    loop._decide_current_val_interval()  # it may change in the course of a training
    last = loop.max_epochs if isinstance(loop, EpochBasedTrainLoop) else loop.max_iters
    return bool(step >= loop.val_begin and (step % loop.val_interval == 0 or step == last))


def place_of_checkpoints(cfg: Config) -> tuple[Path, str]:
    """Give the folder of a training's checkpoints, and the template of their names, as MMEngine's hook has them."""
    hook = (cfg.get("default_hooks") or {}).get("checkpoint") or {}
    folder = Path(cfg.work_dir)
    if hook.get("out_dir"):
        folder = Path(hook["out_dir"], folder.name)
    return folder, hook.get("filename_tmpl") or ("epoch_{}.pth" if hook.get("by_epoch", True) else "iter_{}.pth")


def numbered(folder: Path, template: str) -> list[tuple[int, Path]]:
    """List the checkpoints of a folder whose names are made by a template such as `epoch_{}.pth`, the newest first."""
    start, end = (re.escape(part) for part in template.split("{}"))
    found = [(re.fullmatch(rf"{start}(\d+){end}", path.name), path) for path in folder.glob("*")]
    return sorted(((int(match[1]), path) for match, path in found if match), reverse=True)


def newest_whole(folder: Path, template: str) -> Path | None:
    """Find the newest checkpoint of a folder that a training can be resumed from; None if it has no checkpoint.

    Raises:
        InputError: if it has some, and all are torn or without a training state.

    """
    found = numbered(folder, template)
    for _, path in found:
        try:
            check_resumable(read_detector(path), path)
        except InputError as error:
            log.warning("%s; looking for an earlier one", error)
            continue
        return path
    if found:
        raise InputError(f"none of the {len(found)} checkpoints in {folder} can be resumed; move them to begin anew")
    return None
