"""What the chip can do: mixed precision, TF32, compilation."""

import os
import shutil
import sysconfig
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from saratrx.device import fast_bf16

COMPILE_MODES: dict[str, dict[str, Any]] = {  # of --compile_mode: what torch.compile is given beside the model
    "default": {},
    "combo": {"options": {"combo_kernels": True}},  # independent small kernels in one launch
    "max-autotune": {"mode": "max-autotune-no-cudagraphs"},  # tries several kernels of each kind
    "cudagraphs": {"mode": "reduce-overhead"},  # all launches of a step recorded and played back
    "cudnn": {},  # attention by cuDNN, see `attention_of`
}
# cuDNN's attention is made for Hopper; where it cannot do something, the others do
CUDNN_FIRST = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]
AMP_DTYPES = {"off": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_amp(amp: str, device: torch.device) -> tuple[str, str]:
    """Decide what `--amp` means on this device.

    Returns:
        "off", "bf16" or "fp16", and the reason, for the log.

    """
    if amp != "auto":
        return amp, "as asked"
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", "this GPU has bf16"
        return "off", "this GPU has no bf16"
    found = fast_bf16()
    if found:
        return "bf16", f"this CPU has {found}"
    return "off", "this CPU has neither AVX512-BF16 nor AMX-BF16"


def resolve_compile(asked: bool | None, device: torch.device) -> tuple[bool, str]:
    """Decide whether to compile, and why; by default on a GPU. Never without what the compiler needs."""
    is_wanted = device.type == "cuda" if asked is None else asked
    if is_wanted and (missing := missing_to_compile(device)):
        return False, missing
    return is_wanted, "as asked" if asked is not None else f"by default on {'a GPU' if is_wanted else 'GPUs alone'}"


def missing_to_compile(device: torch.device) -> str:
    """Say what PyTorch needs to compile for a device and does not find here; "" if all is there.

    It builds modules for Python: Triton does on a GPU, by a C compiler, and Inductor on a CPU, by a C++ compiler.
    """
    variable, names = ("CC", ("gcc", "clang")) if device.type == "cuda" else ("CXX", ("g++",))
    if not any(map(shutil.which, [os.environ[variable]] if os.environ.get(variable) else names)):
        return f"there is no {'C' if variable == 'CC' else 'C++'} compiler on the path: install {names[0]}"
    header = Path(sysconfig.get_paths()["include"], "Python.h")
    if not header.is_file():
        return f"there is no {header}: install Python's headers, such as the package python3-dev"
    return ""


def allow_tf32() -> None:
    """Let GPUs multiply matrices that stay float32 in TF32: 10 bits of mantissa, many times the speed."""
    torch.set_float32_matmul_precision("high")


def compiled(model: nn.Module, mode: str = "default") -> Callable[..., Any]:
    """Compile the model to one graph for one shape of batch: breaks in the graph are errors, not a loss of speed.

    Args:
        model: is left as it is; what is returned is called in its place.
        mode: a key of `COMPILE_MODES`.

    """
    return torch.compile(model, fullgraph=True, dynamic=False, **COMPILE_MODES[mode])


def attention_of(mode: str) -> AbstractContextManager[Any]:
    """Within this context, compute attention as `mode`, a key of `COMPILE_MODES`, asks: by cuDNN first, or as ever."""
    return sdpa_kernel(CUDNN_FIRST, set_priority=True) if mode == "cudnn" else nullcontext()
