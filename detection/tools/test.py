"""Evaluate a detector: figures go to the log, and to results.json in the work dir.

python tools/test.py configs/_hivit_/hivit_base_SSDD.py work_dirs/SSDD/epoch_36.pth
./tools/dist_test.sh configs/_hivit_/hivit_base_SSDD.py work_dirs/SSDD/epoch_36.pth 8
"""

import sys
from dataclasses import dataclass
from pathlib import Path

try:
    import hivit_det  # noqa: F401
except ModuleNotFoundError as error:
    sys.exit(
        f"error: {error.name} is not installed: pip install -r requirements_detection.txt, from the top of the project"
    )
except ImportError as error:  # its text says what does not fit
    sys.exit(f"error: {error}")

from mmengine.dist import is_main_process
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from hivit_det.results import write_results
from hivit_det.running import RunOptions, check_data, make_work_dir, processes, read_config
from hivit_det.weights import load_detector
from saratrx.command_line import option, parse
from saratrx.errors import exit_on_input_error


@dataclass(frozen=True)
class TestOptions:
    """The detector."""

    checkpoint: Path = option(positional=True, help="of tools/train.py")


def main() -> None:
    """Run the test as the options say."""
    run, tested = parse([RunOptions, TestOptions], "Evaluate a detector.", hyphens=True)
    cfg = read_config(run)
    cfg.model.backbone.init_cfg = None  # the checkpoint has all weights
    check_data(cfg.test_dataloader.dataset)
    make_work_dir(cfg.work_dir)
    with processes(cfg):
        runner = Runner.from_cfg(cfg)
        load_detector(runner.model.module if is_model_wrapper(runner.model) else runner.model, tested.checkpoint)
        scores = runner.test()
        if is_main_process():
            print(f"results: {write_results(runner, scores, run, tested.checkpoint)}", flush=True)


if __name__ == "__main__":
    with exit_on_input_error():
        main()
