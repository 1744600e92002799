"""The settings of a run, settings.yaml in its folder, and that runs of different ones are not mixed."""

import hashlib
import json
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from dassl.data.transforms import is_random
from dassl.utils import mkdir_if_missing
from hivit_cls import encoder
from hivit_cls.results import read_metric
from saratrx.errors import InputError, first_line
from saratrx.files import refused_if_unwritable, write_text

NAMED_AT_MOST = 4  # differing keys that an error names
# Keys that may differ where a run is continued or its result is taken as it is
WITHOUT_EFFECT = (
    "OUTPUT_DIR",
    "RESUME",
    "VERBOSE",
    "USE_CUDA",
    "FEATURE_BANK",
    "FEATURE_BANK_DIR",
    "DATASET.ROOT",
    "DATALOADER.NUM_WORKERS",  # but with augmentation, since each worker has its own random numbers
    "MODEL.INIT_WEIGHTS",  # its content counts, not its name
    "TRAIN.PRINT_FREQ",
    "TRAIN.CHECKPOINT_FREQ",
)


def flatten(cfg: CfgNode, prefix: str = "") -> dict[str, Any]:
    """Give all keys in full, such as OPTIM.LR, with their values."""
    flat: dict[str, Any] = {}
    for key, value in cfg.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def deciding_settings(cfg: CfgNode) -> dict[str, Any]:
    """Give all that decides the result of a run, as plain values.

    Raises:
        InputError: if the checkpoint cannot be read.

    """
    flat = {key: value for key, value in flatten(cfg).items() if key not in WITHOUT_EFFECT}
    if is_random(cfg):
        flat["DATALOADER.NUM_WORKERS"] = cfg.DATALOADER.NUM_WORKERS
    flat = {key: list(value) if isinstance(value, tuple) else value for key, value in flat.items()}
    return flat | {"weights": encoder.weights_id(cfg)}


def settings_hash(cfg: CfgNode) -> str:
    """Give the SHA-256 of the deciding settings, as 64 hexadecimal digits.

    Raises:
        InputError: if the checkpoint cannot be read.

    """
    text = json.dumps(deciding_settings(cfg), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def claim_folder(cfg: CfgNode) -> None:
    """Write the settings of a run into its output folder, or make sure that the run in it has the same.

    A run that has left neither result nor checkpoint is not in the way.

    Raises:
        InputError: naming the keys that differ, or if the file cannot be read or written.

    """
    folder, own = Path(cfg.OUTPUT_DIR), deciding_settings(cfg)
    path = folder / "settings.yaml"
    if path.is_file() and holds_run(folder):
        refuse_others(folder, read_settings(path), own)
        return
    mkdir_if_missing(folder)
    with refused_if_unwritable(path):
        write_text(path, yaml.safe_dump(own))


def holds_run(folder: Path) -> bool:
    """Tell whether a run has left a result or a checkpoint in a folder."""
    return read_metric(folder) is not None or any(folder.glob("*/checkpoint"))


def read_settings(path: Path) -> dict[str, Any]:
    """Read a settings.yaml.

    Raises:
        InputError: if it is damaged.

    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        return dict(found)
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        raise InputError(
            f"{path} cannot be read: {first_line(error)}; remove it if the run in its folder has the same settings"
        ) from error


def refuse_others(folder: Path, found: dict[str, Any], own: dict[str, Any]) -> None:
    """Raise an InputError if the settings found in a folder are not a run's own."""
    differing = [key for key in {**own, **found} if own.get(key) != found.get(key)]
    if differing:
        named = ", ".join(f"{key} {found.get(key)} (now {own.get(key)})" for key in differing[:NAMED_AT_MOST])
        raise InputError(f"{folder} holds a run with other settings: {named}; choose another output folder")
