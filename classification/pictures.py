"""What a test shows, drawn: which classes are confused, how features lie, which mistakes are sure, what shots bring."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import confusion_matrix
from torchvision.transforms.v2.functional import center_crop

from saratrx import sar_image

DPI = 80
MISTAKES = 20
COLUMNS = 5  # of the grid of mistakes
POINTS = 1000  # at most, of the picture of features: t-SNE takes seconds for that many, minutes for ten times as many
FEWEST_POINTS = 10
COLOURS = 20  # of tab20; further classes get another marker
MARKERS = "o^sD"


def confusion(true: np.ndarray, predicted: np.ndarray, names: dict[int, str]) -> Figure:
    """Numbers of images by true (rows) and predicted label (columns), coloured by their share of the row.

    Args:
        true: labels [N].
        predicted: labels [N].
        names: of the labels.

    """
    labels = sorted({*names, *predicted.tolist()})
    counts = confusion_matrix(true, predicted, labels=labels)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
    side = 0.45 * len(labels) + 1
    figure = Figure(figsize=(side + 4, side + 0.8), layout="constrained")
    axis = figure.subplots()
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "white" if shares[row, column] > 0.6 else "black"
        axis.text(column, row, counts[row, column], ha="center", va="center", color=colour, fontsize=8)
    axis.set_xticks(range(len(labels)), [short(names.get(label, str(label))) for label in labels], rotation=90)
    axis.set_yticks(range(len(labels)), [names.get(label, str(label)) for label in labels])
    axis.set(xlabel="predicted", ylabel="true", title=f"accuracy {(true == predicted).mean():.1%} of {len(true):,}")
    return figure


def features(pooled: np.ndarray, labels: np.ndarray, names: dict[int, str]) -> Figure:
    """Features in the plane by t-SNE, at most 1,000 of them, coloured by class.

    Args:
        pooled: features [N, D], N >= 10.
        labels: [N].
        names: of the labels.

    """
    chosen = np.random.default_rng(0).permutation(len(pooled))[:POINTS]
    pooled, labels = np.ascontiguousarray(pooled[chosen]), labels[chosen]
    points = embed(Hashed(pooled))
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axis = figure.subplots()
    for label in sorted(set(labels.tolist())):
        colour, marker = colormaps["tab20"](label % COLOURS), MARKERS[label // COLOURS % len(MARKERS)]
        x, y = points[labels == label].T
        axis.scatter(x, y, s=14, color=colour, marker=marker, label=short(names[label]), linewidths=0)
    axis.set(xticks=[], yticks=[], title=f"t-SNE of the features of {len(labels):,} test images")
    figure.legend(loc="outside right upper", fontsize=8)
    return figure


class Hashed:
    """An array as the key of a cache: of a frozen encoder all runs of a process draw the same features."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.digest = hashlib.sha256(array.tobytes()).digest()

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hashed) and self.digest == other.digest


@lru_cache(maxsize=4)
def embed(pooled: Hashed) -> np.ndarray:
    """Features [N, D], standardised -> points [N, 2]."""
    values = pooled.array.astype(np.float64)
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


def mistakes(surest: Sequence[Mistake], wrong: int, total: int, centre_crop: int) -> Figure:
    """The most confident mistakes, images with their true and predicted class.

    Args:
        surest: of these, the surest first.
        wrong: number of all mistakes.
        total: number of all images.
        centre_crop: side in pixels of what is shown of an image, 0 for all.

    """
    rows = max(1, -(-len(surest) // COLUMNS))
    height = 2.35 * rows + 0.5
    figure = Figure(figsize=(2 * COLUMNS, height))
    figure.suptitle(
        f"the {len(surest)} surest of {wrong:,} mistakes in {total:,} images: true > predicted", y=1 - 0.1 / height
    )
    axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.05 / height, top=1 - 0.8 / height, wspace=0.05, hspace=0.3)
    for axis in axes:
        axis.set_axis_off()
    for axis, mistake in zip(axes, surest, strict=False):
        image = torch.from_numpy(sar_image.read(mistake.path))[None]
        shown = center_crop(image, centre_crop) if centre_crop else image
        axis.imshow(shown[0].numpy(), cmap="gray", vmin=0, vmax=255)
        classes = f"{short(mistake.true)} > {short(mistake.predicted)}"
        axis.set_title(f"{classes}\n{mistake.probability:.0%}", fontsize=9)
    return figure


def accuracy_against_shots(curves: dict[str, dict[int, list[float]]]) -> Figure:
    """Mean accuracy over seeds, with the standard deviation as error bars.

    Args:
        curves: for each line, the accuracies in percent of all seeds by the number of shots.

    """
    figure = Figure(figsize=(6.5, 4.5), layout="constrained")
    axis = figure.subplots()
    for name, by_shots in curves.items():
        shots = sorted(by_shots)
        mean, std = ([float(measure(by_shots[n])) for n in shots] for measure in (np.mean, np.std))
        axis.errorbar(shots, mean, std, marker="o", capsize=3, label=name)
    shots = sorted({n for by_shots in curves.values() for n in by_shots})
    axis.set_xscale("log")
    axis.set_xticks(shots, [str(n) for n in shots])
    axis.set_xticks([], minor=True)
    axis.set(xlabel="training images a class", ylabel="accuracy, %", title="mean and standard deviation over seeds")
    axis.grid(alpha=0.3)
    axis.legend()
    return figure


def save(figure: Figure, path: str | Path) -> np.ndarray:
    """Write a figure as PNG; returns its pixels, uint8 [H, W, 3], so that it need not be drawn again elsewhere."""
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    Image.fromarray(pixels).save(path)
    return pixels


def short(name: str) -> str:
    """A class's name without what explains it."""
    return name.partition(",")[0]
