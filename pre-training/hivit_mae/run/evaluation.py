"""What the encoder is worth so far: k-NN and a few-shot linear probe on its features of labelled images.

Nothing random here is the run's own, and all models are measured by the same images and draws, whatever their --seed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

from hivit_mae.data.labelled import find_labelled
from hivit_mae.data.source import listed
from hivit_mae.run.options import EvaluationOptions
from hivit_mae.run.precision import AMP_DTYPES
from saratrx.hivit import HiViT
from saratrx.reading import AS_DEFAULT, Reading

Features = NDArray[np.float64]  # [N, D]
Labels = NDArray[np.int64]  # [N]

BATCH = 64  # images
NEIGHBOURS, TEMPERATURE = 20, 0.07  # as in classification's kNN: Wu et al., CVPR 2018
AT_ONCE = 1024  # test images whose similarities to all training images are in memory
DRAWS = 10  # of the few shots
PENALTY = 1.0  # of the probe: half of it times the squared weights, beside the sum of the images' losses
STEPS = 1000  # of L-BFGS at most


@dataclass(frozen=True)
class Evaluation:
    """Labelled images, in memory: uint8 [N, 1, S, S], labels [N].

    Attributes:
        shots: training images of each class that the probe sees.
        identity: names the images and how they are looked at; figures of another identity are not comparable.

    """

    train: torch.Tensor
    train_labels: Labels
    test: torch.Tensor
    test_labels: Labels
    shots: int
    identity: str

    def measure(self, model: HiViT, amp: str, is_stopped: Callable[[], bool]) -> dict[str, float] | None:
        """Measure an encoder.

        Args:
            model: is left in the mode that it is in.
            amp: precision, a key of `AMP_DTYPES`.
            is_stopped: asked before each batch.

        Returns:
            Accuracies in percent: eval/knn, eval/probe (mean over the draws), eval/probe_deviation. NaN if the features
            are not finite; None if `is_stopped`.

        """
        train, test = (features(model, images, amp, is_stopped) for images in (self.train, self.test))
        if train is None or test is None:
            return None
        if not (np.isfinite(train).all() and np.isfinite(test).all()):
            return dict.fromkeys(("eval/knn", "eval/probe", "eval/probe_deviation"), float("nan"))
        probes = probe_accuracies(train, self.train_labels, test, self.test_labels, self.shots)
        return {
            "eval/knn": knn_accuracy(train, self.train_labels, test, self.test_labels),
            "eval/probe": float(np.mean(probes)),
            "eval/probe_deviation": float(np.std(probes)),
        }

    def told(self, figures: dict[str, float]) -> str:
        """Say in a line what was measured."""
        return (
            f"k-NN {figures['eval/knn']:.2f}%, {self.shots}-shot probe {figures['eval/probe']:.2f}% +- "
            f"{figures['eval/probe_deviation']:.2f}%"
        )


def open_evaluation(options: EvaluationOptions, input_size: int, reading: Reading = AS_DEFAULT) -> Evaluation:
    """Find the images of --eval_data and read them.

    Raises:
        InputError: for a folder that cannot be used, or an image that cannot be read.

    """
    train, test = find_labelled(options.eval_data, options.eval_shots)
    root = len(str(Path(options.eval_data)))
    names = [
        f"{path[root:]} {label}" for part in (train, test) for path, label in zip(part.paths, part.labels, strict=True)
    ]
    looks = [f"{options.eval_shots} {options.eval_crop}"] + [str(reading)] * (reading != AS_DEFAULT)
    return Evaluation(
        train.read(input_size, options.eval_crop, reading),
        train.labels,
        test.read(input_size, options.eval_crop, reading),
        test.labels,
        options.eval_shots,
        listed(names + looks),
    )


@torch.no_grad()
def features(model: HiViT, images: torch.Tensor, amp: str, is_stopped: Callable[[], bool]) -> Features | None:
    """Compute the mean of stage 3's tokens, of whole images: uint8 [N, 1, S, S] -> [N, D], or None if `is_stopped`."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    found = []
    for batch in images.split(BATCH):
        if is_stopped():
            break
        inputs = batch.to(device).float().div(255).expand(-1, 3, -1, -1)
        with torch.autocast(device.type, AMP_DTYPES[amp], enabled=amp != "off"):
            tokens = model.forward_features(inputs)
        found.append(tokens.float().mean(dim=1).cpu())
    model.train(was_training)
    whole = sum(map(len, found)) == len(images)
    return torch.cat(found).numpy().astype(np.float64) if whole else None


def standardised(train: Features, test: Features) -> tuple[Features, Features]:
    """Give features zero mean and unit deviation over the training images."""
    mean, deviation = train.mean(axis=0), train.std(axis=0) + 1e-6
    return (train - mean) / deviation, (test - mean) / deviation


def knn_accuracy(train: Features, train_labels: Labels, test: Features, test_labels: Labels) -> float:
    """Give the accuracy in percent of the votes of the nearest training images by cosine, as classification's kNN.

    In double precision, since runs allow TF32.
    """
    memory, queries = (torch.nn.functional.normalize(torch.from_numpy(x), dim=1) for x in standardised(train, test))
    labels, classes = torch.from_numpy(train_labels), int(train_labels.max()) + 1
    voted = []
    for part in queries.split(AT_ONCE):
        similarity, nearest = (part @ memory.T).topk(min(NEIGHBOURS, len(memory)), dim=1)
        weights = (similarity / TEMPERATURE).softmax(dim=1)
        voted.append(weights.new_zeros(len(part), classes).scatter_add_(1, labels[nearest], weights).argmax(dim=1))
    return 100 * float(np.mean(torch.cat(voted).numpy() == test_labels))


def probe_accuracies(
    train: Features, train_labels: Labels, test: Features, test_labels: Labels, shots: int
) -> NDArray[np.float64]:
    """Give the accuracy in percent of a linear probe for each draw of `shots` training images a class: [DRAWS]."""
    accuracies = []
    for draw in range(DRAWS):
        chosen = draw_shots(train_labels, shots, draw)
        seen, asked = standardised(train[chosen], test)
        weights, biases = fit_probe(seen, train_labels[chosen])
        accuracies.append(100 * np.mean((asked @ weights + biases).argmax(axis=1) == test_labels))
    return np.array(accuracies)


def draw_shots(labels: Labels, shots: int, draw: int) -> NDArray[np.int64]:
    """Draw the indices of `shots` images of each class, in the order of classes; always the same ones of a draw."""
    rng = np.random.default_rng(draw)
    drawn = [rng.choice(np.flatnonzero(labels == label), shots, replace=False) for label in range(labels.max() + 1)]
    return np.concatenate(drawn)


def fit_probe(seen: Features, labels: Labels) -> tuple[Features, Features]:
    """Fit a logistic regression, by L-BFGS on all images at once.

    It minimises the sum of the cross-entropies and PENALTY / 2 times the squared weights; biases are free.

    Args:
        seen: standardised features [N, D].
        labels: [N], each of 0 to C - 1 at least once.

    Returns:
        Weights [D, C] and biases [C].

    """
    inputs = np.column_stack([seen, np.ones(len(seen))])
    targets = np.eye(labels.max() + 1)[labels]
    shape = inputs.shape[1], targets.shape[1]
    penalty = np.full((shape[0], 1), PENALTY)
    penalty[-1] = 0

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        parameters = flat.reshape(shape)
        logs = log_softmax(inputs @ parameters, axis=1)
        gradient = inputs.T @ (np.exp(logs) - targets) + penalty * parameters
        return -(logs * targets).sum() + (penalty * parameters**2).sum() / 2, gradient.ravel()

    options: dict[str, Any] = {"maxiter": STEPS, "ftol": 1e-12, "gtol": 1e-6}
    fitted = minimize(loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options=options).x.reshape(shape)
    return fitted[:-1], fitted[-1]
