"""From options and config files to one config."""

import argparse
from pathlib import Path

import yaml
from yacs.config import CfgNode

import hivit_cls.datasets
import hivit_cls.trainers  # noqa: F401 -- registers them
from dassl.config import get_cfg_default
from dassl.data.transforms import is_random
from dassl.utils import mkdir_if_missing
from hivit_cls import encoder, feature_bank
from hivit_cls.datasets import image_folders
from hivit_cls.results import read_metric
from saratrx.errors import InputError

OPTION_KEYS = {  # options of train.py that stand for a key
    "root": "DATASET.ROOT",
    "output_dir": "OUTPUT_DIR",
    "resume": "RESUME",
    "seed": "SEED",
    "source_domains": "DATASET.SOURCE_DOMAINS",
    "target_domains": "DATASET.TARGET_DOMAINS",
    "transforms": "INPUT.TRANSFORMS",
    "trainer": "TRAINER.NAME",
    "backbone": "MODEL.BACKBONE.NAME",
    "head": "MODEL.HEAD.NAME",
}
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


def extended_defaults() -> CfgNode:
    """Dassl's defaults and the keys that this stage adds."""
    cfg = get_cfg_default()
    encoder.add_config(cfg)
    feature_bank.add_config(cfg)
    image_folders.add_config(cfg)
    cfg.TRAINER.KNN = CfgNode({"K": 20, "TEMPERATURE": 0.07})
    cfg.TRAINER.MIM_FINETUNE = CfgNode({"LAYER_DECAY": 0.75, "DROP_PATH": 0.1, "LABEL_SMOOTHING": 0.1})
    return cfg


def setup_cfg(args: argparse.Namespace) -> CfgNode:
    """The config of the options: defaults, then the data set's file, the trainer's file, the options, KEY VALUE pairs.

    Raises:
        InputError: for a file that cannot be read, a key that does not exist, or a value of another type.

    """
    cfg = extended_defaults()
    for path in (args.dataset_config_file, args.config_file):
        if path:
            merge_file(cfg, path)
    for option, key in OPTION_KEYS.items():
        value = getattr(args, option)
        if value is not None:
            merge_pairs(cfg, [key, value])
    if len(args.opts) % 2:
        raise InputError(f"{' '.join(args.opts)}: keys and values must come in pairs")
    merge_pairs(cfg, args.opts)
    return cfg


def merge_file(cfg: CfgNode, path: str) -> None:
    """Set what a YAML file says."""
    try:
        cfg.merge_from_file(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; name a config file") from error
    except (KeyError, ValueError, AttributeError, AssertionError, yaml.YAMLError) as error:
        raise InputError(f"{path}: {reason(error)}") from error


def merge_pairs(cfg: CfgNode, pairs: list) -> None:
    """Set keys to values."""
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        try:
            cfg.merge_from_list([key, value])
        except (KeyError, ValueError, AttributeError, AssertionError, SyntaxError) as error:
            raise InputError(f"{key} {value}: {reason(error)}") from error


def reason(error: Exception) -> str:
    """An error of yacs or YAML in one line."""
    return " ".join(str(error.args[0] if error.args else error).split())


def flatten(cfg: CfgNode, prefix: str = "") -> dict[str, object]:
    """All keys in full with their values."""
    flat = {}
    for key, value in cfg.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def settings(cfg: CfgNode) -> dict[str, object]:
    """All that decides the result of a run, as plain values."""
    flat = {key: value for key, value in flatten(cfg).items() if key not in WITHOUT_EFFECT}
    if is_random(cfg):
        flat["DATALOADER.NUM_WORKERS"] = cfg.DATALOADER.NUM_WORKERS
    flat = {key: list(value) if isinstance(value, tuple) else value for key, value in flat.items()}
    return flat | {"weights": encoder.weights_id(cfg) if cfg.MODEL.INIT_WEIGHTS else "random"}


def check_settings(cfg: CfgNode) -> None:
    """Write the settings of a run into its folder, settings.yaml; refuse to go on with a run of others.

    A run that has left neither result nor checkpoint is not in the way.

    Raises:
        InputError: naming the keys that differ.

    """
    folder, own = Path(cfg.OUTPUT_DIR), settings(cfg)
    path = folder / "settings.yaml"
    holds_run = read_metric(folder / "log.txt") is not None or any(folder.glob("*/checkpoint"))
    if not path.is_file() or not holds_run:
        mkdir_if_missing(folder)
        path.write_text(yaml.safe_dump(own), encoding="utf-8")
        return
    found = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    differing = [key for key in {**own, **found} if own.get(key) != found.get(key)]
    if differing:
        named = ", ".join(f"{key} {found.get(key)} (now {own.get(key)})" for key in differing[:4])
        raise InputError(f"{folder} holds a run with other settings: {named}; choose another output folder")
