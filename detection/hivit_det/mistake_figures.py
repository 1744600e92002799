"""The mistakes of a detector as files: a list, curves of precision, a confusion, and galleries."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from numpy.typing import NDArray

from hivit_det.classes import CocoMetricByName
from hivit_det.mistakes import (
    Image,
    Mistake,
    Ranked,
    best_threshold,
    confusion,
    curve,
    images_of,
    mistakes_of,
    rank,
)
from mmcv_stand_in.rotated_boxes import corners
from saratrx import sar_image
from saratrx.files import write_bytes, write_text
from saratrx.names import readable

COLUMNS = ("kind", "image", "class", "found_as", "score", "overlap", "corners")
SHOWN, IN_A_ROW = 24, 6  # pictures of a gallery
FOUND, TRUE = "tab:orange", "tab:cyan"
STYLES = ("-", "--", ":", "-.")  # ten colours each


def write_mistakes(
    folder: Path, metric: CocoMetricByName, results: Sequence[Mapping[str, Any]], reading: Mapping[str, Any]
) -> None:
    """Write `mistakes.csv` and four PNG files to a folder.

    All but the curves are at the score that gives the best F1.

    Args:
        folder: is there.
        metric, results: of the test, as `images_of` takes them.
        reading: `remap` and `channel` of the images.

    Raises:
        OSError: if a file cannot be written.

    """
    classes = list(metric.dataset_meta["classes"])
    images = images_of(metric, results)
    counts = np.bincount([label for image in images for label in image.labels], minlength=len(classes))
    ranked = rank(images)
    threshold = best_threshold(ranked, counts.sum())
    mistakes = mistakes_of(images, threshold)
    write_text(folder / "mistakes.csv", as_csv(mistakes, classes))
    found, missed = ([each for each in mistakes if (each.kind == "miss") == is_miss] for is_miss in (False, True))
    with rc_context({"text.parse_math": False}):  # a class may have a $ in its name
        figures = {
            "precision_recall": draw_curves(ranked, dict(zip(classes, counts, strict=True)), metric.per_class),
            "confusion": draw_confusion(confusion(mistakes, counts), classes, threshold),
            "false_alarms": draw_gallery(found, "false alarms and wrong classes", images, classes, reading),
            "misses": draw_gallery(missed, "missed targets", images, classes, reading),
        }
        for name, figure in figures.items():
            drawn = io.BytesIO()
            figure.savefig(drawn, format="png", dpi=100)
            write_bytes(folder / f"{name}.png", drawn.getvalue())


def as_csv(mistakes: Sequence[Mistake], classes: Sequence[str]) -> str:
    """List mistakes, one a line, with the corners of their boxes in pixels."""
    text = io.StringIO()
    lines = csv.writer(text)
    lines.writerow(COLUMNS)
    for each in mistakes:
        names = ["" if label is None else classes[label] for label in (each.true, each.found_as)]
        corners = " ".join(f"{value:.1f}" for value in corners_of(each.box).flat)
        lines.writerow([each.kind, each.image, *names, f"{each.score:.4f}", f"{each.overlap:.4f}", corners])
    return text.getvalue()


def corners_of(box: NDArray[np.float64]) -> NDArray[np.float64]:
    """Corners [4, 2] of a box [5]."""
    return corners(torch.from_numpy(box)).numpy()


def draw_curves(ranked: Ranked, counts: Mapping[str, int], per_class: Mapping[str, Any]) -> Figure:
    """Draw precision against recall at an overlap of 0.5 of each class, with its AP50; `counts` targets are there."""
    figure = Figure(figsize=(7.5, 5), layout="constrained")
    axis = figure.add_subplot()
    axis.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.01))
    axis.grid(alpha=0.3)
    for label, (name, count) in enumerate(counts.items()):
        score = per_class.get(name, {}).get("mAP_50")
        about = f"{readable(name)}, {count}" + ("" if score is None else f": {100 * score:.1f} %")
        axis.plot(*curve(ranked, label, count), STYLES[label // 10 % 4], color=f"C{label % 10}", label=about)
    figure.legend(title="targets: AP50", loc="outside right upper", fontsize=8)
    return figure


def draw_confusion(table: NDArray[np.int64], classes: Sequence[str], threshold: float) -> Figure:
    """Draw targets by class (rows) and by what they are taken for, with their counts."""
    side = max(3.5, 0.55 * len(table) + 1.5)
    figure = Figure(figsize=(side + 0.5, side), layout="constrained")
    axis = figure.add_subplot()
    axis.imshow(table / table.sum(axis=1, keepdims=True).clip(1), cmap="Greys", vmin=0, vmax=1.6)
    places, names = range(len(table)), [readable(name) for name in classes]
    axis.set_xticks(places, [*names, "missed"], rotation=45, ha="right")
    axis.set_yticks(places, [*names, "nothing there"])
    axis.set_xlabel("found as")
    figure.suptitle(f"score from {threshold:.2f} on, overlap from 0.5 on", fontsize=9)
    for row, column in np.ndindex(table.shape):
        if table[row, column]:
            axis.text(column, row, str(table[row, column]), ha="center", va="center", fontsize=8)
    return figure


def draw_gallery(
    mistakes: Sequence[Mistake],
    title: str,
    images: Sequence[Image],
    classes: Sequence[str],
    reading: Mapping[str, Any],
) -> Figure:
    """Draw the first of some mistakes, with all annotated boxes around them."""
    of_path = {image.path: image for image in images}
    shown = mistakes[:SHOWN]
    rows = max(1, -(-len(shown) // IN_A_ROW))
    figure = Figure(figsize=(2 * IN_A_ROW, 2.4 * rows + 0.5), layout="constrained")
    figure.suptitle(f"{title}: {len(shown)} of {len(mistakes)}. Orange: found; blue, dashed: annotated", fontsize=10)
    places = figure.subplots(rows, IN_A_ROW, squeeze=False).flat
    for axis, each in zip(places, shown, strict=False):  # places may be left over
        grey = sar_image.read(each.image, **reading)
        reach = max(16.0, 1.5 * each.box[2:4].max())
        x, y = each.box[:2]
        left, top = (max(0, int(middle - reach)) for middle in (x, y))
        part = grey[top : int(y + reach) + 2, left : int(x + reach) + 2].copy()  # the figure keeps it, not the image
        height, width = part.shape
        axis.imshow(
            part, cmap="gray", vmin=0, vmax=255, extent=(left - 0.5, left + width - 0.5, top + height - 0.5, top - 0.5)
        )
        axis.set(xlim=(x - reach, x + reach), ylim=(y + reach, y - reach))
        for truth in of_path[each.image].truths:
            axis.add_patch(Polygon(corners_of(truth) - 0.5, fill=False, edgecolor=TRUE, linestyle="--"))
        name = "" if each.true is None else classes[each.true]
        if each.found_as is not None:
            axis.add_patch(Polygon(corners_of(each.box) - 0.5, fill=False, edgecolor=FOUND))
            name = classes[each.found_as] + (name and f", not {name}")
        axis.set_title(f"{readable(name)[:40]} {each.score:.2f}\n{readable(each.image.name)[:40]}", fontsize=7)
    for axis in figure.axes:
        axis.set(xticks=[], yticks=[], frame_on=axis.has_data())
    return figure
