"""Accuracy, error rate and F1 of a classifier: printed as the block that is known from Dassl's logs, and as data."""

import io
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score
from yacs.config import CfgNode

from dassl.evaluation.build import EVALUATOR_REGISTRY
from saratrx.files import refused_if_unwritable, write_bytes
from saratrx.reporting import get_logger

log = get_logger(__name__)
Labels = NDArray[np.int64]


class EvaluatorBase:
    """What an evaluator written for Dassl inherits.

    Args:
        cfg: the config.

    """

    def __init__(self, cfg: CfgNode) -> None:
        self.cfg = cfg

    def reset(self) -> None:
        """Forget all predictions."""
        raise NotImplementedError

    def process(self, mo: torch.Tensor, gt: torch.Tensor) -> None:
        """Add the scores [B, C] and labels [B] of a batch."""
        raise NotImplementedError

    def evaluate(self) -> OrderedDict[str, float]:
        """Give what was found; the first is what decides which model is best."""
        raise NotImplementedError


@EVALUATOR_REGISTRY.register()
class Classification(EvaluatorBase):
    """Collects predictions batch by batch.

    Args:
        cfg: TEST says what else than the totals is wanted; OUTPUT_DIR is where it goes.
        lab2cname: name of each label, for the results per class.

    """

    def __init__(self, cfg: CfgNode, lab2cname: dict[int, str] | None = None, **kwargs: Any) -> None:
        super().__init__(cfg)
        self.lab2cname = lab2cname or {}
        self.reset()

    def reset(self) -> None:
        """Forget all predictions."""
        self.y_true: list[int] = []
        self.y_pred: list[int] = []

    def process(self, mo: torch.Tensor, gt: torch.Tensor) -> None:
        """Add the scores [B, C] and labels [B] of a batch."""
        self.y_true += gt.tolist()
        self.y_pred += mo.argmax(dim=1).tolist()

    def evaluate(self) -> OrderedDict[str, float]:
        """Print the result block; return accuracy, error_rate and macro_f1 in percent.

        F1 is averaged over the classes that occur among the true labels.
        """
        true, pred = np.array(self.y_true), np.array(self.y_pred)
        accuracy = 100 * float(accuracy_score(true, pred))
        macro_f1 = 100 * float(f1_score(true, pred, average="macro", labels=np.unique(true), zero_division=0))
        results = OrderedDict(accuracy=accuracy, error_rate=100 - accuracy, macro_f1=macro_f1)
        log.info(
            "=> result\n"
            f"* total: {len(true):,}\n"
            f"* correct: {int((true == pred).sum()):,}\n"
            f"* accuracy: {accuracy:.1f}%\n"
            f"* error: {results['error_rate']:.1f}%\n"
            f"* macro_f1: {macro_f1:.1f}%"
        )
        if self.cfg.TEST.PER_CLASS_RESULT:
            results["perclass_accuracy"] = self.show_classes(true, pred)
        if self.cfg.TEST.COMPUTE_CMAT:
            path = Path(self.cfg.OUTPUT_DIR, "cmat.pt")
            matrix = io.BytesIO()
            torch.save(torch.from_numpy(confusion_matrix(true, pred, normalize="true")), matrix)
            with refused_if_unwritable(path):
                write_bytes(path, matrix.getvalue())
            log.info("Confusion matrix saved to %s", path)
        return results

    def show_classes(self, true: Labels, pred: Labels) -> float:
        """Print each class's accuracy; return their mean in percent."""
        lines, accuracies = ["=> per-class result"], []
        for label in np.unique(true):
            hit = pred[true == label] == label
            accuracies.append(100 * hit.mean())
            lines.append(
                f"* class: {label} ({self.lab2cname.get(int(label), '')})\ttotal: {len(hit):,}\t"
                f"correct: {hit.sum():,}\tacc: {accuracies[-1]:.1f}%"
            )
        log.info("\n".join([*lines, f"* average: {np.mean(accuracies):.1f}%"]))
        return float(np.mean(accuracies))

    def counts(self) -> dict[str, Any]:
        """Count what was predicted, in plain values, as it goes into results.json.

        Returns:
            `images`: number of them. `classes`: for each label that has a name or occurs, its label and name, the
            numbers of its images (`total`) and of the `correct` ones, and its accuracy in percent (None without
            images). `confusion`: numbers of images by true (rows) and predicted class (columns), in this order.

        """
        labels = sorted({*self.lab2cname, *self.y_true, *self.y_pred})
        matrix = confusion_matrix(self.y_true, self.y_pred, labels=labels)
        classes = [
            {
                "label": label,
                "name": self.lab2cname.get(label, ""),
                "total": (total := int(row.sum())),
                "correct": (correct := int(row[place])),
                "accuracy": 100 * correct / total if total else None,
            }
            for place, (label, row) in enumerate(zip(labels, matrix, strict=True))
        ]
        return {"images": len(self.y_true), "classes": classes, "confusion": matrix.tolist()}
