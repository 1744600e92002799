"""Numbers made by the published code, and the recipe for the weights and images that they belong to.

`golden_digest.json.gz` beside this file holds all facts and a part of the numbers, so that fidelity is tested on any
clone. Where the full ones are, in a folder `golden` of $SARATRX_SHARED or of `shared` next to the checkout, they are
compared instead. The digest is made from them by `python tests/golden.py`.
"""

import gzip
import json
import os
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

SHARED = Path(os.environ.get("SARATRX_SHARED", Path(__file__).parents[2] / "shared"))
DIGEST = Path(__file__).with_name("golden_digest.json.gz")
TOLERANCE = 1e-5  # relative to the largest value of an array
SAMPLED = 700  # numbers of an array from which on the digest holds only some


@dataclass(frozen=True)
class Golden:
    """An array, or every few of its values along each axis, and the largest magnitude of all of it."""

    values: np.ndarray
    steps: tuple[int, ...]
    largest: float

    def sample(self, whole):
        """The values of a whole array that `values` are to be compared with."""
        return whole[tuple(slice(None, None, step) for step in self.steps)]


@cache
def load(name: str) -> tuple[dict[str, Golden], dict]:
    """Arrays and facts of `<name>.npz` and `<name>.json`, or what the digest holds of them."""
    folder = SHARED / "golden"
    if (folder / f"{name}.json").is_file():
        return whole(folder, name)
    content = json.loads(gzip.decompress(DIGEST.read_bytes()))[name]
    arrays = {}
    for key, entry in content["arrays"].items():
        values = np.array(entry["values"], entry["dtype"]).reshape(entry["shape"])
        arrays[key] = Golden(values, tuple(entry["steps"]), entry["largest"])
    return arrays, content["facts"]


def whole(folder: Path, name: str) -> tuple[dict[str, Golden], dict]:
    """The full arrays and facts."""
    file = folder / f"{name}.npz"
    arrays = dict(np.load(file)) if file.is_file() else {}
    found = {key: Golden(value, (1,) * value.ndim, float(np.abs(value).max())) for key, value in arrays.items()}
    return found, json.loads((folder / f"{name}.json").read_text())


def write_digest() -> None:
    """Make the digest from the full numbers; the same file each time."""
    content = {}
    for name in ("pretrain", "detection", "dassl"):
        arrays, facts = whole(SHARED / "golden", name)
        entries = {}
        for key, golden in arrays.items():
            steps = [1] * golden.values.ndim
            while golden.values[tuple(slice(None, None, step) for step in steps)].size > SAMPLED:
                longest = max(range(len(steps)), key=lambda axis: golden.values.shape[axis] / steps[axis])
                steps[longest] += 1
            part = golden.values[tuple(slice(None, None, step) for step in steps)]
            about = {"dtype": str(part.dtype), "shape": part.shape, "steps": steps, "largest": golden.largest}
            entries[key] = about | {"values": [float(f"{value:.9g}") for value in part.ravel()]}
        content[name] = {"facts": facts, "arrays": entries}
    DIGEST.write_bytes(gzip.compress(json.dumps(content).encode(), mtime=0))
    print(f"{DIGEST}: {DIGEST.stat().st_size} bytes")


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


def relative_error(found: torch.Tensor, expected: Golden) -> float:
    """Largest difference, relative to the largest expected magnitude."""
    difference = np.abs(expected.sample(found.detach().double().numpy()) - expected.values).max()
    return float(difference / expected.largest)


def keys_and_shapes(model: nn.Module) -> dict[str, list[int]]:
    """Every key of a model's state dict with its shape, in order."""
    return {key: list(value.shape) for key, value in model.state_dict().items()}


if __name__ == "__main__":
    write_digest()
