"""Find targets in scenes of any size.

    python huge_image_infer.py CONFIG CHECKPOINT scene.tif --output_dir found
    python huge_image_infer.py configs/_hivit_/hivit_base_SARDet.py epoch_36.pth *.tif --classes ship --device cuda:1

For each scene it writes COCO JSON, CSV, a picture and, where the scene has map coordinates, GeoJSON.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

try:
    import hivit_det  # noqa: F401
except ImportError as error:  # its text says what does not fit
    sys.exit(f"error: {error}")

import torch

from hivit_det.running import open_config
from hivit_det.scenes.detection_files import write_all
from hivit_det.scenes.scene import open_scene
from hivit_det.scenes.windows import SceneDetector
from saratrx.errors import InputError, exit_on_input_error


def main() -> None:
    """Run over all scenes as the options say."""
    parser = argparse.ArgumentParser(description="Find targets in scenes of any size.")
    parser.add_argument("config", type=Path)
    parser.add_argument("checkpoint", type=Path, help="of tools/train.py")
    parser.add_argument("scenes", type=Path, nargs="+", help="GeoTIFF, TIFF, PNG, JPEG, BMP or .npy")
    parser.add_argument("--output_dir", type=Path, default=Path("detections"))
    parser.add_argument("--window", type=positive, default=1024, help="side of the windows in pixels (default: 1024)")
    parser.add_argument(
        "--overlap", type=int, help="pixels that windows share, more than a target (default: a quarter)"
    )
    parser.add_argument("--batch", type=positive, help="windows at once (default: 8 on a GPU, else 1)")
    parser.add_argument("--score", type=float, default=0.3, help="targets below are dropped (default: 0.3)")
    parser.add_argument("--nms", type=float, default=0.5, help="boxes that overlap more are one target (default: 0.5)")
    parser.add_argument("--amp", action="store_true", help="compute in bfloat16: faster, nearly the same")
    parser.add_argument("--classes", nargs="+", help="look for these alone (default: all of the config)")
    parser.add_argument("--device", help="cuda, cuda:1, cpu, ... (default: a GPU if there is one)")
    args = parser.parse_args()

    stems = Counter(path.stem for path in args.scenes)
    if max(stems.values()) > 1:
        raise InputError(f"{max(stems, key=stems.get)}: several scenes have this name; give each an --output_dir")
    try:
        args.output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # now, rather than after hours
        raise InputError(f"--output_dir {args.output_dir} cannot be made: {error.strerror}") from error
    cfg = open_config(args.config)
    device = choose_device(args.device)
    detector = SceneDetector(cfg, args.checkpoint, device)
    unknown = sorted(set(args.classes or []) - set(detector.classes))
    if unknown:
        raise InputError(f"--classes {unknown[0]}: the config has {', '.join(detector.classes)}")
    for path in args.scenes:
        scene = open_scene(path)
        found = detector.detect(
            scene, args.window, args.overlap, args.batch, args.score, args.nms, amp=args.amp, progress=True
        )
        if args.classes:
            found = found.of_classes(args.classes)
        counts = Counter(found.classes[label] for label in found.labels.tolist())
        written = write_all(args.output_dir, scene, found)
        targets = ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "no targets"
        print(f"{path}: {targets}; wrote {', '.join(map(str, written))}", flush=True)


def choose_device(name: str | None) -> torch.device:
    """The device called so, or the best there is.

    Raises:
        InputError: if there is no such device.

    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name}: {str(error).splitlines()[0]}") from error
    return device


def positive(text: str) -> int:
    """A number above 0."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


if __name__ == "__main__":
    with exit_on_input_error():
        main()
