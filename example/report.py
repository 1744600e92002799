"""One HTML page of what quickstart.sh has made: pictures, tables, what each means, and the commands behind it.

    python report.py example/output            # writes example/output/report.html

The page holds its pictures and asks nothing of the net.
"""

import base64
import csv
import html
import io
import json
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from saratrx.command_line import option, parse
from saratrx.errors import InputError, exit_on_input_error, first_line
from saratrx.files import is_folder, refused_if_unwritable, write_text
from saratrx.reporting import print_any_name

COLOURS = ("#000000", "#999999", "#E69F00", "#56B4E9", "#0072B2", "#D55E00")  # apart for the colour-blind
MARKERS = "osv^Dx"
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; }
img { max-width: 100%; } figure { margin: 1rem 0; } figcaption { color: #555; font-size: 0.9rem; }
table { border-collapse: collapse; }
td, th { padding: 0.3rem 0.9rem; border-bottom: 1px solid #ddd; text-align: right; }
td:first-child, th:first-child { text-align: left; }
pre { background: #f4f4f4; padding: 0.8rem; white-space: pre-wrap; overflow-wrap: anywhere; font-size: 0.8rem; }
"""


@dataclass(frozen=True)
class Options:
    """Folders."""

    output: Path = option(help="folder that quickstart.sh wrote", positional=True)

    def __post_init__(self) -> None:
        if not is_folder(self.output):
            raise InputError(f"{self.output}: no such folder")


@dataclass(frozen=True)
class Row:
    """Accuracy of one way to classify, in percent: mean and deviation over draws, by chips of each class."""

    label: str
    accuracy: dict[str, tuple[float, float]]


def read_rows(path: Path) -> list[Row]:
    """Read classify/table.tsv: label, shots, mean, deviation; the rows of a label follow each other.

    Raises:
        InputError: if it is no such table.

    """
    rows: dict[str, Row] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for label, shots, mean, deviation in csv.reader(file, delimiter="\t"):
                percent = float(mean), float(deviation)
                if not all(0 <= value <= 100 for value in percent):
                    raise ValueError(f"{label} has {mean} and {deviation}, which are no percentages")
                rows.setdefault(label, Row(label, {})).accuracy[shots] = percent
        if not rows:
            raise ValueError("it has no rows")
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a table: {first_line(error)}; run quickstart.sh again") from error
    return list(rows.values())


def read_numbers(path: Path, *keys: str) -> list[tuple[float, ...]]:
    """Read numbers from a log of one JSON object a line: of each that has the first key, the values of all keys.

    Raises:
        InputError: if it is no such log.

    """
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return [tuple(float(one[key]) for key in keys) for one in records if keys[0] in one]
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as a log: {first_line(error)}; run quickstart.sh again") from error


def last_precision(folder: Path) -> tuple[float, float]:
    """Find mAP and mAP at an overlap of half, in percent, in the newest log of a detector's training.

    Raises:
        InputError: if there is none.

    """
    for path in sorted(folder.glob("*/vis_data/scalars.json"), reverse=True):
        found = read_numbers(path, "coco/bbox_mAP", "coco/bbox_mAP_50")
        if found:
            mean, half = found[-1]
            return 100 * mean, 100 * half
    raise InputError(f"{folder}: no validation in its logs; run quickstart.sh again")


def embedded(png: bytes, caption: str) -> str:
    """Give a PNG as a figure that holds it."""
    data = base64.b64encode(png).decode()
    text = html.escape(caption)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'


def picture(path: Path, caption: str) -> str:
    """Read a PNG file as a figure.

    Raises:
        InputError: if it is not there, or no PNG.

    """
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.verify()
        return embedded(path.read_bytes(), caption)
    except (OSError, SyntaxError, ValueError) as error:  # the second is Pillow's for a damaged PNG
        raise InputError(f"{path} cannot be read: {first_line(error)}; run quickstart.sh again") from error


def drawn(figure: Figure, caption: str) -> str:
    """Draw a figure into the page."""
    png = io.BytesIO()
    figure.savefig(png, dpi=100)
    return embedded(png.getvalue(), caption)


def table(head: list[str], rows: list[list[str]]) -> str:
    """Set a table."""
    lines = [f"<tr>{''.join(f'<th>{html.escape(cell)}</th>' for cell in head)}</tr>"]
    lines += [f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows]
    return f"<table>{''.join(lines)}</table>"


def losses(path: Path) -> Figure:
    """Draw the loss of pre-training by epoch."""
    found = read_numbers(path, "train_loss", "epoch")
    if not found:
        raise InputError(f"{path}: no loss in it; run quickstart.sh again")
    loss, epoch = zip(*found, strict=True)
    figure = Figure(figsize=(6, 2.6), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(epoch, loss, color="#0072B2")
    axes.set(xlabel="epoch", ylabel="loss")
    axes.grid(alpha=0.3)
    return figure


def curves(rows: list[Row]) -> Figure:
    """Draw accuracy by the number of chips of each class."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for row, colour, marker in zip(rows, cycle(COLOURS), cycle(MARKERS), strict=False):  # these have no end
        means, deviations = zip(*row.accuracy.values(), strict=True)
        axes.errorbar(list(row.accuracy), means, deviations, label=row.label, color=colour, marker=marker, capsize=3)
    axes.set(xlabel="chips of each class", ylabel="accuracy, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)
    return figure


def page(output: Path) -> str:
    """Make the page.

    Raises:
        InputError: if a part of the quickstart is missing.

    """
    rows = read_rows(output / "classify/table.tsv")
    shots = list(dict.fromkeys(shots for row in rows for shots in row.accuracy))
    accuracies = [[row.label, *(f"{mean:.1f} ± {std:.1f}" for mean, std in row.accuracy.values())] for row in rows]
    precisions = []
    for start in ("random", "shipped"):
        mean, half = last_precision(output / "detect" / start)
        precisions.append([f"{start} weights", f"{half:.1f}", f"{mean:.1f}"])
    panels = sorted((output / "pretrain").glob("reconstruction-*.png"))
    commands = output / "commands.txt"
    try:
        said = html.escape(commands.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{commands} cannot be read: {first_line(error)}; run quickstart.sh again") from error
    parts = [
        "<h1>SARATR-X: the first ten minutes</h1>",
        "<p>Everything below was computed on this machine, on simulated SAR images. The shipped weights (HiViT-N, 2.9 "
        "M parameters) were pre-trained on real and simulated chips; example/weights/README.md says on which.</p>",
        "<h2>The images</h2>",
        picture(output / "simulated/classes.png", "Ten kinds of vehicles as chips, and the three kinds of scenes."),
        "<h2>Pre-training without labels</h2>",
        "<p>Three quarters of a chip are hidden, and the network learns to predict the gradients of what is hidden. A "
        "few minutes on 400 chips show that it learns; they are far too few for a good encoder.</p>",
        drawn(losses(output / "pretrain/log.txt"), "Loss of the predicted gradients, on new crops and masks."),
        picture(
            panels[-1] if panels else output / "pretrain/reconstruction.png",
            "Input, masked input, the gradients to be predicted at three scales, and the prediction.",
        ),
        "<h2>Classes from few labels</h2>",
        "<p>A linear probe, or nearest neighbours, on features of an encoder that stays as it is. Chance is 10 %. What "
        "counts is the distance of the shipped weights from raw pixels and from random weights.</p>",
        table(["chips of each class", *shots], accuracies),
        drawn(curves(rows), "Accuracy on 200 test chips; bars: deviation over draws of the training chips."),
        "<h2>Detection</h2>",
        "<p>The same detector, trained in the same way for a few minutes, from random weights and from the shipped "
        "ones. mAP50 counts a target as found where boxes overlap by half; mAP is the mean from half to 0.95.</p>",
        table(["begins from", "mAP50, %", "mAP, %"], precisions),
        picture(output / "detect/found.png", "Truth on the left; found, false and missed boxes of the two detectors."),
        "<h2>The commands behind it</h2>",
        f"<pre>{said}</pre>",
    ]
    head = f'<meta charset="utf-8"><title>SARATR-X quickstart</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def main() -> None:
    """Write the page."""
    (options,) = parse((Options,), "Make one HTML page of what quickstart.sh has made.")
    path = options.output / "report.html"
    text = page(options.output)
    with refused_if_unwritable(path):
        write_text(path, text)
    print(f"wrote {path}")


if __name__ == "__main__":
    print_any_name()
    with exit_on_input_error():
        main()
