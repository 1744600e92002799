"""Find targets in scenes of any size.

    python huge_image_infer.py CONFIG CHECKPOINT scene.tif --output_dir found
    python huge_image_infer.py configs/_hivit_/hivit_base_SARDet.py epoch_36.pth *.tif --classes ship --device cuda:1

For each scene it writes COCO JSON, CSV, a picture and, where the scene has map coordinates, GeoJSON. The same command,
given again after it was stopped, goes on from there.
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
from coco_annotations.scene_options import SceneOptions, WindowOptions
from saratrx.command_line import parse
from saratrx.errors import exit_on_input_error
from saratrx.files import try_writing


def main() -> None:
    """Run over all scenes as the options say. PyTorch and MMDetection are imported when these are known to be right."""
    options, how = parse([SceneOptions, WindowOptions], "Find targets in scenes of any size.")
    try_writing(options.output_dir, "--output_dir")
    if options.parquet:
        try_writing(options.parquet.parent, "--parquet")
    import_or_exit("hivit_det.scenes.finding").find(options, how)


if __name__ == "__main__":
    with exit_on_input_error():
        main()
