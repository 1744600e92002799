"""How long does a large scene take, against the published way, and how do time and memory grow with the scene?

    python benchmarks/large_scene.py CONFIG CHECKPOINT IMAGES        # 2,048 to 8,192 px: half an hour on two CPU cores
    python benchmarks/large_scene.py CONFIG CHECKPOINT IMAGES --sizes 16384 --forms "ours" "ours, --amp"

IMAGES is a folder of images like those of the training set; scenes are tiled from them. The published way is written
out plainly here: the whole scene in memory, windows of 1,024 px every 512 px, one at a time, edge windows narrower than
a quarter left out, boxes in Python lists, and non-maximum suppression in Python over all of them, whatever their class.
Its detector is ours, in float32. SAHI is tried where it is installed (pip install --no-deps sahi), with our detector
and our windows. Every run is a process of its own, reading included, starting up not. Prints seconds, ratio to the
first form, peak memory of the process, and the numbers of windows and boxes.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import rasterio
import torch
from mmengine.config import Config
from rasterio.windows import Window

import hivit_det  # noqa: F401 -- first: it prepares MMDetection
from hivit_det.backbone import HiViTBackbone
from hivit_det.scenes.scene import open_scene
from hivit_det.scenes.windows import SceneDetector
from machine import describe, parsed, peak_gb
from saratrx import sar_image
from saratrx.command_line import Parser
from saratrx.errors import InputError, exit_on_input_error
from saratrx.files import write_json

SCORE, NMS = 0.3, 0.5
WINDOW, OVERLAP = 1024, 128  # ours by default
OPTIONS: dict[str, dict[str, Any]] = {"ours": {}, "ours, --amp": {"amp": True}}  # of SceneDetector.detect
FORMS = ("published", "SAHI", *OPTIONS)


def write_scene(path: Path, images: list[Path], side: int) -> None:
    """Tile a square scene of `side` pixels from images, row by row."""
    rng = np.random.default_rng(0)
    tiles = [sar_image.read(image) for image in images]
    height, width = np.min([tile.shape for tile in tiles], axis=0)
    profile = {"driver": "GTiff", "height": side, "width": side, "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", tiled=True, blockxsize=512, blockysize=512, compress="deflate", **profile) as file:
        for top in range(0, side, height):
            chosen = [tiles[i][:height, :width] for i in rng.integers(len(tiles), size=-(-side // width))]
            row = np.concatenate([np.flip(tile, np.flatnonzero(rng.random(2) < 0.5)) for tile in chosen], axis=1)
            row = row[: side - top, :side]
            file.write(row, 1, window=Window(0, top, side, len(row)))


def published_way(detector: SceneDetector, path: Path, window: int = 1024, stride: int = 512) -> int:
    """Count the boxes that the published way finds."""
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise InputError(f"{path} cannot be read")
    scene, boxes = open_scene(path), []
    for top in range(0, len(image), stride):
        for left in range(0, len(image), stride):
            part = image[top : top + window, left : left + window]
            if min(part.shape) >= window / 4:
                [(found, scores, _, _)] = detector.detect_in_windows(scene, [((left, top), part)], SCORE)
                boxes += [(score, *box) for box, score in zip(found.tolist(), scores.tolist(), strict=True)]
    kept: list[tuple[float, ...]] = []
    for box in sorted(boxes, reverse=True):
        if all(intersection_over_union(box[1:], other[1:]) <= NMS for other in kept):
            kept.append(box)
    return len(kept)


def intersection_over_union(a: Sequence[float], b: Sequence[float]) -> float:
    """Of two boxes."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (areas - width * height)


def by_sahi(args: argparse.Namespace) -> Callable[[Path], int]:
    """Make SAHI's way, with our detector, windows and threshold: counts the boxes that it finds in a scene."""
    from sahi import AutoDetectionModel  # noqa: PLC0415 -- not among the project's packages
    from sahi.predict import get_sliced_prediction  # noqa: PLC0415

    given = {"model_path": str(args.checkpoint), "config_path": str(args.config), "device": args.device}
    model = AutoDetectionModel.from_pretrained("mmdet", confidence_threshold=SCORE, **given)
    options: dict[str, Any] = {"perform_standard_pred": False, "verbose": 0}
    options |= {"slice_height": WINDOW, "slice_width": WINDOW}
    options |= {f"overlap_{side}_ratio": OVERLAP / WINDOW for side in ("height", "width")}
    options |= {"postprocess_type": "NMS", "postprocess_match_metric": "IOU", "postprocess_match_threshold": NMS}
    return lambda path: len(get_sliced_prediction(str(path), model, **options).object_prediction_list)


def prepared(args: argparse.Namespace) -> Callable[[Path], int]:
    """Build a form, and let its detector see a first window; what is returned counts the boxes in a scene."""
    if args.form == "SAHI":
        return by_sahi(args)
    detector = SceneDetector(Config.fromfile(args.config), args.checkpoint, args.device)
    detector.detect_in_windows(open_scene(args.scene), [((0, 0), np.zeros((WINDOW, WINDOW), np.uint8))], SCORE)
    if args.form == "published":
        return lambda path: published_way(detector, path)
    return lambda path: len(detector.detect(open_scene(path), score=SCORE, nms=NMS, **OPTIONS[args.form]))


def print_figures(args: argparse.Namespace) -> None:
    """Run one form on one scene; the other side of `measured`."""
    count_boxes, windows = prepared(args), 0

    look = HiViTBackbone.forward

    def counted(self: HiViTBackbone, images: torch.Tensor) -> Any:
        nonlocal windows
        windows += len(images)
        return look(self, images)

    with patch.object(HiViTBackbone, "forward", counted):
        begun = time.perf_counter()
        boxes = count_boxes(args.scene)
        seconds = time.perf_counter() - begun
    print(json.dumps({"seconds": seconds, "peak_gb": peak_gb(), "windows": windows, "boxes": boxes}))


def measured(args: argparse.Namespace, scene: Path, form: str) -> dict[str, float]:
    """Figures of one form on one scene."""
    command = [sys.executable, __file__, args.config, args.checkpoint, args.images, "--device", args.device]
    command += ["--scene", scene, "--form", form]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure and print."""
    parser = Parser(description="Time a detector on large scenes against the published way.")
    parser.add_argument("config", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[2048, 4096, 8192])
    parser.add_argument(
        "--forms", nargs="+", choices=FORMS, default=[form for form in FORMS if form != "SAHI" or find_spec("sahi")]
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--scene", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--form", choices=FORMS, help=argparse.SUPPRESS)
    args = parsed(parser)
    if args.form:
        print_figures(args)
        return

    results: dict[str, Any] = {
        "machine": describe(torch.device(args.device)),
        "sizes": {},
    }
    print(results["machine"])
    images = sorted(path for path in args.images.iterdir() if path.suffix.lower() in sar_image.EXTENSIONS)
    if not images:
        raise InputError(f"{args.images}: no image in it")
    for side in args.sizes:
        print(f"{side} x {side} px", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            scene = Path(folder) / "scene.tif"
            write_scene(scene, images, side)
            figures = {}
            for form in args.forms:
                figures[form] = measured(args, scene, form)
                found = figures[form]
                ratio = figures[args.forms[0]]["seconds"] / found["seconds"]
                print(
                    f"  {form:12} {found['seconds']:8.1f} s   ratio {ratio:5.2f}   "
                    f"peak memory {found['peak_gb']:5.2f} GB   {found['windows']} windows, {found['boxes']} boxes",
                    flush=True,
                )
        results["sizes"][side] = figures
        if args.json:
            write_json(args.json, results, indent=1)


if __name__ == "__main__":
    with exit_on_input_error():
        main()
