"""What a figure was measured on, and the options that all benchmarks have."""

import argparse
import math
import platform
import re
from pathlib import Path

import torch

from saratrx.command_line import Parser
from saratrx.device import choose_device
from saratrx.errors import raise_problems
from saratrx.files import is_file, is_folder, try_writing

MAY_BE_ZERO = ("num_workers", "seed")
LARGEST = {"batch_size": 16_384, "input_size": 4096, "sizes": 65_536, "processes": 256, "num_workers": 256}
LARGEST_OTHER = 10**7


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


def parsed(parser: Parser) -> argparse.Namespace:
    """Read the command line, and see that it can be done: now, rather than after minutes.

    Raises:
        InputError: telling all mistakes: a number out of its range, a file or folder that is not there, no such device,
            or a file that cannot be written.
        SystemExit: with code 2, after one sentence on stderr, for words that are no option or value.

    """
    args = parser.parse_args()
    problems = []
    for name, value in vars(args).items():
        for part in value if isinstance(value, list | tuple) else [value]:
            if isinstance(part, int | float) and not isinstance(part, bool):
                low, high = 0 if name in MAY_BE_ZERO else 1, LARGEST.get(name, LARGEST_OTHER)
                is_right = low <= part <= high if isinstance(part, int) else math.isfinite(part) and part > 0
                if not is_right:
                    limits = f"from {low} to {high}" if isinstance(part, int) else "a positive number"
                    problems.append(f"--{name} {str(part)[:30]}: must be {limits}")
            elif name in ("config", "checkpoint") and not is_file(part):
                problems.append(f"{part}: no such file")
            elif isinstance(part, str | Path) and name in ("data", "data_path", "images") and not is_folder(part):
                problems.append(f"{part}: no such folder")
    if isinstance(size := getattr(args, "input_size", 16), int) and size % 16:
        problems.append(f"--input_size {size}: must be a multiple of 16")
    raise_problems(problems)
    if hasattr(args, "device"):
        choose_device(args.device)
    for name in ("json", "figure"):
        path = getattr(args, name, None)
        if path is not None:
            if is_folder(path):
                raise_problems([f"--{name} {path}: is a folder; name a file"])
            try_writing(path.parent, f"--{name}")
    return args
