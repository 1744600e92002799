"""Numbers made by the published code, and the recipe for the weights and images that they belong to.

They stand in a folder `golden` beside other shared data: $SARATRX_SHARED, or `shared` next to the checkout. Where it is
absent, the tests that need it skip; the tests against independent forms always run.
"""

import json
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

SHARED = Path(os.environ.get("SARATRX_SHARED", Path(__file__).parents[2] / "shared"))
TOLERANCE = 1e-5  # relative to the largest value of an array


def load(name: str) -> tuple[dict[str, np.ndarray], dict]:
    """Arrays and facts of `<name>.npz` and `<name>.json`; skips the test where they are absent."""
    folder = SHARED / "golden"
    if not (folder / f"{name}.npz").is_file():
        pytest.skip(f"no golden values in {folder}: set SARATRX_SHARED to the folder that holds golden/")
    return dict(np.load(folder / f"{name}.npz")), json.loads((folder / f"{name}.json").read_text())


def values(seed: int, name: str, shape: tuple[int, ...], scale: float) -> np.ndarray:
    """Standard normal numbers, scaled, fixed by a name."""
    rs = np.random.RandomState(zlib.crc32(f"{seed}:{name}".encode()))
    return (rs.standard_normal(shape) * scale).astype(np.float32)


def fill(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give a model the weights of the recipe; returns it in eval mode."""
    state = model.state_dict()
    for key, value in state.items():
        if value.is_floating_point() and not key.startswith("sarfeature"):
            is_norm = value.ndim == 1 and key.endswith("weight")
            filled = 1 + values(seed, key, value.shape, 0.1) if is_norm else values(seed, key, value.shape, 0.05)
            state[key] = torch.from_numpy(np.asarray(filled))
    model.load_state_dict(state)
    return model.eval()


def image(name: str, shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    """Gamma distributed amplitude in [0, 1], fixed by a name."""
    rs = np.random.RandomState(zlib.crc32(f"{seed}:{name}".encode()))
    return torch.from_numpy(np.clip(rs.gamma(2.0, 0.12, shape), 0, 1).astype(np.float32))


def relative_error(found: torch.Tensor, expected: np.ndarray) -> float:
    """Largest difference, relative to the largest expected magnitude."""
    difference = np.abs(found.detach().double().numpy() - expected).max()
    return float(difference / np.abs(expected).max())


def keys_and_shapes(model: nn.Module) -> dict[str, list[int]]:
    """Every key of a model's state dict with its shape, in order."""
    return {key: list(value.shape) for key, value in model.state_dict().items()}
