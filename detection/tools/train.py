"""Train a detector.

    python tools/train.py configs/_hivit_/hivit_base_SSDD.py --work-dir work_dirs/SSDD
    ./tools/dist_train.sh configs/_hivit_/hivit_base_SSDD.py 8 --work-dir work_dirs/SSDD
After a crash, the same command with --resume.
"""

import sys

try:
    import coco_annotations  # noqa: F401
except ModuleNotFoundError as error:
    sys.exit(
        f"error: {error.name} is not installed: pip install -r requirements_detection.txt, from the top of the project"
    )
except ImportError as error:  # its text says what does not fit
    sys.exit(f"error: {error}")

from coco_annotations.installation import import_or_exit
from coco_annotations.run_options import RunOptions, TrainOptions, ValidationOptions
from saratrx.command_line import parse
from saratrx.errors import exit_on_input_error


def main() -> None:
    """Train as the options say. PyTorch and MMDetection are imported when these are known to be right."""
    options = parse([RunOptions, TrainOptions, ValidationOptions], "Train a detector.", hyphens=True)
    import_or_exit("hivit_det.training").train(*options)


if __name__ == "__main__":
    with exit_on_input_error():
        main()
