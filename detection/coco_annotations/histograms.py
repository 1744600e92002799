"""How large the targets and images of a detection set are, as a figure."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from coco_annotations.coco_check import AnnotationFile, has_area
from coco_annotations.coco_json import is_finite

SIZES = 2.0 ** np.arange(0, 11.01, 0.5)  # px
SHAPES = 2.0 ** np.arange(-4, 4.01, 0.25)
AREAS = (32, 96)  # px: between COCO's small, medium and large


def draw(files: list[AnnotationFile], path: Path) -> None:
    """Draw the sizes and the shapes of the boxes of each annotation file, how many an image has, and image sides."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    axes = list(figure.subplots(2, 2).flat)
    titles = ("side of a box, square root of its area, px", "width / height of a box", "boxes of an image")
    for axis, title in zip(axes, (*titles, "longer side of an image, px"), strict=True):
        axis.set(xlabel=title, ylabel="share")
    for number, file in enumerate(files):
        color = f"C{number % 10}"
        boxes = np.array([box["bbox"] for box in file.annotations if has_area(box)], float).reshape(-1, 4)
        counts = {image["id"]: 0 for image in file.images}
        for box in file.annotations:
            counts[box["image_id"]] = counts.get(box["image_id"], 0) + 1
        stated: list[tuple[Any, Any]] = [(image.get("width"), image.get("height")) for image in file.images]
        sides = [max(size) for size in stated if all(map(is_finite, size))]
        most = max([*counts.values(), 1])
        shown: tuple[tuple[NDArray[Any], NDArray[Any]], ...] = (
            (np.sqrt(boxes[:, 2]) * np.sqrt(boxes[:, 3]), SIZES),
            (boxes[:, 2] / boxes[:, 3], SHAPES),
            (np.array([*counts.values()], float), np.linspace(-0.5, most + 0.5, min(most, 40) + 2)),
            (np.array(sides, float), 2.0 ** np.arange(5, 15.01, 0.5)),
        )
        for axis, (values, edges) in zip(axes, shown, strict=True):
            inside = values.clip(edges[0], edges[-1])
            axis.hist(
                inside,
                edges,
                weights=np.full(len(values), 1 / max(len(values), 1)),
                histtype="step",
                color=color,
                lw=1.6,
            )
    for axis in axes[0], axes[1], axes[3]:
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter("{x:g}")
    for side in AREAS:
        axes[0].axvline(side, color="0.7", lw=0.8, zorder=0)
    handles = [Line2D([], [], color=f"C{number % 10}") for number in range(len(files))]
    figure.legend(handles, [file.name for file in files], loc="outside upper center", ncols=3)
    figure.savefig(path, dpi=100)
