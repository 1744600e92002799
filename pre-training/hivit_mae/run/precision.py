"""What the chip can do: mixed precision, TF32, compilation."""

import shutil
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

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
    capabilities = torch.cpu.get_capabilities()
    found = [name for name in ("amx_bf16", "avx512_bf16") if capabilities.get(name)]
    if found:
        return "bf16", f"this CPU has {found[0].upper().replace('_', '-')}"
    return "off", "this CPU has neither AVX512-BF16 nor AMX-BF16"


def resolve_compile(asked: bool | None, device: torch.device) -> tuple[bool, str]:
    """Decide whether to compile, and why; by default on a GPU, if the compiler that PyTorch needs is there."""
    if asked is not None:
        return asked, "as asked"
    if device.type != "cuda":
        return False, "by default on GPUs alone"
    if not any(map(shutil.which, ("cc", "gcc", "clang"))):
        return False, "there is no C compiler on the path: install gcc"
    return True, "by default on a GPU"


def allow_tf32() -> None:
    """Let GPUs multiply matrices that stay float32 in TF32: 10 bits of mantissa, many times the speed."""
    torch.set_float32_matmul_precision("high")


def compiled(model: nn.Module) -> Callable[..., Any]:
    """Compile the model to one graph for one shape of batch: breaks in the graph are errors, not a loss of speed."""
    return torch.compile(model, fullgraph=True, dynamic=False)
