"""Seeds that follow from a run's seed and a place in the run, not from what was drawn before."""

import random

import numpy as np
import torch


def derived_seed(*parts: int) -> int:
    """Derive one seed from several non-negative numbers, e.g. (purpose, seed, epoch, index); other parts, another seed.

    Returns:
        A number below 2 ** 64.

    """
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0])


def seed_all(seed: int) -> None:
    """Seed Python, NumPy (by the last 32 bits) and PyTorch, on all devices."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
