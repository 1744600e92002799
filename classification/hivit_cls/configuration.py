"""From options and config files to one config."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

import hivit_cls.datasets
import hivit_cls.trainers  # noqa: F401 -- registers them
from dassl.config import get_cfg_default
from hivit_cls import encoder, feature_bank
from hivit_cls.datasets import image_folders
from saratrx.command_line import option
from saratrx.errors import InputError, first_line

BASE = "_BASE_"  # in a config file: the file, relative to it, that it differs from


@dataclass(frozen=True)
class ConfigOptions:
    """The config."""

    root: str | None = option(None, help="folder that holds the data set's folder")
    output_dir: str | None = option(None, help="where results go")
    resume: str | None = option(None, help="output folder of a run to continue; its own is continued anyway")
    seed: int | None = option(None, help="of everything random, 0 included; negative: another one each time")
    source_domains: tuple[str, ...] | None = option(None, help="for data sets with several domains")
    target_domains: tuple[str, ...] | None = option(None, help="for data sets with several domains")
    transforms: tuple[str, ...] | None = option(None, help="augmentation")
    config_file: str = option("", help="config of the trainer")
    dataset_config_file: str = option("", help="config of the data set")
    trainer: str | None = option(None, help="its name")
    backbone: str | None = option(None, help="its name")
    head: str | None = option(None, help="its name")
    opts: tuple[str, ...] = option((), help="any key of the config", metavar="KEY VALUE", positional=True)

    def __post_init__(self) -> None:
        if len(self.opts) % 2:
            raise InputError(f"{' '.join(self.opts)}: keys and values must come in pairs")

    def pairs(self) -> list[tuple[str, Any]]:
        """List the keys that options set, with their values, in the order in which they are set."""
        named = [
            ("DATASET.ROOT", self.root),
            ("OUTPUT_DIR", self.output_dir),
            ("RESUME", self.resume),
            ("SEED", self.seed),
            ("DATASET.SOURCE_DOMAINS", self.source_domains),
            ("DATASET.TARGET_DOMAINS", self.target_domains),
            ("INPUT.TRANSFORMS", self.transforms),
            ("TRAINER.NAME", self.trainer),
            ("MODEL.BACKBONE.NAME", self.backbone),
            ("MODEL.HEAD.NAME", self.head),
        ]
        given = [(key, value) for key, value in named if value is not None]
        return given + list(zip(self.opts[::2], self.opts[1::2], strict=True))


def extended_defaults() -> CfgNode:
    """Make a config of Dassl's defaults and the keys that this stage adds."""
    cfg = get_cfg_default()
    encoder.add_config(cfg)
    feature_bank.add_config(cfg)
    image_folders.add_config(cfg)
    cfg.TRAINER.KNN = CfgNode({"K": 20, "TEMPERATURE": 0.07})
    cfg.TRAINER.MIM_FINETUNE = CfgNode({"LAYER_DECAY": 0.75, "DROP_PATH": 0.1, "LABEL_SMOOTHING": 0.1})
    return cfg


def setup_cfg(options: ConfigOptions) -> CfgNode:
    """Make the config: defaults, then the data set's file, the trainer's file, the options, KEY VALUE pairs.

    Raises:
        InputError: for a file that cannot be read, a key that does not exist, or a value of another type.

    """
    cfg = extended_defaults()
    for path in (options.dataset_config_file, options.config_file):
        if path:
            merge_file(cfg, Path(path))
    for key, value in options.pairs():
        try:
            cfg.merge_from_list([key, value])
        except (KeyError, ValueError, AttributeError, AssertionError, SyntaxError) as error:
            raise InputError(f"{key} {value}: {reason(error)}") from error
    return cfg


def merge_file(cfg: CfgNode, path: Path, above: Sequence[Path] = ()) -> None:
    """Set what a config file says, and before that what the file says that it names as its `_BASE_`.

    Args:
        cfg: to be changed.
        path: a YAML file, or one of the other kinds that yacs reads.
        above: files of which this one is the base.

    Raises:
        InputError: for a file that cannot be read, is its own base, or has a key or value that does not fit.

    """
    if path.resolve() in [file.resolve() for file in above]:
        raise InputError(f"{path}: {BASE} goes round in a circle: {' > '.join(map(str, [*above, path]))}")
    try:
        if path.suffix == ".py":
            cfg.merge_from_file(str(path))
            return
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        if not isinstance(content, dict):
            raise ValueError("no config: it must hold keys and values")
        base = content.pop(BASE, None)
        if base is not None:
            merge_file(cfg, path.parent / str(base), [*above, path])
        cfg.merge_from_other_cfg(CfgNode(content))
    except OSError as error:
        remedy = f"{above[-1]} names it as its {BASE}" if above else "name a config file"
        raise InputError(f"{path} cannot be read: {first_line(error)}; {remedy}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: no YAML, {' '.join(str(error).split())}") from error
    except (KeyError, ValueError, AttributeError, AssertionError) as error:
        raise InputError(f"{path}: {reason(error)}") from error


def reason(error: Exception) -> str:
    """Give the text of an error of yacs in one line; a KeyError's own would stand in quotes."""
    return " ".join(str(error.args[0] if error.args else error).split())
