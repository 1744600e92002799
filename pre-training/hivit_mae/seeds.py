"""Every random number of a run follows from its seed and its place in the run, not from what was drawn before.

So a resumed run continues exactly, and neither the number of loader workers nor that of processes changes the data.
"""

import hashlib
import itertools
import struct
from collections.abc import Iterator

import torch

from saratrx.seeds import derived_seed

CROP, MASK, RANK, SHARDS, CHUNK = range(5)  # what the numbers are for


def uniforms(*parts: int) -> Iterator[float]:
    """Numbers in [0, 1) without end, for a place as in `derived_seed`; for a few, cheaper than seeding a generator."""
    for block in itertools.count():
        digest = hashlib.blake2b(repr((*parts, block)).encode()).digest()
        yield from ((bits >> 11) * 2.0**-53 for bits in struct.unpack("<8Q", digest))


def masking_noise(
    seed: int, epoch: int, batch: int, size: int, patches: int, rank: int, world_size: int, device: torch.device
) -> torch.Tensor:
    """Draw this rank's rows of the noise of a whole batch: [size, patches], uniform.

    DistributedSampler deals images out in turn, so row r, r + world_size, ... belong to rank r, and the images get the
    same masks on any number of processes.
    """
    generator = torch.Generator(device).manual_seed(derived_seed(MASK, seed, epoch, batch))
    return torch.rand(size * world_size, patches, generator=generator, device=device)[rank::world_size]
