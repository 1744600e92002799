"""Encoders of timm, by their names or from a folder, under the protocol of our own. Nothing is downloaded."""

import json
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn
from yacs.config import CfgNode

from dassl.modeling import BACKBONE_REGISTRY
from hivit_cls.config_values import FOLDER, FOLDER_FILES
from hivit_cls.pooling import WIDTHS, pool_tokens
from saratrx.checkpoint import LoadReport, load_all, load_checkpoint
from saratrx.errors import InputError, first_line
from saratrx.files import content_hash
from saratrx.reporting import get_logger

log = get_logger(__name__)

OURS = ("num_classes",)  # of a folder's model_args: set here
REFUSED = ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir", "features_only")


class TimmEncoder(nn.Module):
    """A model of timm that gives one feature for an image.

    Args:
        model: made with num_classes=0.
        name: of the model, for errors.
        pooling: of the patch tokens, see `pool_tokens`, or "cls", the class token.
        mean: of the images that it was trained on, for each channel.
        std: likewise.

    Raises:
        InputError: for "cls" where there is no class token, and for means of other channels.

    """

    def __init__(self, model: Any, name: str, pooling: str, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.model, self.name, self.pooling = model, name, pooling
        has_class_token = getattr(model, "cls_token", None) is not None
        if pooling == "cls" and not has_class_token:
            raise InputError(f"MODEL.POOLING cls: {name} has no class token; choose mean")
        self.prefix_tokens: int = getattr(model, "num_prefix_tokens", int(has_class_token))
        self.out_features: int = model.num_features * WIDTHS[pooling]
        self.normalisation = {"mean": mean, "std": std}
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def pool(self, images: torch.Tensor) -> torch.Tensor:
        """Images [B, 1 or 3, H, W], amplitude in [0, 1] -> features [B, D].

        Raises:
            InputError: if the model takes no such images, or gives neither tokens nor a map.

        """
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        images = (images.expand(-1, len(mean), -1, -1) - mean) / std
        try:
            found = self.model.forward_features(images)
        except (AssertionError, RuntimeError, ValueError) as error:
            size = tuple(images.shape[-2:])
            raise InputError(f"{self.name} cannot take images of INPUT.SIZE {size}: {first_line(error)}") from error
        if not isinstance(found, torch.Tensor) or found.ndim not in (3, 4):
            raise InputError(f"{self.name} gives neither tokens nor a map of features: choose another encoder")
        if found.ndim == 3:
            return found[:, 0] if self.pooling == "cls" else pool_tokens(found[:, self.prefix_tokens :], self.pooling)
        is_channels_last = getattr(self.model, "output_fmt", "NCHW") == "NHWC"
        return pool_tokens(found.flatten(1, 2) if is_channels_last else found.flatten(2).mT, self.pooling)


def refuse_unknown(name: str) -> None:
    """Raise an InputError, with names like it, if there is no encoder of a name."""
    if name in BACKBONE_REGISTRY.objects or name.startswith(FOLDER) or timm.is_model(name):
        return
    close = get_close_matches(name, [*BACKBONE_REGISTRY.objects, *timm.list_models()], n=3, cutoff=0.5)
    near = f", such as {' or '.join(close)}" if close else ""
    raise InputError(
        f'MODEL.BACKBONE.NAME "{name[:100]}": unknown; choose one of {", ".join(BACKBONE_REGISTRY.objects)}, a '
        f"model of timm{near}, or local-dir:<folder>; nothing is downloaded"
    )


def folder_of(name: str) -> Path:
    """Give the folder that `local-dir:<folder>` names."""
    return Path(name.removeprefix(FOLDER)).expanduser()


def folder_id(name: str) -> str:
    """Give the hashes of the files in a folder that decide an encoder.

    Raises:
        InputError: if one cannot be read.

    """
    return " ".join(content_hash(folder_of(name) / file) for file in FOLDER_FILES)


def read_config(path: Path) -> dict[str, Any]:
    """Read the config.json of a folder in timm's layout.

    Raises:
        InputError: if it is damaged, or is not one of a model that timm has.

    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {first_line(error)}; give timm's config of a model") from error
    architecture = content.get("architecture") if isinstance(content, dict) else None
    if not isinstance(architecture, str) or not timm.is_model(architecture):
        raise InputError(f"{path} names no architecture that timm has ({str(architecture)[:60]}); give timm's config")
    parts = {key: content.get(key) or {} for key in ("model_args", "pretrained_cfg")}
    for key, value in parts.items():
        if not isinstance(value, dict):
            raise InputError(f"{path}: {key} must be an object, not {str(value)[:60]}")
    refused = [key for key in parts["model_args"] if key in REFUSED]
    if refused:
        raise InputError(f"{path}: model_args must not hold {refused[0]}; leave it out")
    return {"architecture": architecture, **parts}


def build_timm_encoder(cfg: CfgNode) -> TimmEncoder:
    """Make the encoder that MODEL.BACKBONE.NAME takes from timm or from a folder, with its weights.

    Raises:
        InputError: for a model, an input size, a pooling or weights that do not fit.

    """
    name: str = cfg.MODEL.BACKBONE.NAME
    config: dict[str, Any] = {"architecture": name, "model_args": {}, "pretrained_cfg": {}}
    weights = cfg.MODEL.INIT_WEIGHTS
    if name.startswith(FOLDER):
        config_file, weights = (folder_of(name) / file for file in FOLDER_FILES)
        config = read_config(config_file)
    arguments = {key: value for key, value in config["model_args"].items() if key not in OURS}
    try:
        model = timm.create_model(config["architecture"], pretrained=False, **arguments, num_classes=0)
    except Exception as error:  # whatever the model makes of the arguments
        raise InputError(f'MODEL.BACKBONE.NAME "{name}": timm cannot make it: {first_line(error)}') from error
    known = model.pretrained_cfg | config["pretrained_cfg"]
    if weights:
        load_weights(model, weights, known.get("classifier") or ())
    fit_input(model, name, tuple(cfg.INPUT.SIZE), known)
    mean, std = (channels(known.get(key), key, name) for key in ("mean", "std"))
    if len(mean) != len(std) or len(mean) != config["model_args"].get("in_chans", 3):
        raise InputError(f'MODEL.BACKBONE.NAME "{name}": its mean {mean} and std {std} are not of the images it takes')
    return TimmEncoder(model, name, cfg.MODEL.POOLING, mean, std)


def channels(values: Any, key: str, name: str) -> list[float]:
    """Read a mean or deviation for each channel.

    Raises:
        InputError: if it is none.

    """
    is_list = isinstance(values, list | tuple) and all(isinstance(value, int | float) for value in values)
    if not is_list or not values or (key == "std" and min(values) <= 0):
        raise InputError(f'MODEL.BACKBONE.NAME "{name}": its {key}, {str(values)[:60]}, must be a list of numbers')
    return [float(value) for value in values]


def fit_input(model: Any, name: str, size: tuple[int, ...], known: Mapping[str, Any]) -> None:
    """Bring a model to the size of the input: its position embeddings are resized, as timm does it.

    Raises:
        InputError: if it has one size alone.

    """
    own = tuple(known["input_size"][1:])
    try:
        if hasattr(model, "set_input_size"):
            model.set_input_size(img_size=size)
        elif known.get("fixed_input_size") and size != own:
            raise ValueError(f"it takes {own} alone")
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"INPUT.SIZE {size}: does not fit {name}: {first_line(error)}") from error


def load_weights(model: nn.Module, path: str | Path, classifier: str | tuple[str, ...] | list[str] = ()) -> None:
    """Load weights into a model, all of them but a classifier's, and report what was done.

    Args:
        model: gets the weights.
        path: a safetensors file, or one of torch.save.
        classifier: names of layers that the model is without, and the file may have.

    Raises:
        CheckpointError: naming the keys, if one is missing, surplus or of another shape.

    """
    own = model.state_dict()
    beginnings = tuple(f"{layer}." for layer in ([classifier] if isinstance(classifier, str) else classifier))
    found = load_checkpoint(path)["model"]
    kept = {key: value for key, value in found.items() if key in own or not key.startswith(beginnings)}
    load_all(model, kept, path)
    log.info("%s", LoadReport(Path(path), loaded=list(kept), ignored=[key for key in found if key not in kept]))
