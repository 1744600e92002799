"""Train a detector.

    python tools/train.py configs/_hivit_/hivit_base_SSDD.py --work-dir work_dirs/SSDD
    ./tools/dist_train.sh configs/_hivit_/hivit_base_SSDD.py 8 --work-dir work_dirs/SSDD
After a crash, the same command with --resume.
"""

import argparse
import sys
from pathlib import Path

try:
    import hivit_det  # noqa: F401
except ImportError as error:  # its text says what does not fit
    sys.exit(f"error: {error}")

import torch
from mmengine.config import Config
from mmengine.runner import Runner, find_latest_checkpoint

from hivit_det.running import add_options, check_data, processes, read_config
from hivit_det.validation import hold_out
from hivit_det.weights import read_detector
from saratrx.errors import InputError, exit_on_input_error


def main() -> None:
    """Run training as the options say."""
    parser = argparse.ArgumentParser(description="Train a detector.")
    parser.add_argument("config", type=Path)
    parser.add_argument("--resume", nargs="?", const="auto", help="checkpoint to continue; alone: the newest, if any")
    parser.add_argument("--amp", action="store_true", help="mixed precision")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--init-weights", help="checkpoint of the pre-trained encoder, or none (default: the config's)")
    parser.add_argument(
        "--val-from-train", type=share, metavar="SHARE", help="validate on this share of the training set"
    )
    add_options(parser)
    args = parser.parse_args()

    cfg = read_config(args)
    cfg.randomness = {"seed": args.seed}
    if args.amp:
        cfg.optim_wrapper.type = "AmpOptimWrapper" if torch.cuda.is_available() else "CpuAmpOptimWrapper"
    if args.val_from_train:
        hold_out(cfg, args.val_from_train)
    checkpoint = find_latest_checkpoint(cfg.work_dir) if args.resume == "auto" else args.resume
    if checkpoint:
        read_detector(checkpoint)  # refuses a file that could run code
        cfg.resume, cfg.load_from, cfg.model.backbone.init_cfg = True, checkpoint, None
    else:
        start_weights(cfg, args.init_weights)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        check_data(loader.dataset)
    held_out = "part of the training set" if args.val_from_train else "the config's test set, as published"
    print(f"the best epoch is chosen on {held_out}: {cfg.val_dataloader.dataset.ann_file}", flush=True)
    with processes(cfg):
        Runner.from_cfg(cfg).train()


def share(text: str) -> float:
    """A number between 0 and 1."""
    value = float(text)
    if not 0 < value < 1:
        raise ValueError
    return value


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
