"""Train a detector.

    python tools/train.py configs/_hivit_/hivit_base_SSDD.py --work-dir work_dirs/SSDD
    ./tools/dist_train.sh configs/_hivit_/hivit_base_SSDD.py 8 --work-dir work_dirs/SSDD
After a crash, the same command with --resume.
"""

import sys
from dataclasses import dataclass

try:
    import hivit_det  # noqa: F401
except ModuleNotFoundError as error:
    sys.exit(
        f"error: {error.name} is not installed: pip install -r requirements_detection.txt, from the top of the project"
    )
except ImportError as error:  # its text says what does not fit
    sys.exit(f"error: {error}")

import torch
from mmengine.config import Config
from mmengine.runner import Runner, find_latest_checkpoint

from hivit_det.running import RunOptions, check_data, make_work_dir, processes, read_config
from hivit_det.validation import ValidationOptions, hold_out
from hivit_det.weights import read_detector
from saratrx.command_line import at_least, option, parse
from saratrx.errors import InputError, exit_on_input_error, raise_problems


@dataclass(frozen=True)
class TrainOptions:
    """The training."""

    resume: str | None = option(
        None, metavar="FILE", help="checkpoint to continue; alone: the newest, if any", alone="auto"
    )
    amp: bool = option(False, help="mixed precision")
    seed: int = option(0, help="what is random follows from it")
    init_weights: str | None = option(
        None, help="checkpoint of the pre-trained encoder, or none", default_text="the config's"
    )

    def __post_init__(self) -> None:
        raise_problems(at_least(0, seed=self.seed))


def main() -> None:
    """Run training as the options say."""
    run, training, validation = parse([RunOptions, TrainOptions, ValidationOptions], "Train a detector.", hyphens=True)
    cfg = read_config(run)
    cfg.randomness = {"seed": training.seed}
    if training.amp:
        cfg.optim_wrapper.type = "AmpOptimWrapper" if torch.cuda.is_available() else "CpuAmpOptimWrapper"
    if validation.val_from_train:
        hold_out(cfg, validation.val_from_train)
    checkpoint = find_latest_checkpoint(cfg.work_dir) if training.resume == "auto" else training.resume
    if checkpoint:
        read_detector(checkpoint)  # refuses a file that could run code
        cfg.resume, cfg.load_from, cfg.model.backbone.init_cfg = True, checkpoint, None
    else:
        start_weights(cfg, training.init_weights)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        check_data(loader.dataset)
    held_out = "part of the training set" if validation.val_from_train else "the config's test set, as published"
    print(f"the best epoch is chosen on {held_out}: {cfg.val_dataloader.dataset.ann_file}", flush=True)
    make_work_dir(cfg.work_dir)
    with processes(cfg):
        Runner.from_cfg(cfg).train()


def start_weights(cfg: Config, path: str | None) -> None:
    """Decide where the backbone's weights come from: `path`, "none" for random ones, or the config's own."""
    backbone = cfg.model.backbone
    if path == "none":
        backbone.init_cfg = None
    elif path:
        backbone.init_cfg = {"type": "Pretrained", "checkpoint": path}
    elif not backbone.get("init_cfg"):
        raise InputError(
            f"{cfg.filename} names no pre-trained weights: give --init-weights FILE, or none for random ones"
        )


if __name__ == "__main__":
    with exit_on_input_error():
        main()
