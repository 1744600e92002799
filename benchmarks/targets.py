"""Which target of pre-training learns best? The same small model, images and steps for each, then few-shot probes.

    python benchmarks/targets.py MSTAR_SOC RUNS                                    # hours; go on with the same command
    python benchmarks/targets.py MSTAR_SOC RUNS --targets pixel mgf --pretrainings 1 --epochs 5      # to try it

MSTAR_SOC holds TRAIN and TEST, each with a folder per class. What `main_pretrain.py` sees is the middle of the training
chips, which leaves them as little as possible to tell a class by its background; RUNS takes its runs and a JSON of
figures for each. A run that is complete, or whose figures are there, is not repeated.

Each encoder is measured by k-NN over all training chips and by linear probes on 1, 5 and 10 chips of each class, ten
draws each, the same for all (`hivit_mae/run/evaluation.py`), on the middle 64 px, scaled to 96. A feature is the mean
and the deviation over the patches, averaged over an image and its mirror image. Beside them: random weights, raw
pixels, the histogram of `mgf`, and a CNN and a ViT that learn from the same chips alone (`supervised.py`).

The interval is of 95 % and holds for another pre-training and another draw of chips: their variances add, s^2 / S over
the means of S pre-trainings and d^2 / D over the means of D draws, with a t quantile at the degrees of freedom by
Satterthwaite. With one pre-training it holds for that one. The test chips are taken as they are.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import t

from hivit_mae.data.labelled import Labelled, find_labelled
from hivit_mae.models.targets import TARGETS, make_target
from hivit_mae.run import evaluation
from machine import describe, parsed
from saratrx import sar_image
from saratrx.command_line import Parser
from saratrx.errors import InputError, exit_on_input_error
from saratrx.files import find_images, write_json
from saratrx.hivit import SIZES, HiViTClassifier
from speckle_drift import Maps, drift, features_of, tokens_of
from supervised import learn_from_shots

SCRIPT = Path(__file__).parents[1] / "pre-training/main_pretrain.py"
REPEATED = ("pixel", "mgf", "sar_jepa", "s6", "fused")  # by several pre-trainings; the others by one
SEEN = 96  # px of a chip's middle for pre-training, of which crops take 20 to 100 % of the area
LOOKED_AT = 64  # px of a chip's middle for probes
SIDE = 96  # px of the input, to which either is scaled
SHOTS = (1, 5, 10)
SIGMA = 0.3  # of the speckle
DRIFT_IMAGES = 200
NETWORKS = {"CNN": "resnet10t", "ViT": "vit_tiny_patch16_224"}  # of timm; 4.9 M and 5.5 M parameters; HiViT-N 2.9 M
Figures = dict[str, Any]


def cut_middles(folder: Path, output: Path) -> None:
    """Write the middle SEEN px of all images of a folder, at any depth, as PNG; those that are there stay."""
    for path in map(Path, find_images(folder, "DATA")):
        middle = output / path.relative_to(folder).with_suffix(".png")
        if not middle.exists():
            middle.parent.mkdir(parents=True, exist_ok=True)
            image = sar_image.read(path)
            top, left = ((side - SEEN) // 2 for side in image.shape)
            if min(top, left) < 0:
                raise InputError(f"{path} has {image.shape[1]} x {image.shape[0]} pixels; {SEEN} a side are needed")
            part = middle.with_suffix(".part")
            Image.fromarray(image[top : top + SEEN, left : left + SEEN]).save(part, "PNG")
            part.rename(middle)


def pretrain(target: str, seed: int, images: Path, output: Path, epochs: int) -> Path:
    """Pre-train HiViT-N, or go on with it; return its last checkpoint."""
    words = [
        *("--data_path", str(images), "--cache", str(images.parent / "cache"), "--augment", "device"),
        *("--output_dir", str(output), "--resume", "auto", "--keep", "1", "--image_every", "0"),
        *("--model", "mae_hivit_nano_dec128d2b", "--input_size", str(SIDE), "--target", target),
        *("--batch_size", "64", "--lr", "6e-4", "--epochs", str(epochs), "--warmup_epochs", str(epochs / 10)),
        *("--seed", str(seed), "--num_workers", "0", "--device", "cpu"),
    ]
    output.mkdir(parents=True, exist_ok=True)
    with (output / "console.txt").open("a", encoding="utf-8") as console:
        done = subprocess.run([sys.executable, str(SCRIPT), *words], stdout=console, stderr=console, check=False)
    if done.returncode:
        raise InputError(f"the pre-training in {output} has failed: see console.txt there")
    return output / f"checkpoint-{epochs}.pth"


class Chips:
    """The labelled chips, and what is measured on them."""

    def __init__(self, data: Path, draws: int) -> None:
        self.draws = draws
        train, test = find_labelled(data, max(SHOTS))
        (self.train, self.train_labels), (self.test, self.test_labels) = map(read, (train, test))

    def measure(self, features: Callable[[torch.Tensor], evaluation.Features]) -> Figures:
        """Measure features of images [N, 1, S, S], uint8: by k-NN, and by probes on each number of shots."""
        train, test = features(self.train), features(self.test)
        labels = self.train_labels, self.test_labels
        found: Figures = {"knn": evaluation.knn_accuracy(train, labels[0], test, labels[1])}
        for shots in SHOTS:
            accuracies = evaluation.probe_accuracies(train, labels[0], test, labels[1], shots)
            found[f"{shots}"] = accuracies[: self.draws].tolist()
        return found

    def learn(self, network: str) -> Figures:
        """Measure a network that learns from the shots alone."""
        found: Figures = {"knn": None}
        for shots in SHOTS:
            found[f"{shots}"] = []
            for draw in range(self.draws):
                chosen = evaluation.draw_shots(self.train_labels, shots, draw)
                classes = learn_from_shots(
                    network, self.train[chosen], torch.from_numpy(self.train_labels[chosen]), self.test, draw
                )
                found[f"{shots}"].append(100 * float(np.mean(classes.numpy() == self.test_labels)))
        return found

    def drift(self, checkpoint: Path) -> float:
        """Relative drift of an encoder's features under speckle, see `speckle_drift.py`."""
        images = self.test[:: max(1, len(self.test) // DRIFT_IMAGES)].float() / 255
        return drift(features_of(checkpoint, SIDE), images, SIGMA, seed=0)[1]

    @torch.no_grad()
    def cost(self, target: str) -> float:
        """Milliseconds that a target takes for an image: the best of five rounds."""
        images, compute = self.test[: evaluation.BATCH].float() / 255, make_target(target)
        rounds = []
        for _ in range(5):
            begun = time.perf_counter()
            compute(images)
            rounds.append(time.perf_counter() - begun)
        return 1000 * min(rounds) / len(images)


def read(part: Labelled) -> tuple[torch.Tensor, evaluation.Labels]:
    """Read the middles of labelled images."""
    return part.read(SIDE, LOOKED_AT), part.labels


def of_encoder(maps: Maps) -> Callable[[torch.Tensor], evaluation.Features]:
    """Give what computes the features [N, 2 D] of images, uint8 [N, 1, S, S], from an encoder's tokens."""

    @torch.no_grad()
    def features(images: torch.Tensor) -> evaluation.Features:
        found = []
        for batch in images.split(evaluation.BATCH):
            views = [maps(view.float() / 255) for view in (batch, batch.flip(3))]
            pooled = [torch.cat([view.mean(dim=(2, 3)), view.std(dim=(2, 3))], dim=1) for view in views]
            found.append((pooled[0] + pooled[1]) / 2)
        return torch.cat(found).double().numpy()

    return features


def raw_pixels(images: torch.Tensor) -> evaluation.Features:
    """Pixels of images scaled to 32 px."""
    small = torch.nn.functional.interpolate(images.float() / 255, size=(32, 32), mode="area")
    return small.flatten(1).double().numpy()


def mgf_means(images: torch.Tensor) -> evaluation.Features:
    """Mean of each gradient feature in each of 4 x 4 blocks of an image."""
    target = make_target("mgf")
    found = [torch.nn.functional.adaptive_avg_pool2d(target(batch.float() / 255), 4) for batch in images.split(64)]
    return torch.cat(found).flatten(1).double().numpy()


def baselines(chips: Chips) -> dict[str, Callable[[int], Figures]]:
    """Give what measures each baseline, for a seed of its random weights."""

    def random(seed: int) -> Figures:
        torch.manual_seed(seed)
        return chips.measure(of_encoder(tokens_of(HiViTClassifier(**SIZES["nano"], img_size=SIDE, num_classes=0))))

    def learnt(network: str, _: int) -> Figures:
        return chips.learn(network)

    return {
        "random weights": random,
        "raw pixels": lambda _: chips.measure(raw_pixels),
        "mgf, no network": lambda _: chips.measure(mgf_means),
        **{f"{kind}, supervised": partial(learnt, name) for kind, name in NETWORKS.items()},
    }


def once(path: Path, measure: Callable[[], Figures]) -> Figures:
    """Give the figures of a file, or measure and write them."""
    if not path.exists():
        write_json(path, measure())
    figures: Figures = json.loads(path.read_text(encoding="utf-8"))
    return figures


def measured(target: str, seed: int, chips: Chips, args: argparse.Namespace) -> Figures:
    """Pre-train and measure once."""
    checkpoint = pretrain(target, seed, args.runs / "middles", args.runs / f"{target}-{seed}", args.epochs)
    found = chips.measure(of_encoder(features_of(checkpoint, SIDE)))
    return found | {"drift": chips.drift(checkpoint), "milliseconds": chips.cost(target)}


def mean_and_interval(accuracies: NDArray[np.float64]) -> tuple[float, float]:
    """Give the mean of [S, D] accuracies of pre-trainings and draws, and half of its 95 % interval (see above)."""
    parts = []
    for axis in (1, 0):
        means = accuracies.mean(axis=axis)
        if len(means) > 1:
            parts.append((means.var(ddof=1) / len(means), len(means) - 1))
    variance = sum(part for part, _ in parts)
    if not variance:
        return float(accuracies.mean()), 0.0
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    return float(accuracies.mean()), float(t.ppf(0.975, freedom) * np.sqrt(variance))


def row(name: str, runs: list[Figures]) -> Figures:
    """Sum up the runs of a target or baseline."""
    found: Figures = {"name": name, "pretrainings": len(runs)}
    for shots in SHOTS:
        accuracies = np.array([run[f"{shots}"] for run in runs])
        mean, half = mean_and_interval(accuracies)
        deviation = float(accuracies.mean(axis=1).std(ddof=1)) if len(runs) > 1 else None
        found[f"{shots}"] = {"mean": mean, "half": half, "between": deviation}
    for name_ in ("knn", "drift", "milliseconds"):
        values = [run[name_] for run in runs if run.get(name_) is not None]
        found[name_] = float(np.mean(values)) if values else None
    return found


def table(rows: list[Figures]) -> str:
    """Set the rows as a table in Markdown."""
    lines = ["| | runs | " + " | ".join(f"{n} shot{'s' * (n > 1)}" for n in SHOTS) + " | k-NN | drift | ms |"]
    lines.append("|---" * (len(SHOTS) + 5) + "|")
    for one in rows:
        cells = []
        for shots in SHOTS:
            figure = one[f"{shots}"]
            between = "" if figure["between"] is None else f" ({figure['between']:.1f})"
            cells.append(f"{figure['mean']:.1f} ± {figure['half']:.1f}{between}")
        forms = {"knn": "{:.1f}", "drift": "{:.2f}", "milliseconds": "{:.2f}"}
        cells += ["" if one[name] is None else form.format(one[name]) for name, form in forms.items()]
        lines.append(f"| {one['name']} | {one['pretrainings']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def answer(runs: dict[str, list[Figures]]) -> str:
    """Say by how much `mgf` beats `pixel`, at each number of shots, in deviations between pre-trainings."""
    lines = []
    for shots in SHOTS:
        mgf, pixel = (np.array([run[f"{shots}"] for run in runs[name]]).mean(axis=1) for name in ("mgf", "pixel"))
        gain, deviation = mgf.mean() - pixel.mean(), np.sqrt((mgf.var(ddof=1) + pixel.var(ddof=1)) / 2)
        lines.append(f"{shots} shots: mgf - pixel = {gain:+.1f} points, {gain / deviation:+.1f} standard deviations")
    return "\n".join(lines)


def draw(rows: list[Figures], path: Path) -> None:
    """Draw means and intervals, the best at the top."""
    from matplotlib.figure import Figure  # noqa: PLC0415 -- for this alone

    ordered = sorted(rows, key=lambda one: one["5"]["mean"])
    figure = Figure(figsize=(7, 0.3 * len(rows) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    for shots, colour, marker in zip(SHOTS, ("#0072B2", "#D55E00", "#009E73"), "os^", strict=True):
        means, halves = ([one[f"{shots}"][part] for one in ordered] for part in ("mean", "half"))
        axes.errorbar(
            means, range(len(ordered)), xerr=halves, fmt=marker, color=colour, capsize=3, label=f"{shots}-shot"
        )
    axes.set_yticks(range(len(ordered)), [f"{one['name']} ({one['pretrainings']})" for one in ordered])
    axes.set_xlabel("accuracy on MSTAR's ten classes, %; 95 % intervals; in brackets: pre-trainings")
    axes.grid(axis="x", alpha=0.3)
    axes.margins(y=0.1)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Pre-train, measure, print."""
    parser = Parser(description="Few-shot accuracy after pre-training with each target.")
    parser.add_argument(
        "data", type=Path, metavar="DATA", help="folder with TRAIN and TEST, a folder per class in each"
    )
    parser.add_argument("runs", type=Path, metavar="RUNS", help="folder for runs and figures")
    parser.add_argument("--targets", nargs="+", choices=tuple(TARGETS), default=list(TARGETS), help="which")
    parser.add_argument("--pretrainings", type=int, default=3, help=f"of {', '.join(REPEATED)}; 1 of the others")
    parser.add_argument("--epochs", type=int, default=24, help="of each pre-training; 24 are 1,008 steps on MSTAR")
    parser.add_argument("--draws", type=int, default=evaluation.DRAWS, help="of the shots, at most 10")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--figure", type=Path, help="draw them there")
    args = parsed(parser)
    if args.draws > evaluation.DRAWS:
        raise InputError(f"--draws {args.draws}: must be from 1 to {evaluation.DRAWS}")

    cut_middles(Path(find_part(args.data)), args.runs / "middles")
    chips = Chips(args.data, args.draws)
    runs: dict[str, list[Figures]] = {}
    repeated = [name for name in args.targets if name in REPEATED]
    pairs = [(seed, name) for seed in range(args.pretrainings) for name in repeated]
    for seed, name in pairs + [(0, name) for name in args.targets if name not in REPEATED]:
        figures = once(args.runs / f"{name}-{seed}.json", partial(measured, name, seed, chips, args))
        runs.setdefault(name, []).append(figures)
    for name, measure in baselines(chips).items():
        seeds = args.pretrainings if name == "random weights" else 1
        paths = [args.runs / f"{name.replace(' ', '-').replace(',', '')}-{seed}.json" for seed in range(seeds)]
        runs[name] = [once(path, partial(measure, seed)) for seed, path in enumerate(paths)]
    rows = [row(name, found) for name, found in runs.items()]
    print(f"{describe(torch.device('cpu'))}, {args.epochs} epochs; accuracy ± half of the interval (deviation between")
    print("pre-trainings); drift of the features at sigma 0.3; milliseconds that the target takes for an image")
    print(table(rows))
    if args.pretrainings > 1 and {"mgf", "pixel"} <= runs.keys():
        print(answer(runs))
    if args.json:
        write_json(args.json, {"machine": describe(torch.device("cpu")), "epochs": args.epochs, "runs": runs}, indent=1)
    if args.figure:
        draw(rows, args.figure)


def find_part(data: Path) -> Path:
    """Find the folder with the training chips, whatever the case of its name."""
    found = sorted(path for path in data.iterdir() if path.name.lower() == "train")
    if not found:
        raise InputError(f"{data}: no folder TRAIN in it")
    return found[0]


if __name__ == "__main__":
    with exit_on_input_error():
        main()
