"""Evaluate a detector: figures go to the log, and to results.json in the work dir.

python tools/test.py configs/_hivit_/hivit_base_SSDD.py work_dirs/SSDD/epoch_36.pth
./tools/dist_test.sh configs/_hivit_/hivit_base_SSDD.py work_dirs/SSDD/epoch_36.pth 8
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
from coco_annotations.run_options import RunOptions, TestOptions
from saratrx.command_line import parse
from saratrx.errors import exit_on_input_error


def main() -> None:
    """Test as the options say. PyTorch and MMDetection are imported when these are known to be right."""
    options = parse([RunOptions, TestOptions], "Evaluate a detector.", hyphens=True)
    import_or_exit("hivit_det.testing").test(*options)


if __name__ == "__main__":
    with exit_on_input_error():
        main()
