"""What a figure was measured on."""

import platform
import re
from pathlib import Path

import torch


def describe(device: torch.device) -> str:
    """Name the chip, the CPU threads that PyTorch uses, and PyTorch's version."""
    chip = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return f"{chip}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def processor() -> str:
    """Name of the CPU."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def peak_gb() -> float:
    """Measure the largest memory that this process has held, in GB.

    Not by getrusage, which a process inherits from the one that started it.
    """
    held = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    return int(held[1]) * 1024 / 1e9 if held else float("nan")
