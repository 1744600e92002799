"""Draw what detectors found in scenes beside the truth, and count it.

    python fig_found.py --truth SCENES/annotations/test.json --images SCENES/images/test \
        --found FOUND_1 FOUND_2 --names "random weights" "shipped weights" --output found.png

FOUND are folders that `huge_image_infer.py` wrote; the scenes drawn are those that all of them have. A target counts as
found if a box of its class overlaps it by half (IoU), the surest box first.
"""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from saratrx import sar_image
from saratrx.command_line import between, option, parse
from saratrx.errors import InputError, exit_on_input_error, first_line, raise_problems
from saratrx.files import is_file, is_folder, refused_if_unwritable

SUFFIX = "_targets.csv"
OVERLAP = 0.5  # IoU from which on a box is that of a target
HIT, FALSE, MISSED = "#56B4E9", "#E69F00", "#F0E442"  # blue, orange, yellow: apart for the colour-blind, and on grey
KINDS = (("found", HIT, "-"), ("false alarm", FALSE, "--"), ("missed", MISSED, ":"))


@dataclass(frozen=True)
class Options:
    """Files."""

    truth: Path = option(help="COCO annotations of the scenes", metavar="FILE")
    images: Path = option(help="folder of the scenes", metavar="DIR")
    found: tuple[Path, ...] = option(help="what detectors found", metavar="DIR")
    names: tuple[str, ...] = option(help="what each is called", metavar="NAME")
    output: Path = option(help="the picture, a PNG", metavar="FILE")
    score: float = option(0.3, help="smallest score of a box")

    def __post_init__(self) -> None:
        problems = between(0, 1, score=self.score)
        problems += [f"{folder}: no such folder" for folder in (self.images, *self.found) if not is_folder(folder)]
        if not is_file(self.truth):
            problems.append(f"--truth {self.truth}: no such file")
        if len(self.names) != len(self.found):
            problems.append(f"--names: {len(self.names)}, for {len(self.found)} folders")
        raise_problems(problems)


@dataclass(frozen=True)
class Boxes:
    """N boxes of a scene: corners [N, 4] as x1, y1, x2, y2 in pixels, and classes."""

    corners: NDArray[np.float64]
    classes: list[str]


def read_truth(path: Path) -> dict[str, Boxes]:
    """Read the boxes of each scene, by the stem of its file's name.

    Raises:
        InputError: if it is no COCO file.

    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        classes = {category["id"]: category["name"] for category in content["categories"]}
        scenes = {image["id"]: Path(image["file_name"]).stem for image in content["images"]}
        boxes: dict[str, list[tuple[list[float], str]]] = {name: [] for name in scenes.values()}
        for annotation in content["annotations"]:
            x, y, width, height = map(float, annotation["bbox"])
            boxes[scenes[annotation["image_id"]]].append(
                ([x, y, x + width, y + height], classes[annotation["category_id"]])
            )
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as COCO annotations: {first_line(error)}") from error
    return {name: to_boxes(found) for name, found in boxes.items()}


def read_found(path: Path, score: float) -> Boxes:
    """Read the boxes of a CSV with at least a score, the surest first.

    Raises:
        InputError: if it is no such file.

    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if float(row["score"]) >= score]
        rows.sort(key=lambda row: -float(row["score"]))
        return to_boxes([([float(row[key]) for key in ("x1", "y1", "x2", "y2")], row["class"]) for row in rows])
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as found targets: {first_line(error)}") from error


def to_boxes(found: list[tuple[list[float], str]]) -> Boxes:
    """Make boxes of pairs of corners and class."""
    return Boxes(np.array([corners for corners, _ in found]).reshape(-1, 4), [name for _, name in found])


def overlaps(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of boxes [N, 4] and [M, 4]: [N, M]."""
    low, high = np.maximum(first[:, None, :2], second[None, :, :2]), np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.prod((high - low).clip(0), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (first, second)]
    return common / np.maximum(areas[0][:, None] + areas[1][None] - common, 1e-12)


def match(truth: Boxes, found: Boxes) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Tell which targets were found [N], and which boxes are hits [M]."""
    is_found, is_hit = np.zeros(len(truth.classes), bool), np.zeros(len(found.classes), bool)
    is_same = np.array(truth.classes, dtype=object)[:, None] == np.array(found.classes, dtype=object)[None]
    ious = np.where(is_same, overlaps(truth.corners, found.corners), 0)
    for box in range(len(found.classes)):
        free = np.where(is_found, 0, ious[:, box])
        if len(free) and free.max() >= OVERLAP:
            is_found[free.argmax()] = is_hit[box] = True
    return is_found, is_hit


def outline(axis: Any, boxes: NDArray[np.float64], colour: str, style: str) -> None:
    """Draw boxes, a little larger than they are."""
    for x1, y1, x2, y2 in boxes:
        width, height = x2 - x1 + 6, y2 - y1 + 6
        axis.add_patch(Rectangle((x1 - 3, y1 - 3), width, height, fill=False, color=colour, linestyle=style, lw=1.6))


def draw(options: Options, scenes: list[str], truth: dict[str, Boxes]) -> tuple[Figure, list[str]]:
    """Draw a row for each scene, the truth on the left, and give a line of counts for each detector."""
    columns = 1 + len(options.found)
    figure = Figure(figsize=(3.4 * columns, 3.6 * len(scenes) + 0.4), layout="constrained")
    axes = figure.subplots(len(scenes), columns, squeeze=False)
    counts = np.zeros((len(options.found), 3), int)  # targets, found, false alarms
    for row, scene in zip(axes, scenes, strict=True):
        (path,) = options.images.glob(f"{scene}.*")
        for axis in row:
            axis.imshow(sar_image.read(path), cmap="gray", vmin=0, vmax=255)
            axis.set(xticks=[], yticks=[])
        outline(row[0], truth[scene].corners, HIT, "-")
        row[0].set_title(f"{scene}: {len(truth[scene].classes)} targets", fontsize=9)
        for number, (folder, name, axis) in enumerate(zip(options.found, options.names, row[1:], strict=True)):
            found = read_found(folder / f"{scene}{SUFFIX}", options.score)
            is_found, is_hit = match(truth[scene], found)
            for (_, colour, style), boxes in zip(
                KINDS, (found.corners[is_hit], found.corners[~is_hit], truth[scene].corners[~is_found]), strict=True
            ):
                outline(axis, boxes, colour, style)
            counts[number] += len(is_found), is_found.sum(), (~is_hit).sum()
            axis.set_title(f"{name}: {is_found.sum()} found, {(~is_hit).sum()} false", fontsize=9)
    lines = [Line2D([], [], color=colour, linestyle=style, label=kind) for kind, colour, style in KINDS]
    figure.legend(handles=lines, loc="outside lower center", ncols=3, frameon=False, facecolor="0.3")
    said = [
        f"{name}: {found} of {targets} targets found, {false} false alarms"
        for name, (targets, found, false) in zip(options.names, counts, strict=True)
    ]
    return figure, said


def main() -> None:
    """Draw and print."""
    (options,) = parse((Options,), "Draw what detectors found beside the truth.")
    truth = read_truth(options.truth)
    have = [{path.name.removesuffix(SUFFIX) for path in folder.glob(f"*{SUFFIX}")} for folder in options.found]
    scenes = sorted(set.intersection(set(truth), *have))
    if not scenes:
        raise InputError(f"--found: no scene of {options.truth} that all folders have")
    figure, said = draw(options, scenes, truth)
    with refused_if_unwritable(options.output):
        figure.savefig(options.output, dpi=100)
    print("\n".join([*said, f"wrote {options.output}"]))


if __name__ == "__main__":
    with exit_on_input_error():
        main()
