"""Files, images, seeds: Dassl's names for what is mostly done in `saratrx`."""

import json
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image
from yacs.config import CfgNode

from saratrx import files
from saratrx.errors import InputError, first_line
from saratrx.reading import AS_DEFAULT, Reading
from saratrx.reporting import get_logger
from saratrx.seeds import seed_all

log = get_logger(__name__)


def mkdir_if_missing(dirname: str | Path) -> None:
    """Make a folder and those above it.

    Raises:
        InputError: if that cannot be.

    """
    try:
        Path(dirname).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{dirname} cannot be made: {first_line(error)}; choose another folder") from error


def check_isfile(fpath: str | Path) -> bool:
    """Tell whether a file exists; print its name if not."""
    found = files.is_file(fpath)
    if not found:
        log.info('no file at "%s"', fpath)
    return found


def listdir_nohidden(path: str | Path, sort: bool = True) -> list[str]:
    """List a folder but for hidden names, sorted whatever `sort` is: the order must not differ between machines."""
    return files.visible(os.listdir(path))


def read_json(fpath: str | Path) -> Any:
    """Read a JSON file, UTF-8 with or without a byte order mark.

    Raises:
        InputError: if it is missing or no JSON.

    """
    try:
        return json.loads(Path(fpath).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{fpath} cannot be read as JSON: {first_line(error)}") from error


def write_json(obj: Any, fpath: str | Path) -> None:
    """Write a JSON file in one step, making its folder.

    Raises:
        InputError: if it cannot be written.

    """
    mkdir_if_missing(Path(fpath).parent)
    with files.refused_if_unwritable(fpath):
        files.write_json(fpath, obj, indent=1)


def reading_of(cfg: CfgNode) -> Reading:
    """Give what a config says in INPUT.REMAP and INPUT.CHANNEL; one written for Dassl has neither."""
    return Reading(cfg.INPUT.get("REMAP", AS_DEFAULT.remap), cfg.INPUT.get("CHANNEL") or None)


def read_image(path: str | Path, reading: Reading = AS_DEFAULT) -> Image.Image:
    """Read any image file that `saratrx.sar_image` reads, as an 8-bit grey Pillow image; raises ImageError."""
    return Image.fromarray(reading.read(path))


def set_random_seed(seed: int) -> None:
    """Seed Python, NumPy and PyTorch, on all devices."""
    seed_all(seed)


def collect_env_info() -> str:
    """Give versions and device, in one line."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {os.cpu_count()} threads"
    return (
        f"Python {platform.python_version()}, torch {torch.__version__}, torchvision {torchvision.__version__}, "
        f"NumPy {np.__version__}, {platform.platform()}, {device}"
    )


def count_num_param(model: torch.nn.Module | None = None, params: Any = None) -> int:
    """Count the parameters of a model, or among parameters (or dicts with "params", as optimizers take them)."""
    if model is not None:
        return sum(parameter.numel() for parameter in model.parameters())
    if params is None:
        raise ValueError("count_num_param needs a model or parameters")
    lists = (item["params"] if isinstance(item, dict) else [item] for item in params)
    return sum(parameter.numel() for group in lists for parameter in group)


def tolist_if_not(x: Any) -> list[Any]:
    """Give a list as it is, and anything else as the one item of a list."""
    return x if isinstance(x, list) else [x]
