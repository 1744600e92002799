"""What a figure was measured on."""

import platform
from pathlib import Path

import torch


def describe(device: torch.device) -> str:
    """The chip, the CPU threads that PyTorch uses, and PyTorch's version."""
    chip = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return f"{chip}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def processor() -> str:
    """Name of the CPU."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
