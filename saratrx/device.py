"""The device that a program computes on."""

import torch

from saratrx.errors import InputError, first_line


def choose_device(name: str = "auto") -> torch.device:
    """Give the device called `name`: `auto` (CUDA if it is there, else the CPU), `cpu`, `cuda`, `cuda:1`, ...

    Raises:
        InputError: if there is no such device here.

    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"--device {name}: no such kind of device; use auto, cpu or cuda") from error
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            raise InputError(f"--device {name}: PyTorch sees no CUDA GPU here; use --device cpu or auto")
        if device.index is not None and device.index >= count:
            raise InputError(f"--device {name}: this machine has {count} GPUs, numbered from 0")
    elif device.type != "cpu":
        try:
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise InputError(f"--device {name}: {first_line(error)}") from error
    return device
