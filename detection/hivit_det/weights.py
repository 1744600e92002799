"""Weights of whole detectors, read without running anything that a file may contain."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import nn

from hivit_det.safe_loading import ALLOWED, without_configs
from saratrx.checkpoint import CheckpointError, LoadReport, load_all, load_checkpoint, raise_if_any
from saratrx.errors import InputError
from saratrx.reporting import get_logger

log = get_logger(__name__)

# Of a head: the layers that have an output per class. RPN tells targets from background alone.
OF_CLASSES = re.compile(r"(?!rpn_head\.).*head.*[._](fc_cls|fc_reg|\w+_cls|cls_branches\.\d+)\.(weight|bias)")
HEAD = re.compile(r"(?!rpn_head\.)(\w+\.)*\w*head\b.*")
SIZES = {384: "hivit_tiny", 512: "hivit_base"}  # width of the encoder -> how configs of that size are called


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


def load_detector(model: nn.Module, path: str | Path, classes: Sequence[str] = ()) -> None:
    """Load all weights of a detector, and say so if it was trained for other classes, or in another order.

    Raises:
        CheckpointError: if the file cannot be read, or is of another detector.

    """
    content = read_detector(path)
    load_whole(model, content["model"], path)
    trained_for = classes_of(content)
    if trained_for and classes and list(trained_for) != list(classes):
        names = map(", ".join, (trained_for, classes))
        log.warning("%s was trained for %s, and the config calls them %s", path, *names)
    log.info("weights from %s: all %d tensors of the detector", path, len(content["model"]))


def load_whole(model: nn.Module, weights: dict[str, Any], path: str | Path) -> None:
    """Load weights into the very detector that they were saved from; of an encoder of another size, say which it is.

    Raises:
        CheckpointError: naming the keys or the size.

    """
    refuse_other_size(model, weights, path)
    load_all(model, weights, path)


def refuse_other_size(model: nn.Module, weights: dict[str, Any], path: str | Path) -> None:
    """Compare the width of a file's encoder with the model's.

    Raises:
        CheckpointError: if they differ.

    """
    key = "backbone.absolute_pos_embed"
    own = dict(model.named_parameters()).get(key)
    found = weights.get(key, weights.get("absolute_pos_embed"))
    if own is None or found is None or own.shape[-1] == found.shape[-1]:
        return
    sizes = [f"{SIZES.get(value.shape[-1], 'an encoder')} ({value.shape[-1]} wide)" for value in (found, own)]
    fitting = SIZES.get(found.shape[-1])
    remedy = f"give a config called {fitting}_*.py" if fitting else "give the config that it was trained with"
    raise CheckpointError(f"{path} does not fit this model: it is {sizes[0]}, and the config's is {sizes[1]}; {remedy}")


def is_detector(weights: dict[str, Any]) -> bool:
    """Whether weights are of a whole detector, not of an encoder alone."""
    return any(key.startswith("backbone.") for key in weights) and any(
        not key.startswith("backbone.") for key in weights
    )


def classes_of(content: dict[str, Any]) -> tuple[str, ...]:
    """Give the classes that a checkpoint says it was trained for, in the order of its labels; empty if it does not."""
    meta = content.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    about = meta.get("dataset_meta")
    about = about if isinstance(about, dict) else {}
    found = about.get("classes") or about.get("CLASSES") or meta.get("CLASSES") or ()
    return tuple(map(str, found)) if isinstance(found, list | tuple) else ()


def start_from_detector(
    model: nn.Module, content: dict[str, Any], path: str | Path, classes: Sequence[str]
) -> LoadReport:
    """Load a detector's weights into one for other classes, for fine-tuning; the layers of its classes stay new.

    Args:
        model: gets the weights.
        content: of `read_detector`.
        path: of the file, for what is said.
        classes: of `model`. Where the file's are the same in the same order, all is loaded.

    Returns:
        What became of every key.

    Raises:
        CheckpointError: if anything but the heads does not fit. `model` is then untouched.

    """
    weights, own = content["model"], model.state_dict()
    refuse_other_size(model, weights, path)
    is_same = classes_of(content) in ((), tuple(classes))
    report = LoadReport(Path(path))
    merged = dict(own)
    for key, current in own.items():
        value = weights.get(key)
        fits = value is not None and value.shape == current.shape
        if fits and (is_same or not OF_CLASSES.fullmatch(key)):
            merged[key] = value
            report.loaded.append(key)
        elif HEAD.fullmatch(key):
            report.new.append(key)
    report.ignored = [key for key in weights if key not in report.loaded and HEAD.fullmatch(key)]
    handled = {*report.loaded, *report.new, *report.ignored}
    rest = {key: value for key, value in weights.items() if key not in handled or key in report.loaded}
    load_all_of({key: value for key, value in own.items() if key not in report.new}, rest, path)
    model.load_state_dict(merged)
    log.info("%s", report)
    layers = sorted({key.rpartition(".")[0] for key in report.new})
    log.info("left new, to be learnt: %s", ", ".join(layers) or "nothing")
    return report


def load_all_of(own: dict[str, Any], weights: dict[str, Any], path: str | Path) -> None:
    """See that weights have the keys and shapes of `own`."""
    raise_if_any(
        path,
        missing=[key for key in own if key not in weights],
        mismatched=[
            f"{key} {list(weights[key].shape)} (the model's is {list(current.shape)})"
            for key, current in own.items()
            if key in weights and weights[key].shape != current.shape
        ],
        unexpected=[key for key in weights if key not in own],
    )


def check_resumable(content: dict[str, Any], path: str | Path) -> None:
    """See that a checkpoint has the state of a training, not the weights alone.

    Raises:
        InputError: if it lacks it.

    """
    meta = content.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    has_place = all(isinstance(meta.get(name), int) for name in ("epoch", "iter"))
    lacking = [name for name in ("optimizer", "message_hub") if not isinstance(content.get(name), dict)]
    if lacking or not has_place:
        raise InputError(
            f"{path} has no training state ({', '.join(lacking) or 'meta.epoch'} is missing), so it cannot be resumed; "
            "to start a new training from its weights, give it as --init-weights"
        )
