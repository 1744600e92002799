"""Draw the radar chart of models like SARATR-X over benchmarks, from the figures in radarmap.json.

    python fig_radarmap.py

What is not measured stays open: a gap in the model's line, and a grey word at the axis. A hollow marker is a figure of
another protocol than its axis's, which is not to be compared. To add a figure, put it in the place of a null:

    "this code, shipped weights": "SSDD mAP": {"value": 67.5, "source": "...", "protocol": "..."}
"""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from saratrx.command_line import option, parse
from saratrx.errors import InputError, exit_on_input_error, first_line
from saratrx.files import refused_if_unwritable, write_bytes

HERE = Path(__file__).resolve().parent
STYLES = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#000000", "D"), ("#CC79A7", "v"), ("#E69F00", "P"))
MOST_LETTERS = 200  # of what an error quotes


@dataclass(frozen=True)
class Options:
    """Files."""

    data: Path = option(HERE / "radarmap.json", help="figures", metavar="FILE", default_text="radarmap.json, here")
    output: Path = option(
        HERE / "fig_radarmap.png", help="chart", metavar="FILE", default_text="fig_radarmap.png, here"
    )


def read(path: Path) -> dict[str, Any]:
    """Read the figures: axes with `name` and `protocol`; series with `name`, `short` and `figures` for every axis.

    Raises:
        InputError: naming what is missing or wrong.

    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON: {first_line(error)}") from error
    axes, series = (entries(path, content, name) for name in ("axes", "series"))
    if len(axes) < 3 or not 1 <= len(series) <= len(STYLES):
        raise InputError(f"{path}: needs 3 axes or more, and 1 to {len(STYLES)} series")
    texts(path, axes, "axes", ("name", "protocol"))
    texts(path, series, "series", ("name", "short"))
    names = [axis["name"] for axis in axes]
    for one in series:
        figures = one.get("figures")
        if not isinstance(figures, dict) or sorted(figures) != sorted(names):
            raise InputError(f"{path}: {one['name'][:MOST_LETTERS]} needs a figure, or null, for each of the axes")
        for name, figure in figures.items():
            check_figure(f"{path}: {one['name'][:MOST_LETTERS]}, {name[:MOST_LETTERS]}", figure)
    return {"axes": axes, "series": series}


def entries(path: Path, content: Any, name: str) -> list[dict[str, Any]]:
    """Give a list of objects in the content of the file; raises InputError."""
    found = content.get(name) if isinstance(content, dict) else None
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise InputError(f'{path}: needs "{name}", a list of objects')
    return found


def texts(path: Path, found: list[dict[str, Any]], what: str, keys: tuple[str, ...]) -> None:
    """Refuse entries without these texts, or with a name twice; raises InputError."""
    if not all(isinstance(entry.get(key), str) and entry[key] for entry in found for key in keys):
        raise InputError(f"{path}: each of the {what} needs {' and '.join(keys)}, in words")
    if len({entry["name"] for entry in found}) < len(found):
        raise InputError(f"{path}: two of the {what} have one name")


def check_figure(where: str, figure: Any) -> None:
    """Refuse what is neither null nor a figure in percent with its source and protocol; raises InputError."""
    if figure is None:
        return
    value: Any = figure.get("value") if isinstance(figure, dict) else None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= 100:
        raise InputError(f"{where}: needs a value from 0 to 100, or null where nothing was measured")
    for key in ("source", "protocol"):
        if not isinstance(figure.get(key), str) or not figure[key]:
            raise InputError(f"{where}: needs its {key}, in words")


def draw(content: dict[str, Any]) -> Figure:
    """Draw what `read` gives: one scale of 0 to 100 % for all axes."""
    axes, series = content["axes"], content["series"]
    angles = np.linspace(0, 2 * np.pi, len(axes), endpoint=False)
    figure = Figure(figsize=(11.5, 8.6))
    chart: Any = figure.add_axes((0.25, 0.2, 0.5, 0.7), projection="polar", theta_offset=np.pi / 2, theta_direction=-1)
    chart.set_rlim(0, 100)
    rings = (360 / len(axes)) * (2 * len(axes) // 3 + 0.5)  # degrees: half-way between two axes, at the lower left
    chart.set_rgrids([20, 40, 60, 80, 100], ["20", "40", "60", "80", "100 %"], angle=rings, color="0.5", size=8)
    chart.set_xticks(angles, [])
    chart.grid(color="0.85")
    for (colour, marker), one in zip(STYLES, series, strict=False):
        found = [one["figures"][axis["name"]] for axis in axes]
        values = np.array([np.nan if each is None else each["value"] for each in found])
        own = [
            each is not None and each["protocol"] == axis["protocol"] for each, axis in zip(found, axes, strict=True)
        ]
        faces = [colour if is_own else "white" for is_own in own]
        label = one["name"] if np.isfinite(values).any() else f"{one['name']}: not measured"
        chart.plot([*angles, 2 * np.pi], [*values, values[0]], color=colour, linewidth=1.6)  # NaN is a gap
        chart.plot([], [], color=colour, marker=marker, linewidth=1.6, label=label)
        chart.scatter(
            angles, values, 45, faces, marker=marker, edgecolors=colour, linewidths=1.5, zorder=3, clip_on=False
        )
    for angle, axis in zip(angles, axes, strict=True):
        missing = [one["short"] for one in series if one["figures"][axis["name"]] is None]
        label_axis(figure, chart, angle, axis["name"], missing)
    figure.legend(loc="lower center", ncols=2, frameon=False, bbox_to_anchor=(0.5, 0.05))
    note = "hollow: measured by another protocol than that of the axis, and not to be compared with filled ones"
    figure.text(0.5, 0.03, f"{note}; protocols and sources are in the JSON file", ha="center", size=8, color="0.35")
    return figure


def label_axis(figure: Figure, chart: Any, angle: float, name: str, missing: list[str]) -> None:
    """Write an axis's name at its end, and in grey below it which models are not measured there."""
    across = np.sin(angle)
    side = "center" if abs(across) < 0.1 else "left" if across > 0 else "right"
    words = {"xy": (angle, 110), "textcoords": "offset points", "ha": side, "annotation_clip": False}
    chart.annotate(name, xytext=(0, 6 if missing else 0), va="center", weight="bold", size=10, **words)
    if missing:
        text = f"not measured: {', '.join(missing)}"
        chart.annotate(text, xytext=(0, -6), va="center", size=8, color="0.45", **words)


def main() -> None:
    """Read, draw, write."""
    (options,) = parse([Options], "Draw the radar chart of models over benchmarks.")
    picture = io.BytesIO()
    draw(read(options.data)).savefig(picture, dpi=110, format="png")
    with refused_if_unwritable(options.output):
        write_bytes(options.output, picture.getvalue())
    print(f"wrote {options.output}")


if __name__ == "__main__":
    with exit_on_input_error():
        main()
