"""What a test has measured, as a file that says what it was measured on, and with what."""

import math
from numbers import Real
from pathlib import Path
from typing import Any

import mmdet
import numpy as np
import torch
from mmengine.runner import Runner

import saratrx
from coco_annotations.run_options import RunOptions
from hivit_det.classes import CocoMetricByName
from hivit_det.loading import reading_of
from saratrx.files import content_hash, refused_if_unwritable, write_json

RESULTS = "results.json"


def write_results(
    runner: Runner, scores: dict[str, Any], options: RunOptions, checkpoint: Path, costs: dict[str, Any]
) -> Path:
    """Write `results.json` to the folder of a run.

    Args:
        runner: that has tested.
        scores: what its test gave: names and figures, rounded by MMDetection; COCO's are written in full precision.
        options: of the run.
        checkpoint: file of the weights.
        costs: of the training that made them; empty if they do not tell.

    Returns:
        The file.

    Raises:
        InputError: if it cannot be written.

    """
    dataset = runner.test_loop.dataloader.dataset
    figures = {name: number(value) for name, value in scores.items()}
    per_class: dict[str, dict[str, float | None]] = {}
    for metric in runner.test_loop.evaluator.metrics:
        if isinstance(metric, CocoMetricByName):
            figures |= {f"{metric.prefix}/bbox_{name}": value for name, value in metric.figures.items()}
            per_class |= metric.per_class
    content = {
        "figures": figures,
        "per_class": per_class,
        "classes": list(dataset.metainfo["classes"]),
        "config": str(options.config),
        "cfg_options": list(options.cfg_options),
        "checkpoint": {"path": str(checkpoint), "sha256": content_hash(checkpoint)},
        "training": {str(name): value if type(value) is int else number(value) for name, value in costs.items()},
        "data": {
            "annotations": annotations_of(dataset),
            "images": len(dataset),
            **reading_of(runner.cfg.test_dataloader),
        },
        "versions": {
            "saratrx": saratrx.__version__,
            "torch": torch.__version__,
            "mmdet": mmdet.__version__,
            "numpy": np.__version__,
        },
    }
    path = Path(runner.work_dir, RESULTS)
    with refused_if_unwritable(path):
        write_json(path, content, indent=2)
    return path


def annotations_of(dataset: Any) -> str:
    """Name the annotation files of a data set, in any wrappers."""
    inner = getattr(dataset, "datasets", None) or ([dataset.dataset] if hasattr(dataset, "dataset") else [])
    return ", ".join(map(annotations_of, inner)) or str(dataset.ann_file)


def number(value: Any) -> float | None:
    """Make a figure one that JSON knows: None if it is no number or not finite."""
    return float(value) if isinstance(value, Real) and math.isfinite(value) else None
