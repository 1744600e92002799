"""The device that a program computes on."""

import os
import resource
from pathlib import Path

import torch

from saratrx.errors import InputError, first_line

DRIVER = Path("/dev/nvidiactl")  # there where NVIDIA's driver runs, and passed into containers
GIVEN_BY_SLURM = ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS")  # their numbers, of which 0 is one
NO_GPU = ("", "-1", "NoDevFiles", "void")  # of CUDA_VISIBLE_DEVICES: this process shall have none


def choose_device(name: str = "auto") -> torch.device:
    """Give the device called `name`: `auto` (CUDA if it is there, else the CPU), `cpu`, `cuda`, `cuda:1`, ...

    Raises:
        InputError: if there is no such device here, or for `auto` if there is a GPU that PyTorch cannot use.

    """
    if name == "auto":
        name = "cuda" if has_cuda() else "cpu"
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
            torch.empty(1, device=device).cpu()
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise InputError(f"--device {name}: {first_line(error)}") from error
    return device


def has_cuda() -> bool:
    """Whether PyTorch can compute on a GPU here.

    Raises:
        InputError: if there is one that it cannot use, as with a driver that is too old: a training would go on for
            weeks on the CPU. CUDA_VISIBLE_DEVICES=-1 says that this is meant.

    """
    if torch.cuda.is_available():
        return True
    sign = sign_of_gpu()
    if sign:
        raise InputError(
            f"{sign} says that there is a GPU, and PyTorch cannot use it ({reason()}): mend the driver or install "
            "PyTorch for it, or set CUDA_VISIBLE_DEVICES=-1 to compute on the CPU"
        )
    return False


def fast_bf16() -> str | None:
    """Name the instructions by which this CPU multiplies matrices in bfloat16: AMX-BF16, AVX512-BF16; None if none."""
    names = {"amx_bf16": "AMX-BF16", "avx512_bf16": "AVX512-BF16"}  # the faster first
    capabilities = torch.cpu.get_capabilities()
    return next((said for name, said in names.items() if capabilities.get(name)), None)


def sign_of_gpu() -> str | None:
    """Name what says that this process should have a GPU; None if nothing does, or the user wants none."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return None if visible.strip() in NO_GPU else f"CUDA_VISIBLE_DEVICES={visible}"
    for name in GIVEN_BY_SLURM:
        if os.environ.get(name):
            return f"{name}={os.environ[name]}"
    return str(DRIVER) if DRIVER.exists() else None


def peak_memory(device: torch.device) -> float:
    """Measure the largest memory in use so far, in GB: the GPU's, or this process's on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes * 1024 / 1e9


def reason() -> str:
    """Say why PyTorch has no GPU."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return first_line(error).rstrip(".")
    return "it finds none"
