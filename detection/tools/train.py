"""Train a detector.

    python tools/train.py configs/_hivit_/hivit_base_SSDD.py --work-dir work_dirs/SSDD
    ./tools/dist_train.sh configs/_hivit_/hivit_base_SSDD.py 8 --work-dir work_dirs/SSDD
After a crash, the same command with --resume.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # hivit_det, from any folder

from mmengine.runner import Runner

from hivit_det.running import add_options, check_data, read_config
from saratrx.errors import exit_on_input_error


def main() -> None:
    """Run training as the options say."""
    parser = argparse.ArgumentParser(description="Train a detector.")
    parser.add_argument("config", type=Path)
    parser.add_argument("--resume", nargs="?", const="auto", help="checkpoint to continue; alone: the newest")
    parser.add_argument("--amp", action="store_true", help="mixed precision")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--init-weights", help="checkpoint of the pre-trained encoder (default: the config's)")
    add_options(parser)
    args = parser.parse_args()

    cfg = read_config(args)
    cfg.randomness = {"seed": args.seed}
    if args.init_weights:
        cfg.model.backbone.init_cfg = {"type": "Pretrained", "checkpoint": args.init_weights}
    if args.amp:
        cfg.optim_wrapper.type = "AmpOptimWrapper"
    if args.resume:
        cfg.resume = True
        cfg.load_from = None if args.resume == "auto" else args.resume
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        check_data(loader.dataset)
    Runner.from_cfg(cfg).train()


if __name__ == "__main__":
    with exit_on_input_error():
        main()
