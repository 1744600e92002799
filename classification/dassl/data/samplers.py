"""In which order a loader takes its images."""

from collections.abc import Sized
from typing import Any

from torch.utils.data import RandomSampler, Sampler, SequentialSampler
from yacs.config import CfgNode

from saratrx.errors import InputError

SAMPLERS = {"RandomSampler": RandomSampler, "SequentialSampler": SequentialSampler}


def build_sampler(
    sampler_type: str, cfg: CfgNode | None = None, data_source: Sized | None = None, batch_size: int = 32, **_: Any
) -> Sampler[int]:
    """Make a sampler by its name; what Dassl's samplers of several domains would need besides is not used.

    Raises:
        InputError: for a sampler that does not exist.

    """
    if sampler_type not in SAMPLERS:
        raise InputError(f"DATALOADER sampler {sampler_type}: unknown; choose one of {', '.join(SAMPLERS)}")
    return SAMPLERS[sampler_type](data_source or [])
