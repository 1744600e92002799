"""From options and config files to one config. Nothing here imports PyTorch, so that a mistake is told at once."""

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from dassl.config import get_cfg_default
from hivit_cls.config_values import refuse_bad_values
from hivit_cls.options import ConfigOptions
from hivit_cls.yaml_files import read_yaml
from saratrx.errors import InputError, first_line

BASE = "_BASE_"  # in a config file: the file, relative to it, that it differs from
NAMES = (  # lists of names, which are text whatever they look like
    "DATASET.CLASSES",
    "DATASET.PARTS",
    "DATASET.SOURCE_DOMAINS",
    "DATASET.TARGET_DOMAINS",
    "INPUT.TRANSFORMS",
    "OPTIM.NEW_LAYERS",
    "TRAINER.MIM_FINETUNE.LORA.TARGETS",
)
KINDS = {bool: "True or False", int: "a whole number", float: "a number", str: "text", list: "a list", tuple: "a list"}
NO_KEY = object()
Extension = Callable[[CfgNode], None]


def extended_defaults(extensions: Sequence[Extension] = ()) -> CfgNode:
    """Make a config of Dassl's defaults and the keys that this stage, and then each of the extensions, adds."""
    cfg = get_cfg_default()
    cfg.MODEL.RANDOM_INIT = False  # random weights, the same for every seed, instead of MODEL.INIT_WEIGHTS
    cfg.MODEL.PRECISION = "fp32"  # or bf16: of the encoder's arithmetic
    cfg.MODEL.POOLING = "mean"  # of the patch tokens; mean_std: their deviation too; cls: the class token, if any
    cfg.MODEL.MIRROR = False  # average a frozen encoder's features over an image and its mirror image
    cfg.INPUT.MIDDLE = 0  # side in pixels of the square that is cut from the middle, after the data set's own; 0: none
    cfg.INPUT.REMAP = "percentile"  # or another of saratrx.grey_scale.REMAPS: how more than 8 bits become grey
    cfg.INPUT.CHANNEL = ""  # of images with several: its name, its number from 0, or all of them as one: span, max
    cfg.FEATURE_BANK = True  # False: push the images through the encoder in every epoch
    cfg.FEATURE_BANK_DIR = ""  # default: feature_bank in OUTPUT_DIR, or in the folder of a whole table
    cfg.TRAINER.KNN = CfgNode({"K": 20, "TEMPERATURE": 0.07})
    cfg.TRAINER.MIM_FINETUNE = CfgNode({"LAYER_DECAY": 0.75, "DROP_PATH": 0.1, "LABEL_SMOOTHING": 0.1})
    cfg.TRAINER.MIM_FINETUNE.TUNE = "all"  # or head, or last_k (attention blocks), or lora; the head always
    cfg.TRAINER.MIM_FINETUNE.LAST_K = 1
    cfg.TRAINER.MIM_FINETUNE.LR_STEP = "epoch"  # or batch: what one step of the schedule is
    cfg.TRAINER.MIM_FINETUNE.LORA = CfgNode({"RANK": 8, "ALPHA": 16.0, "TARGETS": ["qkv", "proj", "mlp"]})
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"  # or base, the first half of them, or new, the second
    cfg.DATASET.DUPLICATES = "error"  # or drop, or warn: where a test image is a training image too
    cfg.DATASET.SPLIT_BY = "images"  # or groups, of near copies: for sets without a fixed split
    cfg.DATASET.MEASURED_SHARE = 0.0  # of SAMPLE's pairs for training, the rest simulated
    cfg.DATASET.FOLDER = ""  # the rest: of ImageFolders
    cfg.DATASET.PARTS = ["TRAIN", "TEST"]
    cfg.DATASET.CLASSES = []
    cfg.DATASET.TRAIN_SHARE = 0.1
    cfg.DATASET.CENTRE_CROP = 0
    for extend in extensions:
        extend(cfg)
    return cfg


def setup_cfg(options: ConfigOptions, tested_run: str = "", extensions: Sequence[Extension] = ()) -> CfgNode:
    """Make the config: defaults, then the data set's file, the trainer's file, the options, KEY VALUE pairs.

    Args:
        options: what the command line says.
        tested_run: output folder of a run, whose settings.yaml comes before all of these but the defaults.
        extensions: add keys of their own to the defaults.

    Raises:
        InputError: for a file that cannot be read, a key that does not exist, or a value that cannot be.

    """
    cfg = extended_defaults(extensions)
    settings = Path(tested_run, "settings.yaml")
    if tested_run and settings.is_file():
        merge_settings(cfg, settings)
    for path in (options.dataset_config_file, options.config_file):
        if path:
            merge_file(cfg, Path(path))
    for key, value in options.pairs():
        set_key(cfg, key, value)
    refuse_bad_values(cfg)
    return cfg


def merge_settings(cfg: CfgNode, path: Path) -> None:
    """Set what the settings.yaml of a run says, but for what is not of this config (the hash of its weights)."""
    try:
        found = read_yaml(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {first_line(error)}") from error
    for key, value in found.items():
        if current(cfg, key) is not NO_KEY:
            set_key(cfg, key, value, where=f"{path}: ")


def merge_file(cfg: CfgNode, path: Path, above: Sequence[Path] = ()) -> None:
    """Set what a config file says, and before that what the file says that it names as its `_BASE_`.

    Args:
        cfg: to be changed.
        path: a YAML file; or a Python file as yacs reads it, which is run.
        above: files of which this one is the base.

    Raises:
        InputError: for a file that cannot be read, is its own base, or has a key or value that does not fit.

    """
    if path.resolve() in [file.resolve() for file in above]:
        raise InputError(f"{path}: {BASE} goes round in a circle: {' > '.join(map(str, [*above, path]))}")
    if path.suffix == ".py":
        merge_python_file(cfg, path)
        return
    try:
        content = read_yaml(path, lambda keys: is_text(cfg, ".".join(keys)))
    except OSError as error:
        remedy = f"{above[-1]} names it as its {BASE}" if above else "name a config file"
        raise InputError(f"{path} cannot be read: {first_line(error)}; {remedy}") from error
    base = content.pop(BASE, None)
    if base is not None:
        merge_file(cfg, path.parent / str(base), [*above, path])
    for key, value in leaves(content):
        set_key(cfg, key, value, where=f"{path}: ")


def merge_python_file(cfg: CfgNode, path: Path) -> None:
    """Run a config file in Python and set what it says, as yacs does."""
    try:
        cfg.merge_from_file(str(path))
    except Exception as error:  # whatever the file raises
        raise InputError(f"{path}: {first_line(error)}") from error


def leaves(content: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Give all values below a dict with their keys in full, such as OPTIM.LR; sections that are empty are left out."""
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        elif value is not None:
            yield prefix + str(key), value


def current(cfg: CfgNode, key: str) -> Any:
    """Give the value of a key in full; `NO_KEY` if there is none."""
    found: Any = cfg
    for part in key.split("."):
        found = found.get(part, NO_KEY) if isinstance(found, CfgNode) else NO_KEY
    return found


def is_text(cfg: CfgNode, key: str) -> bool:
    """Tell whether a key holds text or names, which are taken as they are written."""
    return key in NAMES or key == BASE or isinstance(current(cfg, key), str)


def set_key(cfg: CfgNode, key: str, value: Any, where: str = "") -> None:
    """Set one key; a value in text is read as Python's literal is, unless the key holds text.

    Args:
        cfg: to be changed.
        key: in full.
        value: of the key's type, or in text.
        where: begins the sentence of an error.

    Raises:
        InputError: for a key that does not exist, or a value of another type.

    """
    default = current(cfg, key)
    if default is NO_KEY:
        known = [name for name, _ in leaves(cfg)]
        close = get_close_matches(key, known, n=3, cutoff=0.5)
        raise InputError(f"{where}{key}: no such key" + (f"; did you mean {' or '.join(close)}?" if close else ""))
    if isinstance(default, CfgNode):
        names = ", ".join(f"{key}.{name}" for name in list(default)[:3])
        raise InputError(f"{where}{key} {value}: holds keys of its own, such as {names}")
    if key in NAMES:
        value = names_of(value)
    elif isinstance(default, str):
        value = repr(value) if isinstance(value, str) else value  # yacs takes it for a literal
    elif isinstance(default, float):
        value = as_float(value)
    try:
        cfg.merge_from_list([key, value])
        if current(cfg, key) is None is not default:  # yacs takes that for any value
            raise ValueError("no value")
    except (KeyError, ValueError, AttributeError, AssertionError, SyntaxError, RecursionError, MemoryError) as error:
        kind = next((text for type_, text in KINDS.items() if isinstance(default, type_)), type(default).__name__)
        is_literal = isinstance(default, str) and isinstance(value, str)
        shown = ast.literal_eval(value) if is_literal else value  # made above, by repr
        raise InputError(f"{where}{key} {str(shown)[:60]}: must be {kind}, such as {default!r}") from error


def names_of(value: Any) -> Any:
    """Read a list of names from text such as "[0, on, a]", all as they are written; leave anything else alone."""
    if not isinstance(value, str):
        return list(value) if isinstance(value, tuple) else value
    text = value.strip()
    text = f"[{text[1:-1].rstrip(', ')}]" if text.startswith("(") and text.endswith(")") else text
    try:
        node = yaml.compose(text, yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError):
        return value
    parts = node.value if isinstance(node, yaml.SequenceNode) else []
    is_list = isinstance(node, yaml.SequenceNode) and all(isinstance(part, yaml.ScalarNode) for part in parts)
    return [str(part.value) for part in parts] if is_list else value


def as_float(value: Any) -> Any:
    """Give a whole number, or a number in text, as float; leave anything else alone."""
    try:
        return value if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return value
