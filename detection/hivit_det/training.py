"""A training, from its options to its last checkpoint."""

from contextlib import nullcontext
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from coco_annotations.run_options import RunOptions, TrainOptions, ValidationOptions
from hivit_det.checkpoint_hook import newest_whole, numbered, place_of_checkpoints
from hivit_det.data_sets import (
    annotation_file,
    annotation_sets,
    check_data,
    check_heads,
    classes_of,
    note_reading,
    say_reordered,
)
from hivit_det.runner import Run, formatted_once
from hivit_det.running import check_evaluator, is_first_process, processes, read_config
from hivit_det.validation import hold_out
from hivit_det.weights import bare, check_resumable, is_detector, read_detector, start_from_detector
from saratrx.device import has_cuda
from saratrx.errors import InputError
from saratrx.files import refused_if_unwritable
from saratrx.loader_workers import lost_workers_named
from saratrx.output_folder import claimed

NO_WORKERS = "--cfg-options train_dataloader.num_workers=0 train_dataloader.persistent_workers=False"


def train(run: RunOptions, training: TrainOptions, validation: ValidationOptions) -> None:
    """Train as the options say.

    Raises:
        InputError: for what the options, the config, the data or the checkpoint have wrong.

    """
    cfg = read_config(run)
    check_training(cfg)
    cfg.randomness = {"seed": training.seed}
    if training.auto_scale_lr:
        scale_rate(cfg)
    if training.amp:
        use_mixed_precision(cfg)
    add_hooks(cfg)
    with claimed(cfg.work_dir, "--work-dir") if is_first_process() else nullcontext():
        if validation.val_from_train:
            hold_out(cfg, validation.val_from_train)
        reordered = check_data(cfg.train_dataloader.dataset, is_for_training=True)
        if cfg.get("val_dataloader"):
            reordered += check_data(cfg.val_dataloader.dataset)
            check_evaluator(cfg, "val")
            say_how_chosen(cfg)
        say_reordered(reordered)
        note_reading(cfg.train_dataloader.dataset)
        checkpoint = checkpoint_to_resume(cfg, training)
        if checkpoint:
            cfg.resume, cfg.load_from, cfg.model.backbone.init_cfg = True, str(checkpoint), None
        else:
            start_weights(cfg, training.init_weights)
        with processes(cfg), formatted_once():
            if checkpoint is None and training.resume:
                print(f"{cfg.work_dir} has no checkpoint to resume; the training begins", flush=True)
            train_to_the_end(cfg, run.config)


def add_hooks(cfg: Config) -> None:
    """Add the hooks of every training, whatever hooks a config has of its own."""
    hooks = list(cfg.get("custom_hooks") or [])
    there = {hook.get("type") for hook in hooks if isinstance(hook, dict)}
    cfg.custom_hooks = hooks + [{"type": name} for name in ("SeedEachEpoch", "NoteCosts") if name not in there]


def train_to_the_end(cfg: Config, config: Path) -> None:
    """Train as a config says, in each of the processes.

    Raises:
        InputError: for what the data or the checkpoint have wrong, or what cannot be written.

    """
    runner = Run.from_cfg(cfg)
    check_heads(bare(runner.model), classes_of(cfg.train_dataloader.dataset))
    with refused_if_unwritable(cfg.work_dir), lost_workers_named(NO_WORKERS):
        runner.train()
    if is_main_process():
        say_what_is_there(runner, config)


def say_how_chosen(cfg: Config) -> None:
    """Say on what the best epoch is chosen: the published configs choose it on the test set."""
    files, tested = (
        [str(annotation_file(each)) for each in annotation_sets(cfg[f"{part}_dataloader"].dataset)]
        for part in ("val", "test")
    )
    print(f"the best epoch is chosen on {', '.join(files)}{', the test set' if files == tested else ''}", flush=True)


def check_training(cfg: Config) -> None:
    """See that a config says how to train.

    Raises:
        InputError: naming what is missing.

    """
    for name in ("train_dataloader", "train_cfg", "optim_wrapper"):
        if not isinstance(cfg.get(name), dict):
            raise InputError(f"{cfg.filename} has no {name}, so it is not for training")


def scale_rate(cfg: Config) -> None:
    """Scale the learning rate with the batch size, as MMDetection's option does.

    Raises:
        InputError: if the config does not say for which batch size its rate is.

    """
    scaling = cfg.get("auto_scale_lr")
    if not isinstance(scaling, ConfigDict) or "base_batch_size" not in scaling:
        raise InputError(
            f"--auto-scale-lr: {cfg.filename} does not say for which batch size its rate is; add "
            "auto_scale_lr = dict(enable=False, base_batch_size=16)"
        )
    scaling.enable = True


def use_mixed_precision(cfg: Config) -> None:
    """Compute in 16 bits what is accurate enough so; boxes stay float32."""
    cfg.optim_wrapper.type = "AmpOptimWrapper" if has_cuda() else "CpuAmpOptimWrapper"
    cfg.custom_hooks = [*(cfg.get("custom_hooks") or []), {"type": "ExactBoxesHook"}]


def checkpoint_to_resume(cfg: Config, training: TrainOptions) -> Path | None:
    """Give the checkpoint that a training goes on from: of `--resume`, or of the config; None to begin.

    Raises:
        InputError: if it cannot be resumed.

    """
    wanted = training.resume or ((cfg.get("load_from") or "auto") if cfg.get("resume") else None)
    cfg.resume = False
    if wanted is None:
        return None
    if wanted == "auto":
        return newest_whole(*place_of_checkpoints(cfg))
    check_resumable(read_detector(wanted), wanted)
    return Path(wanted)


def start_weights(cfg: Config, path: str | None) -> None:
    """Decide where the weights come from: `path`, "none" for random ones, or the config's own.

    A detector's checkpoint gives all but the layers of its classes, where these are others; an encoder's the backbone.
    The config's own may be MMEngine's `load_from`, too.

    Raises:
        InputError: if nobody says where they come from, or two do.

    """
    backbone, of_config = cfg.model.backbone, cfg.get("load_from")
    if of_config and path not in (None, "none"):
        raise InputError(f"--init-weights {path}: the config has load_from={of_config}, too; give one of the two")
    path, cfg.load_from = of_config or path, None
    if path == "none":
        backbone.init_cfg = None
    elif path:
        content = read_detector(path)
        if is_detector(content["model"]):
            backbone.init_cfg = None
            cfg.custom_hooks = [
                *(cfg.get("custom_hooks") or []),
                {"type": "StartFromDetector", "path": str(path)},
            ]
        else:
            backbone.init_cfg = {"type": "Pretrained", "checkpoint": path}
    elif not backbone.get("init_cfg"):
        raise InputError(
            f"{cfg.filename} names no pre-trained weights: give --init-weights FILE, or none for random ones"
        )


@HOOKS.register_module()
class StartFromDetector(Hook):
    """Loads a detector's weights before the first step of a training that fine-tunes it, perhaps to other classes."""

    priority = "VERY_HIGH"

    def __init__(self, path: str) -> None:
        self.path = path

    def before_train(self, runner: Runner) -> None:
        """Load them."""
        classes = classes_of(runner.cfg.train_dataloader.dataset)
        start_from_detector(bare(runner.model), runner.cfg.model, read_detector(self.path), self.path, classes)


def say_what_is_there(runner: Run, config: Path) -> None:
    """Say what a training has written, and what comes next."""
    folder, template = place_of_checkpoints(runner.cfg)
    best = sorted(folder.glob("best_*.pth"), key=lambda path: path.stat().st_mtime)
    written = [*(path for _, path in reversed(numbered(folder, template))), *best]
    if not written:
        print(f"wrote the log in {runner.log_dir}, and no checkpoint: the config asks for none", flush=True)
        return
    following = f"python tools/test.py {config} {written[-1]}"
    print(f"wrote {written[-1]}, and the log in {runner.log_dir}; next: {following}", flush=True)
