"""Mixed precision on a CPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn


@OPTIM_WRAPPERS.register_module()
class CpuAmpOptimWrapper(OptimWrapper):
    """bfloat16 on a CPU, where MMEngine's AmpOptimWrapper refuses to work; bfloat16 needs no scaling of the loss."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Around the forward pass of `model`."""
        with super().optim_context(model), torch.autocast("cpu", torch.bfloat16):
            yield
