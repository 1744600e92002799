"""Files, images, seeds."""

import json
import os
import platform
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image

from saratrx import sar_image
from saratrx.errors import InputError


def mkdir_if_missing(dirname: str | Path) -> None:
    """Make a folder and those above it."""
    try:
        Path(dirname).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{dirname} cannot be made: {error.strerror}; choose another folder") from error


def check_isfile(fpath: str | Path) -> bool:
    """Whether a file exists; prints its name if not."""
    found = Path(fpath).is_file()
    if not found:
        print(f'no file at "{fpath}"')
    return found


def listdir_nohidden(path: str | Path, sort: bool = True) -> list[str]:
    """Names in a folder but hidden ones, sorted whatever `sort` is: the order must not differ between machines."""
    return sorted(name for name in os.listdir(path) if not name.startswith("."))


def read_json(fpath: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: if it is missing or no JSON.

    """
    try:
        return json.loads(Path(fpath).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{fpath} cannot be read as JSON: {error}") from error


def write_json(obj: Any, fpath: str | Path) -> None:
    """Write a JSON file, making its folder."""
    mkdir_if_missing(Path(fpath).parent)
    Path(fpath).write_text(json.dumps(obj, indent=1) + "\n", encoding="utf-8")


def read_image(path: str | Path) -> Image.Image:
    """Read any image file that `saratrx.sar_image` reads, as an 8-bit grey Pillow image."""
    return Image.fromarray(sar_image.read(path))


def set_random_seed(seed: int) -> None:
    """Seed Python, NumPy and PyTorch, on all devices."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def collect_env_info() -> str:
    """Versions and device, one line."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {os.cpu_count()} threads"
    return (
        f"Python {platform.python_version()}, torch {torch.__version__}, torchvision {torchvision.__version__}, "
        f"NumPy {np.__version__}, {platform.platform()}, {device}"
    )


def count_num_param(model: torch.nn.Module | None = None, params: Any = None) -> int:
    """Number of parameters of a model, or of parameters (or dicts with "params", as optimizers take them)."""
    if model is not None:
        return sum(parameter.numel() for parameter in model.parameters())
    if params is None:
        raise ValueError("count_num_param needs a model or parameters")
    lists = (item["params"] if isinstance(item, dict) else [item] for item in params)
    return sum(parameter.numel() for group in lists for parameter in group)
