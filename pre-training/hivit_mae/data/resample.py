"""The augmentation of a whole batch at once, on the CPU or a GPU.

Loader workers only cut the crops out (`collate_crops`); `resize_crops` scales, flips and changes the contrast. Scaling
is the antialiased bicubic one of Pillow and PyTorch: along each axis, an output pixel is a weighted sum of the `taps`
around its centre. Each axis is one `embedding_bag` over the stacked rows of all crops, whatever their sizes.
"""

import itertools
import math
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple, Self

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from hivit_mae.data.augment import Crop

CUBIC = -0.5  # the parameter of Keys's cubic; Pillow's choice
GROUP_SIZE = 32  # crops that are resized together: on a CPU, larger intermediate results are slower
CUBIC_SUPPORT = 2.0  # its reach on either side, in pixels of the coarser grid


class CropGroup(NamedTuple):
    """Crops of similar size; b of them."""

    places: list[int]  # in the batch
    heights: list[int]
    widths: list[int]
    flips: list[bool]
    contrasts: list[float]


class CropBatch(NamedTuple):
    """Crops of all sizes, grouped. One tensor alone, as each would cost the way from the loader worker anew."""

    # uint8, for each group after the other [sum of widths, tallest]: the crops transposed and stacked, so that a row is
    # a column of one of them
    pixels: torch.Tensor
    indices: list[int]  # of the images in their data set
    groups: list[CropGroup]

    def to(self, device: torch.device) -> Self:
        """Bring the pixels to a device; from pinned memory without waiting."""
        return self._replace(pixels=self.pixels.to(device, non_blocking=True))


def collate_crops(samples: list[tuple[int, NDArray[np.uint8], Crop]]) -> CropBatch:
    """Stack samples (index, pixels uint8 [height, width] of the crop, crop) to a batch.

    A group's crops are padded to one height, and their longest sides have the same bit length (or at most 255 px), so
    that a large scene does not widen the taps of small chips. Within a group they keep their order.
    """

    def size_class(place: int) -> int:
        return max(samples[place][2].height, samples[place][2].width, 255).bit_length()

    groups = []
    for _, alike in itertools.groupby(sorted(range(len(samples)), key=size_class), key=size_class):
        places = list(alike)
        groups += [places[i : i + GROUP_SIZE] for i in range(0, len(places), GROUP_SIZE)]
    pixels, crop_groups = zip(*(collate_group(samples, places) for places in groups), strict=True)
    return CropBatch(
        pixels=torch.from_numpy(np.concatenate(pixels)),
        indices=[index for index, _, _ in samples],
        groups=list(crop_groups),
    )


def collate_group(
    samples: list[tuple[int, NDArray[np.uint8], Crop]], members: list[int]
) -> tuple[NDArray[np.uint8], CropGroup]:
    """Give the flat pixels of a group, and what else there is of it, from the samples at these places."""
    crops = [samples[place][2] for place in members]
    columns = np.zeros((sum(crop.width for crop in crops), max(crop.height for crop in crops)), np.uint8)
    start = 0
    for place, crop in zip(members, crops, strict=True):
        columns[start : start + crop.width, : crop.height] = cv2.transpose(samples[place][1])  # 4 times NumPy's speed
        start += crop.width
    group = CropGroup(
        places=members,
        heights=[crop.height for crop in crops],
        widths=[crop.width for crop in crops],
        flips=[crop.flip for crop in crops],
        contrasts=[crop.contrast for crop in crops],
    )
    return columns.ravel(), group


@torch.no_grad()
def resize_crops(batch: CropBatch, size: int) -> torch.Tensor:
    """Augment a batch on the device where it lies.

    Equals `Augmentation.apply` but for 8-bit rounding, which that does after each of three steps (down, after the
    contrast: half a grey level on average) and this not at all.

    Args:
        batch: B crops.
        size: side S of the result in pixels.

    Returns:
        float32 [B, 1, S, S] in [0, 1].

    """
    tables = batch.pixels.split([sum(group.widths) * max(group.heights) for group in batch.groups])
    images = torch.empty(len(batch.indices), size, size, device=batch.pixels.device)
    results = images.split([len(group.places) for group in batch.groups])
    for table, group, result in zip(tables, batch.groups, results, strict=True):
        resize_group(table, group, result)
    places = [place for group in batch.groups for place in group.places]
    if places != sorted(places):
        order = np.argsort(places)
        images = images[torch.from_numpy(order).to(images.device, non_blocking=True)]
    return images[:, None]


def resize_group(pixels: torch.Tensor, group: CropGroup, result: torch.Tensor) -> None:
    """Scale, flip and change the contrast of crops, given as their flat pixels, into `result` [b, S, S], in [0, 1].

    Horizontally first, and clipped after each axis, as 8 bits do: bicubic overshoots.
    """
    device, size, crops, tallest = pixels.device, result.shape[1], len(group.widths), max(group.heights)
    starts: Iterable[int] = itertools.accumulate(group.widths[:-1], initial=0)
    indices, weights = stacked_taps(group.widths, size, starts, group.flips, device)
    columns = weighted_rows(pixels.view(-1, tallest).float(), indices, weights).clamp_(0, 255)  # [b * S, tallest]

    rows = columns.view(crops, size, tallest).transpose(1, 2).reshape(crops * tallest, size)
    starts = range(0, crops * tallest, tallest)
    indices, weights = stacked_taps(group.heights, size, starts, [False] * crops, device)
    images = weighted_rows(rows, indices, weights.div_(255)).clamp_(0, 1).view(crops, size, size)

    contrasts = torch.tensor(group.contrasts).to(device, non_blocking=True)[:, None, None]
    offsets = (1 - contrasts) * images.mean(dim=(1, 2), keepdim=True)
    # into `result` and in place: fresh memory costs more than the arithmetic
    torch.addcmul(offsets, images, contrasts, out=result).clamp_(0, 1)


def weighted_rows(table: torch.Tensor, indices: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Sum weighted rows of a table [rows, n], K for each of m results: [m, K] twice -> [m, n]."""
    return F.embedding_bag(indices, table, mode="sum", per_sample_weights=weights)


def stacked_taps(
    lengths: list[int], size: int, starts: Iterable[int], flips: list[bool], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the rows of a table, and their weights, that make up each output pixel of b crops along one axis.

    Args:
        lengths: of the crops on this axis in pixels.
        size: S, outputs of each crop.
        starts: the table's row for the first pixel of each crop.
        flips: whether the outputs go in reverse order.
        device: of the results.

    Returns:
        Rows int32 [b * S, K], and weights float32 [b * S, K] whose sum over K is 1.

    """
    count = math.ceil(2 * CUBIC_SUPPORT * max(max(lengths) / size, 1))
    tables = [taps(length, size, count, flip, device) for length, flip in zip(lengths, flips, strict=True)]
    indices = torch.stack([indices for indices, _ in tables])
    indices += torch.tensor(list(starts), dtype=torch.int32).to(device, non_blocking=True)[:, None, None]
    return indices.flatten(0, 1), torch.cat([weights for _, weights in tables])


@lru_cache(maxsize=4096)
def taps(
    length: int, size: int, count: int, is_flipped: bool, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the inputs of each output pixel of one crop, and their weights, by the rule of Pillow and PyTorch.

    Args:
        length: inputs on this axis.
        size: S, outputs.
        count: K, at least as many as an output has inputs.
        is_flipped: whether the outputs go in reverse order.
        device: of the results.

    Returns:
        Indices int32 [S, K] in 0..length - 1, and weights float32 [S, K] whose sum over K is 1.

    """
    scale = length / size
    stretch = max(scale, 1)  # an output pixel averages over this many inputs: antialiasing
    centres = (torch.arange(size, dtype=torch.float64) + 0.5) * scale
    first = (centres - CUBIC_SUPPORT * stretch + 0.5).long().clamp(min=0)
    stop = (centres + CUBIC_SUPPORT * stretch + 0.5).long().clamp(max=length)
    indices = first[:, None] + torch.arange(count)
    weights = cubic(((indices + 0.5 - centres[:, None]) / stretch).abs())
    weights = weights.masked_fill(indices >= stop[:, None], 0)
    weights /= weights.sum(dim=-1, keepdim=True)
    indices = indices.clamp(max=length - 1)
    if is_flipped:
        indices, weights = indices.flip(0), weights.flip(0)
    return indices.int().to(device), weights.float().to(device)


def cubic(distances: torch.Tensor) -> torch.Tensor:
    """Keys's cubic convolution kernel at distances >= 0."""
    near = ((CUBIC + 2) * distances - (CUBIC + 3)) * distances.square() + 1
    far = CUBIC * (((distances - 5) * distances + 8) * distances - 4)
    return torch.where(distances < 1, near, torch.where(distances < CUBIC_SUPPORT, far, 0))
