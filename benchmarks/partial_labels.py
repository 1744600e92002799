"""What is lost where each source of a merged set annotates one class alone, and what of it the heads for that save.

    python benchmarks/partial_labels.py OUTPUT_DIR --json results.json --figure figure.png

Simulated scenes of grass, sea and a village in one strip, so that every image has vehicles and ships. Two sources take
turns: one has boxes of vehicles alone, the other of ships. Three trainings for each seed, of the same detector from the
same weights, are tested on other strips, whose boxes are all there:

    full        with all boxes
    unmasked    with each source's, as if what has none were background
    masked      with each source's, by the heads of hivit_det/partial_labels.py

A training that is there is not done again, so that the same command goes on after a crash.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from machine import describe, parsed
from saratrx.command_line import Parser
from saratrx.errors import InputError, exit_on_input_error
from saratrx.files import refused_if_unwritable, write_json

TOP = Path(__file__).resolve().parents[1]
KINDS = 3  # of scenes, which simulate.py makes in turn: grass, village, sea
SOURCES = {"a": "vehicle", "b": "ship"}  # the class that each annotates
WAYS = ("full", "unmasked", "masked")
# also where no box is: around the boxes of its own sources alone, a class would never see what else is no target of it
CROPS = """crops = [
    dict(step, allow_negative_crop=True) if step["type"] == "RandomCrop" else step for step in _base_.train_pipeline
]"""
MASKED = 'model = dict(bbox_head=dict(type="PartialLabelsGFLHead"))'


def run(script: str, *words: object) -> None:
    """Run a command of the project in a process of its own.

    Raises:
        InputError: with its last words, if it fails.

    """
    done = subprocess.run(
        [sys.executable, str(TOP / script), *map(str, words)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise InputError(f"{script} has failed: {(done.stderr.splitlines() or ['without a word'])[-1]}")


def write_once(path: Path, settings: dict[str, Any]) -> Any:
    """Write the settings of the trainings in a folder, or read those that are there."""
    if not path.exists():
        write_json(path, settings)
    return json.loads(path.read_text(encoding="utf-8"))


def make_strips(folder: Path, part: str, output: Path) -> dict[str, Any]:
    """Join each three scenes of a part to a strip; gives COCO's form of the strips, with their sources."""
    content = json.loads((folder / "annotations" / f"{part}.json").read_text(encoding="utf-8"))
    output.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(len(content["images"]) // KINDS):
        scenes = content["images"][KINDS * number : KINDS * (number + 1)]
        pixels = [np.asarray(Image.open(folder / "images" / part / scene["file_name"])) for scene in scenes]
        strip, name = np.hstack(pixels), f"{'ab'[number % 2]}{number}.png"
        Image.fromarray(strip).save(output / name)
        height, width = strip.shape
        images.append({"id": number + 1, "file_name": name, "width": width, "height": height, "source": name[0]})
        for place, scene in enumerate(scenes):
            for box in content["annotations"]:
                if box["image_id"] == scene["id"]:
                    x, *others = box["bbox"]
                    moved = {"id": len(annotations) + 1, "image_id": number + 1, "bbox": [x + place * height, *others]}
                    kept = {key: box[key] for key in ("category_id", "area", "iscrowd")}
                    annotations.append(moved | kept)
    return {"images": images, "annotations": annotations, "categories": content["categories"]}


def of_sources(content: dict[str, Any]) -> dict[str, Any]:
    """Leave of each image the boxes of the class that its source annotates."""
    names = {category["id"]: category["name"] for category in content["categories"]}
    wanted = {image["id"]: SOURCES[image["source"]] for image in content["images"]}
    boxes = [box for box in content["annotations"] if names[box["category_id"]] == wanted[box["image_id"]]]
    return content | {"annotations": boxes}


def write_config(folder: Path, way: str, epochs: int) -> Path:
    """Write the config of one way of training."""
    annotations = "full" if way == "full" else "partial"
    annotated = {source: [name] for source, name in SOURCES.items()} if way == "masked" else None
    path = folder / f"{way}.py"
    path.write_text(
        f'''
_base_ = "{TOP / "detection/configs/_hivit_/hivit_nano_simulated_gfl.py"}"
{CROPS}
train_dataloader = dict(
    dataset=dict(
        pipeline=crops,
        data_root="{folder}/",
        ann_file="{annotations}.json",
        data_prefix=dict(img="train/"),
        annotated={annotated},
    )
)
val_dataloader = dict(dataset=dict(data_root="{folder}/", ann_file="test.json", data_prefix=dict(img="test/")))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file="{folder}/test.json")
test_evaluator = val_evaluator
train_cfg = dict(max_epochs={epochs}, val_interval={epochs})
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=30),
    dict(type="CosineAnnealingLR", begin=0, end={epochs}, T_max={epochs}, by_epoch=True, convert_to_iter_based=True),
]
{MASKED if way == "masked" else ""}'''
    )
    return path


def measure(folder: Path, way: str, epochs: int, seed: int, weights: str) -> dict[str, Any]:
    """Train and test once, unless that is done; gives the mAP50 of both classes and of each."""
    config, work_dir = write_config(folder, way, epochs), folder / "runs" / f"{way}-{seed}"
    results = work_dir / "results.json"
    if not results.is_file():
        common = ("--work-dir", work_dir)
        run("detection/tools/train.py", config, "--init-weights", weights, "--seed", seed, "--resume", *common)
        run("detection/tools/test.py", config, work_dir / f"epoch_{epochs}.pth", *common)
    found = json.loads(results.read_text(encoding="utf-8"))
    each = {name: figures["mAP_50"] for name, figures in found["per_class"].items()}
    return {"mAP_50": found["figures"]["coco/bbox_mAP_50"], "mAP": found["figures"]["coco/bbox_mAP"], "per_class": each}


def draw(found: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draw a dot for each training and a line for the mean."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    for axis, name in zip(figure.subplots(1, 2, sharey=True), SOURCES.values(), strict=True):
        for place, way in enumerate(WAYS):
            values = [100 * (run["per_class"][name] or 0) for run in found[way]]
            axis.plot([place] * len(values), values, "o", color="tab:blue", alpha=0.6)
            axis.hlines(float(np.mean(values)), place - 0.25, place + 0.25, color="tab:orange")
        axis.set(title=f"{name}s", xticks=range(len(WAYS)), xticklabels=WAYS, xlim=(-0.6, len(WAYS) - 0.4))
        axis.set_ylim(0, 100)
        axis.grid(axis="y", alpha=0.3)
    figure.axes[0].set_ylabel("mAP50, %, of each seed and the mean")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Make the data, train, test, and tell."""
    parser = Parser(description="What partial labels cost, and what heads that know of them save.")
    parser.add_argument("output", type=Path, metavar="OUTPUT_DIR", help="data and runs go there")
    parser.add_argument("--strips", type=int, nargs=2, default=[40, 10], metavar="N", help="to train and to test")
    parser.add_argument("--epochs", type=int, default=40, help="of each training")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each way")
    parser.add_argument("--weights", default=str(TOP / "example/weights/model.safetensors"), help="of the encoder")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--figure", type=Path, help="draw them there (.png)")
    args = parsed(parser)

    folder, scenes = args.output.absolute(), args.output.absolute() / "simulated"
    settings = {"strips": args.strips, "epochs": args.epochs, "weights": args.weights}
    with refused_if_unwritable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if write_once(folder / "settings.json", settings) != settings:
            raise InputError(f"{folder} has trainings with other settings; name another folder")
        counts = [KINDS * number for number in args.strips]
        run("example/simulate.py", "--output_dir", scenes, "--chips", 0, 0, "--scenes", *counts)
        content = {part: make_strips(scenes / "scenes", part, folder / part) for part in ("train", "test")}
        write_json(folder / "full.json", content["train"])
        write_json(folder / "partial.json", of_sources(content["train"]))
        write_json(folder / "test.json", content["test"])
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for seed in range(args.seeds):
        for way in WAYS:
            found[way].append(measure(folder, way, args.epochs, seed, args.weights))
            print(f"seed {seed}, {way}: mAP50 {100 * found[way][-1]['mAP_50']:.1f} %", flush=True)
    print(f"mAP50, %, mean +- standard deviation over {args.seeds} seeds")
    for way, runs in found.items():
        cells = [
            f"{name} {np.mean(values):.1f} +- {np.std(values):.1f}"
            for name in SOURCES.values()
            for values in [[100 * (run["per_class"][name] or 0) for run in runs]]
        ]
        print(f"{way:10}{'   '.join(cells)}")
    if args.json:
        facts = {"machine": describe(torch.device("cpu")), "strips": args.strips, "epochs": args.epochs}
        write_json(args.json, facts | {"runs": found}, indent=1)
    if args.figure:
        draw(found, args.figure)


if __name__ == "__main__":
    with exit_on_input_error():
        main()
