"""Weights of whole detectors, read without running anything that a file may contain."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import nn

from hivit_det.safe_loading import ALLOWED, without_configs
from saratrx.checkpoint import CheckpointError, LoadReport, load_all, load_checkpoint, refuse_nonfinite
from saratrx.errors import InputError, first_line
from saratrx.reporting import get_logger
from saratrx.tuning import fitted

log = get_logger(__name__)

COUNTS = ("num_classes", "num_things_classes")  # of classes, in the config of a head


def read_detector(path: str | Path) -> dict[str, Any]:
    """Read what tools/train.py saved in a file: the weights under `model`, and what MMEngine keeps beside them.

    Raises:
        CheckpointError: for a file that is missing, torn, without weights, or that could run code.

    """
    return without_configs(load_checkpoint(path, allowed=ALLOWED))


def bare(model: nn.Module) -> nn.Module:
    """Give the detector inside of what distributes it or tests it flipped."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = cast(nn.Module, model.module)
    return model


def load_detector(
    model: nn.Module, path: str | Path, classes: Sequence[str] = (), reading: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Load all weights of a detector, and say so if it was trained on other classes, or images read in another way.

    Args:
        model: gets the weights.
        path: of a checkpoint.
        classes: of the data that it is for, in the order of its labels.
        reading: `remap` and `channel` of the images that it is for.

    Returns:
        What its training cost, see `hivit_det.costs`; empty if the checkpoint does not say.

    Raises:
        CheckpointError: if the file cannot be read, or is of another detector.

    """
    content = read_detector(path)
    load_all(model, fitted(content["model"], model.state_dict()), path)
    trained_for = classes_of(content)
    if trained_for and classes and list(trained_for) != list(classes):
        names = map(", ".join, (trained_for, classes))
        log.warning("%s was trained for %s, and the config calls them %s", path, *names)
    trained_on = about_data(content).get("reading")
    if trained_on and reading and list(trained_on) != list(reading.values()):
        ways = (
            " ".join(f"{name}={value}" for name, value in zip(reading, way, strict=False))
            for way in (trained_on, reading.values())
        )
        log.warning("%s was trained on images read with %s, and these are read with %s", path, *ways)
    log.info("weights from %s: all %d tensors of the detector", path, len(content["model"]))
    meta = content.get("meta")
    costs = meta.get("costs") if isinstance(meta, dict) else None
    return costs if isinstance(costs, dict) else {}


def is_detector(weights: dict[str, Any]) -> bool:
    """Whether weights are of a whole detector, not of an encoder alone."""
    return any(key.startswith("backbone.") for key in weights) and any(
        not key.startswith("backbone.") for key in weights
    )


def classes_of(content: dict[str, Any]) -> tuple[str, ...]:
    """Give the classes that a checkpoint says it was trained for, in the order of its labels; empty if it does not."""
    meta, about = content.get("meta"), about_data(content)
    older = meta.get("CLASSES") if isinstance(meta, dict) else None
    found = about.get("classes") or about.get("CLASSES") or older or ()
    if isinstance(found, str):  # how MMDetection 2 wrote a single one
        return (found,)
    return tuple(map(str, found)) if isinstance(found, list | tuple) else ()


def about_data(content: dict[str, Any]) -> dict[str, Any]:
    """Give what a checkpoint says of the data that it was trained on; empty if that is nothing."""
    meta = content.get("meta")
    about = meta.get("dataset_meta") if isinstance(meta, dict) else None
    return about if isinstance(about, dict) else {}


def start_from_detector(
    model: nn.Module, config: ConfigDict, content: dict[str, Any], path: str | Path, classes: Sequence[str]
) -> LoadReport:
    """Load a detector's weights into one for other classes, for fine-tuning; the layers of its classes stay new.

    Args:
        model: gets the weights.
        config: that it was built by.
        content: of `read_detector`.
        path: of the file, for what is said.
        classes: of `model`. Where the file's are the same in the same order, or it names none, all is loaded.

    Returns:
        What became of every key.

    Raises:
        CheckpointError: if anything but the layers of the classes does not fit. `model` is then untouched.

    """
    trained_for = classes_of(content)
    if not trained_for:
        log.warning("%s does not say for which classes it was trained; all of its layers are taken", path)
    own = model.state_dict()
    weights = fitted(content["model"], own)
    new = [] if trained_for in ((), tuple(classes)) else keys_of_classes(model, config)
    loaded = {key: value for key, value in weights.items() if key not in new}
    load_all(model, loaded | {key: own[key] for key in new}, path)
    report = LoadReport(Path(path), list(loaded), new, [key for key in weights if key in new])
    log.info("%s", report)
    layers = sorted({key.rpartition(".")[0] for key in new})
    log.info("left new, to be learnt: %s", ", ".join(layers) or "nothing")
    return report


def keys_of_classes(model: nn.Module, config: ConfigDict) -> list[str]:
    """List the keys of a detector whose shapes follow from the number of its classes, whatever its heads are called.

    Raises:
        CheckpointError: if a like detector for one class more cannot be built.

    """
    try:
        other = MODELS.build(with_one_more(config)).state_dict()
    except Exception as error:  # a head can have any demands
        raise CheckpointError(
            f"which layers of this detector are of its classes cannot be told: with one class more it cannot be built "
            f"({first_line(error)}); start from an encoder"
        ) from error
    return [key for key, value in model.state_dict().items() if key not in other or other[key].shape != value.shape]


def with_one_more(part: Any) -> Any:
    """Copy a part of a config with one class more wherever it counts them."""
    if isinstance(part, dict):
        counts = {key: value + 1 for key, value in part.items() if key in COUNTS and isinstance(value, int)}
        return type(part)({key: with_one_more(value) for key, value in part.items()} | counts)
    return [with_one_more(each) for each in part] if isinstance(part, list | tuple) else part


def check_resumable(content: dict[str, Any], path: str | Path) -> None:
    """See that a checkpoint has the state of a training, not the weights alone, and that these are finite.

    Raises:
        InputError: if it lacks it, or they are not; or a note of the run is not what a run writes.

    """
    refuse_nonfinite(path, content["model"])
    meta = content.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    has_place = all(isinstance(meta.get(name), int) and 0 <= meta[name] < 2**31 for name in ("epoch", "iter"))
    lacking = [name for name in ("optimizer", "message_hub") if not isinstance(content.get(name), dict)]
    if lacking or not has_place:
        raise InputError(
            f"{path} has no training state ({', '.join(lacking) or 'meta.epoch'} is missing), so it cannot be resumed; "
            "to start a new training from its weights, give it as --init-weights"
        )
    wrong = wrong_notes(content["message_hub"])
    if wrong:
        raise InputError(f"{path} cannot be resumed: {wrong[0]}; take an earlier one")


def wrong_notes(hub: dict[str, Any]) -> list[str]:
    """Say which of a run's notes, from which a resumed one goes on, are of another kind than a run writes."""
    absent = [name for name in ("log_scalars", "runtime_info", "resumed_keys") if not isinstance(hub.get(name), dict)]
    if absent:
        return [f"its message_hub has no {absent[0]}"]
    kinds = {"best_score": int | float | np.number | torch.Tensor, "best_ckpt": str | None, "keep_ckpt_ids": list}
    return [
        f"its {name} is {str(value)[:30]!r}, a {type(value).__name__}"
        for name, value in hub["runtime_info"].items()
        for start, kind in kinds.items()
        if str(name).startswith(start) and not isinstance(value, kind)
    ]
