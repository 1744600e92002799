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
from hivit_cls.results import RESULTS, read_metric, read_results
from hivit_cls.yaml_files import read_yaml
from saratrx.errors import InputError
from saratrx.files import is_as_hashed, open_whole, refused_if_unwritable
from saratrx.reporting import get_logger

log = get_logger(__name__)

SETTINGS = "settings.yaml"
ADDED_SINCE = {  # keys younger than runs that may go on
    "DATASET.DUPLICATES": "error",
    "DATASET.SPLIT_BY": "images",
    "DATASET.MEASURED_SHARE": 0.0,
    "INPUT.CHANNEL": "",
    "INPUT.MIDDLE": 0,
    "INPUT.REMAP": "percentile",
    "MODEL.MIRROR": False,
    "MODEL.POOLING": "mean",
    "TRAINER.MIM_FINETUNE.TUNE": "all",
    "TRAINER.MIM_FINETUNE.LAST_K": 1,
    "TRAINER.MIM_FINETUNE.LR_STEP": "epoch",
    "TRAINER.MIM_FINETUNE.LORA.RANK": 8,
    "TRAINER.MIM_FINETUNE.LORA.ALPHA": 16.0,
    "TRAINER.MIM_FINETUNE.LORA.TARGETS": ["qkv", "proj", "mlp"],
}
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

    A run that has left neither result nor checkpoint is not in the way. Settings that are damaged do not stop a run
    that goes on; those of a finished one can still be told apart by the hash in its results.json.

    Raises:
        InputError: naming the keys that differ, or if the file cannot be written.

    """
    folder, own = Path(cfg.OUTPUT_DIR), deciding_settings(cfg)
    path = folder / SETTINGS
    if path.is_file() and holds_run(folder):
        found = read_settings(path)
        if found is not None:
            refuse_others(folder, found, own)
            return
        results = read_results(folder / RESULTS) or {}
        if results.get("settings", settings_hash(cfg)) != settings_hash(cfg):
            raise InputError(f"{folder} holds a run with other settings; choose another output folder")
        log.warning("%s is damaged: written anew, as if the run there had the settings of this one", path)
    write_settings(cfg)


def write_settings(cfg: CfgNode) -> None:
    """Write all that decides a result into the output folder, and where the encoder and the data lie.

    Raises:
        InputError: if it cannot be written.

    """
    folder, own = Path(cfg.OUTPUT_DIR), deciding_settings(cfg)
    path = folder / SETTINGS
    mkdir_if_missing(folder)
    places = {"MODEL.INIT_WEIGHTS": cfg.MODEL.INIT_WEIGHTS, "DATASET.ROOT": cfg.DATASET.ROOT}
    own |= {key: str(Path(place).expanduser().absolute()) for key, place in places.items() if place}
    with refused_if_unwritable(path), open_whole(path, with_hash=True) as file:
        file.write(yaml.safe_dump(own).encode("utf-8", "surrogatepass"))


def holds_run(folder: Path) -> bool:
    """Tell whether a run has left a result or a checkpoint in a folder."""
    return read_metric(folder) is not None or any(folder.glob("*/checkpoint"))


def read_settings(path: Path) -> dict[str, Any] | None:
    """Read a settings.yaml; None if it is damaged, or is not what the hash beside it says."""
    try:
        return read_yaml(path) if is_as_hashed(path) else None
    except (OSError, InputError):
        return None


def warn_of_others(cfg: CfgNode, directory: str) -> None:
    """Say where a test differs from the run in `directory` that trained the model which is tested."""
    found = read_settings(Path(directory, SETTINGS))
    if found:
        named = differences(found, deciding_settings(cfg))
        if named:
            log.warning("the model in %s was trained with other settings: %s", directory, named)


def refuse_other_weights(cfg: CfgNode, directory: str | Path) -> None:
    """Raise an InputError if the encoder of a config is not the one that the run in `directory` used."""
    found = read_settings(Path(directory, SETTINGS))
    if found is None:
        raise InputError(f"{directory}/{SETTINGS} is damaged: train again, or take another run")
    if found.get("weights") != encoder.weights_id(cfg):
        raise InputError(
            f"MODEL.INIT_WEIGHTS {cfg.MODEL.INIT_WEIGHTS}: is not the encoder that {directory} was trained on, whose "
            f"SHA-256 begins with {str(found.get('weights'))[:12]}"
        )


def refuse_others(folder: Path, found: dict[str, Any], own: dict[str, Any]) -> None:
    """Raise an InputError if the settings found in a folder are not a run's own."""
    named = differences(found, own)
    if named:
        raise InputError(f"{folder} holds a run with other settings: {named}; choose another output folder")


def differences(found: dict[str, Any], own: dict[str, Any]) -> str:
    """Name the first keys that two settings differ in, of those that decide a result; "" if they do not."""
    keys = [key for key in {**own, **found} if key not in WITHOUT_EFFECT or key in own]
    # a key that did not exist when the run was made had its default
    differing = [key for key in keys if found.get(key, ADDED_SINCE.get(key)) != own.get(key)]
    return ", ".join(f"{key} {found.get(key)} (now {own.get(key)})" for key in differing[:NAMED_AT_MOST])
