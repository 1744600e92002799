"""What a test shows, drawn: which classes are confused, how features lie, which mistakes are sure, what shots bring."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps, font_manager, rcParams
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ft2font import FT2Font
from numpy.typing import NDArray
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import confusion_matrix
from torchvision.transforms.v2.functional import center_crop, resize

from saratrx.files import refused_if_unwritable, write_bytes
from saratrx.names import readable
from saratrx.reading import AS_DEFAULT, Reading

BOXES_ALONE = "Last Resort High-Efficiency"  # Matplotlib's font that has a box for every sign
DPI = 80
MISTAKES = 20
COLUMNS = 5  # of the grid of mistakes
TILE, CAPTION, GAP = 128, 36, 8  # sides of its images, and of what is above and between them, in pixels
POINTS = 1000  # at most, of the picture of features: t-SNE takes seconds for that many, minutes for ten times as many
FEWEST_POINTS = 10
COLOURS = 20  # of tab20; further classes get another marker
MARKERS = "o^sD"
rcParams["text.parse_math"] = False  # a class's name may hold a $
Labels = NDArray[np.integer]
Features = NDArray[np.float32]


def confusion(true: Labels, predicted: Labels, names: dict[int, str]) -> Figure:
    """Draw the numbers of images by true (rows) and predicted label (columns), coloured by their share of the row.

    Args:
        true: labels [N].
        predicted: labels [N].
        names: of the labels.

    """
    names = {label: shown(name) for label, name in names.items()}
    labels = sorted({*names, *predicted.tolist()})
    counts = confusion_matrix(true, predicted, labels=labels)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
    side = max(3.0, 0.45 * len(labels))
    longest = max(len(names.get(label, "")) for label in labels)
    figure, axis = framed(side, side, left=0.6 + 0.085 * longest, right=0.1, bottom=1.6, top=0.4)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "white" if shares[row, column] > 0.6 else "black"
        axis.text(column, row, counts[row, column], ha="center", va="center", color=colour, fontsize=8)
    axis.set_xticks(range(len(labels)), [short(names.get(label, str(label))) for label in labels], rotation=90)
    axis.set_yticks(range(len(labels)), [names.get(label, str(label)) for label in labels])
    axis.set(xlabel="predicted", ylabel="true", title=f"accuracy {(true == predicted).mean():.1%} of {len(true):,}")
    return figure


def features(pooled: Features, labels: Labels, names: dict[int, str]) -> Figure:
    """Draw features in the plane by t-SNE, at most 1,000 of them, coloured by class.

    Args:
        pooled: features [N, D], N >= 10.
        labels: [N].
        names: of the labels.

    """
    return _features(Hashed(pooled), Hashed(labels), tuple(names.items()))


class Hashed:
    """An array as the key of a cache: of a frozen encoder all runs of a process draw the same features."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array
        self.digest = hashlib.sha256(array.tobytes()).digest()

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hashed) and self.digest == other.digest


@lru_cache(maxsize=2)
def _features(pooled: Hashed, labels_of: Hashed, named: tuple[tuple[int, str], ...]) -> Figure:
    chosen = np.random.default_rng(0).permutation(len(pooled.array))[:POINTS]
    labels, names = labels_of.array[chosen], dict(named)
    points = embed(np.ascontiguousarray(pooled.array[chosen]))
    figure, axis = framed(6.0, 5.0, left=0.1, right=2.4, bottom=0.1, top=0.4)
    for label in sorted(set(labels.tolist())):
        colour, marker = colormaps["tab20"](label % COLOURS), MARKERS[label // COLOURS % len(MARKERS)]
        x, y = points[labels == label].T
        axis.scatter(x, y, s=14, color=colour, marker=marker, label=short(shown(names[label])), linewidths=0)
    axis.set(xticks=[], yticks=[], title=f"t-SNE of the features of {len(labels):,} test images")
    axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, fontsize=8)
    return figure


def embed(pooled: Features) -> NDArray[np.floating]:
    """Bring features [N, D], standardised, to points [N, 2] in the plane."""
    values = pooled.astype(np.float64)
    values = (values - values.mean(axis=0)) / (values.std(axis=0) + 1e-6)
    values = PCA(min(30, *values.shape), random_state=0).fit_transform(values)
    return TSNE(perplexity=min(30, (len(values) - 1) / 3), random_state=0).fit_transform(values)


@dataclass(frozen=True)
class Mistake:
    """A test image that was taken for something else."""

    path: str
    true: str
    predicted: str
    probability: float


def mistakes(
    surest: Sequence[Mistake], wrong: int, total: int, centre_crop: int, reading: Reading = AS_DEFAULT
) -> Figure:
    """Draw the most confident mistakes, images with their true and predicted class.

    Args:
        surest: of these, the surest first.
        wrong: number of all mistakes.
        total: number of all images.
        centre_crop: side in pixels of what is shown of an image, 0 for all.
        reading: how images are read.

    """
    rows = max(1, -(-len(surest) // COLUMNS))
    canvas = np.full((rows * (TILE + CAPTION), COLUMNS * (TILE + GAP)), 255, np.uint8)
    figure, axis = framed(canvas.shape[1] / DPI, canvas.shape[0] / DPI, left=0.1, right=0.1, bottom=0.1, top=0.4)
    for place, mistake in enumerate(surest):
        top, left = (place // COLUMNS) * (TILE + CAPTION) + CAPTION, (place % COLUMNS) * (TILE + GAP)
        canvas[top : top + TILE, left : left + TILE] = tile(mistake.path, centre_crop, reading)
        caption = f"{short(shown(mistake.true))} > {short(shown(mistake.predicted))}\n{mistake.probability:.0%}"
        axis.text(left + TILE / 2, top - 4, caption, ha="center", va="bottom", fontsize=9)
    axis.imshow(canvas, cmap="gray", vmin=0, vmax=255)
    axis.set_axis_off()
    axis.set_title(f"the {len(surest)} surest of {wrong:,} mistakes in {total:,} images: true > predicted")
    return figure


def tile(path: str, centre_crop: int, reading: Reading) -> NDArray[np.uint8]:
    """Read an image, or its middle, at the size of a picture's tile."""
    image = torch.from_numpy(reading.read(path))[None]
    image = center_crop(image, centre_crop) if centre_crop else image
    return resize(image, [TILE, TILE], antialias=True)[0].numpy()


def beside(rows: Sequence[Sequence[tuple[str, str]]], title: str, reading: Reading, centre_crop: int) -> Figure:
    """Draw rows of images, such as one and those that are nearest to it.

    Args:
        rows: for each image its file and what stands above it; at most two lines.
        title: of the picture.
        reading: how images are read.
        centre_crop: side in pixels of what is shown of an image, 0 for all.

    """
    canvas = np.full((len(rows) * (TILE + CAPTION), max(map(len, rows)) * (TILE + GAP)), 255, np.uint8)
    figure, axis = framed(canvas.shape[1] / DPI, canvas.shape[0] / DPI, left=0.1, right=0.1, bottom=0.1, top=0.4)
    for row, tiles in enumerate(rows):
        top = row * (TILE + CAPTION) + CAPTION
        for column, (path, caption) in enumerate(tiles):
            left = column * (TILE + GAP)
            canvas[top : top + TILE, left : left + TILE] = tile(path, centre_crop, reading)
            lines = "\n".join(map(shown, caption.split("\n")))
            axis.text(left + TILE / 2, top - 4, lines, ha="center", va="bottom", fontsize=9)
    axis.imshow(canvas, cmap="gray", vmin=0, vmax=255)
    axis.set_axis_off()
    axis.set_title(shown(title), fontsize=10)
    return figure


def accuracy_against_shots(curves: dict[str, dict[int, list[float]]]) -> Figure:
    """Draw the mean accuracy over seeds, with the standard deviation as error bars.

    Args:
        curves: for each line, the accuracies in percent of all seeds by the number of shots.

    """
    figure, axis = framed(6.0, 4.0, left=0.7, right=0.1, bottom=0.6, top=0.4)
    for name, by_shots in curves.items():
        shots = sorted(by_shots)
        mean, std = ([float(measure(by_shots[n])) for n in shots] for measure in (np.mean, np.std))
        axis.errorbar(shots, mean, std, marker="o", capsize=3, label=shown(name))
    shots = sorted({n for by_shots in curves.values() for n in by_shots})
    axis.set_xscale("log")
    axis.set_xticks(shots, [str(n) for n in shots])
    axis.set_xticks([], minor=True)
    axis.set(xlabel="training images per class", ylabel="accuracy, %", title="mean and standard deviation over seeds")
    axis.grid(alpha=0.3)
    axis.legend()
    return figure


def accuracy_against_angle(points: Sequence[dict[str, Any]], angle: str) -> Figure:
    """Draw accuracy against an angle, with 95 % intervals, above bars of how many images each point stands for.

    Args:
        points: as `conditions.by_angle` gives them.
        angle: "azimuth" or "depression".

    """
    figure, axis = framed(6.0, 4.0, left=0.7, right=0.8, bottom=0.6, top=0.4)
    edges, middle = np.array([point["degrees"] for point in points]).T, [np.mean(point["degrees"]) for point in points]
    accuracy = np.array([point["accuracy"] for point in points])
    low, high = np.array([point["interval"] for point in points]).T
    numbers = axis.twinx()
    numbers.bar(middle, [point["images"] for point in points], np.maximum(edges[1] - edges[0], 2) * 0.9, color="0.85")
    numbers.set(ylabel="test images", ylim=(0, 3 * max(point["images"] for point in points)))
    axis.set_zorder(numbers.get_zorder() + 1)
    axis.patch.set_visible(False)
    axis.errorbar(middle, accuracy, (accuracy - low, high - accuracy), marker="o", capsize=3)
    axis.set_xticks(np.unique(edges))
    axis.set(xlabel=f"{angle}, degrees", ylabel="accuracy, %", ylim=(0, 100))
    axis.set_title("accuracy with 95 % intervals (Wilson); bars: test images")
    axis.grid(alpha=0.3)
    return figure


def framed(width: float, height: float, *, left: float, right: float, bottom: float, top: float) -> tuple[Figure, Axes]:
    """Make a figure with one axis of a given size and margins, all in inches."""
    whole = (left + width + right, bottom + height + top)
    figure = Figure(figsize=whole)
    return figure, figure.add_axes((left / whole[0], bottom / whole[1], width / whole[0], height / whole[1]))


def save(figure: Figure, path: str | Path) -> NDArray[np.uint8]:
    """Write a figure as PNG; return its pixels, uint8 [H, W, 3], so that it need not be drawn again elsewhere.

    Raises:
        InputError: if it cannot be written.

    """
    pixels, png = rendered(figure)
    with refused_if_unwritable(path):
        write_bytes(path, png)
    return pixels


@lru_cache(maxsize=4)  # more than the figures of one run
def rendered(figure: Figure) -> tuple[NDArray[np.uint8], bytes]:
    """Draw a figure, once: its pixels, uint8 [H, W, 3], and the PNG file of them."""
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    png = BytesIO()
    Image.fromarray(pixels).save(png, format="PNG")
    return pixels, png.getvalue()


def shown(name: str) -> str:
    r"""Give a name as it can be drawn: signs that no font here has are escaped, such as \u6cb9."""
    return "".join(sign if can_draw(sign) else sign.encode("unicode_escape").decode() for sign in readable(name))


@lru_cache(maxsize=10_000)
def can_draw(sign: str) -> bool:
    """Tell whether a font has a sign; a further one that has it is used from then on, beside Matplotlib's own."""
    families = list(rcParams["font.family"])
    if any(ord(sign) in signs_of(font_manager.findfont(FontProperties(family=[family]))) for family in families):
        return True
    for font in font_manager.fontManager.ttflist:
        if font.name != BOXES_ALONE and ord(sign) in signs_of(font.fname):
            rcParams["font.family"] = [*families, font.name]
            return True
    return False


@lru_cache(maxsize=1000)
def signs_of(path: str) -> frozenset[int]:
    """Give the code points that a font file has glyphs for; none if it cannot be read."""
    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


def short(name: str) -> str:
    """Cut off what explains a class's name."""
    return name.partition(",")[0]
