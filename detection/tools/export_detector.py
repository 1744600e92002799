"""Write a one-stage detector (GFL) as an ONNX file: images in, boxes and scores out.

    python tools/export_detector.py configs/_hivit_/hivit_nano_simulated_gfl.py epoch_20.pth exported --size 512

FOLDER gets model.onnx, images [B, 1, SIZE, SIZE], amplitude in [0, 1] -> boxes [B, N, 4] (x1, y1, x2, y2 in pixels) and
scores [B, N, C], and detector.json: the classes in order, how an image is read, and the score and overlap for the
suppression of doubles (NMS), which is left to the caller: OpenCV's cv2.dnn.NMSBoxesBatched, or torchvision's.
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
from coco_annotations.run_options import ExportOptions
from saratrx.command_line import parse
from saratrx.errors import exit_on_input_error


def main() -> None:
    """Export as the options say. PyTorch and MMDetection are imported when these are known to be right."""
    (options,) = parse([ExportOptions], "Write a one-stage detector as an ONNX file.", hyphens=True)
    import_or_exit("hivit_det.exporting").export(options)


if __name__ == "__main__":
    with exit_on_input_error():
        main()
