"""Evaluate a detector.

python tools/test.py configs/_hivit_/hivit_base_SSDD.py work_dirs/SSDD/epoch_36.pth
./tools/dist_test.sh configs/_hivit_/hivit_base_SSDD.py work_dirs/SSDD/epoch_36.pth 8
"""

import argparse
import sys
from pathlib import Path

try:
    import hivit_det  # noqa: F401
except ImportError as error:  # its text says what does not fit
    sys.exit(f"error: {error}")

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from hivit_det.running import add_options, check_data, processes, read_config
from hivit_det.weights import load_detector
from saratrx.errors import exit_on_input_error


def main() -> None:
    """Run the test as the options say."""
    parser = argparse.ArgumentParser(description="Evaluate a detector.")
    parser.add_argument("config", type=Path)
    parser.add_argument("checkpoint", type=Path)
    add_options(parser)
    args = parser.parse_args()

    cfg = read_config(args)
    cfg.model.backbone.init_cfg = None  # the checkpoint has all weights
    check_data(cfg.test_dataloader.dataset)
    with processes(cfg):
        runner = Runner.from_cfg(cfg)
        load_detector(runner.model.module if is_model_wrapper(runner.model) else runner.model, args.checkpoint)
        runner.test()


if __name__ == "__main__":
    with exit_on_input_error():
        main()
