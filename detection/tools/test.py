"""Evaluate a detector.

python tools/test.py configs/_hivit_/hivit_base_SSDD.py work_dirs/SSDD/epoch_36.pth
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # hivit_det, from any folder

from mmengine.runner import Runner

from hivit_det.running import add_options, check_data, read_config
from saratrx.checkpoint import CheckpointError
from saratrx.errors import exit_on_input_error


def main() -> None:
    """Run the test as the options say."""
    parser = argparse.ArgumentParser(description="Evaluate a detector.")
    parser.add_argument("config", type=Path)
    parser.add_argument("checkpoint", type=Path)
    add_options(parser)
    args = parser.parse_args()

    if not args.checkpoint.is_file():
        raise CheckpointError(f"{args.checkpoint}: no such file; give a checkpoint of tools/train.py")
    cfg = read_config(args)
    cfg.model.backbone.init_cfg = None  # the checkpoint has all weights
    cfg.load_from = str(args.checkpoint)
    check_data(cfg.test_dataloader.dataset)
    Runner.from_cfg(cfg).test()


if __name__ == "__main__":
    with exit_on_input_error():
        main()
