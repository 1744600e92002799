"""The augmentation of a whole batch at once, on the CPU or a GPU.

Loader workers only cut the crops out (`collate_crops`); `resize_crops` scales, flips and changes the contrast. Scaling
is the antialiased bicubic one of Pillow and PyTorch: along each axis, an output pixel is a weighted sum of the `taps`
around its centre. Each axis is one `embedding_bag` over the stacked rows of all crops, whatever their sizes.
"""

import itertools
import math
from typing import NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F

from util.augment import Crop

CUBIC = -0.5  # the parameter of Keys's cubic; Pillow's choice
GROUP_SIZE = 32  # crops that are resized together: on a CPU, larger intermediate results are slower
CUBIC_SUPPORT = 2.0  # its reach on either side, in pixels of the coarser grid


class CropGroup(NamedTuple):
    """Crops of similar size; b of them."""

    columns: torch.Tensor  # uint8 [sum of widths, tallest], the crops transposed and stacked: a row is a column of one
    shapes: torch.Tensor  # int64 [4, b]: place in the batch, height, width, whether to flip
    widest: int  # the same as the largest width in `shapes`, known without asking the device


class CropBatch(NamedTuple):
    """Crops of all sizes, grouped; DataLoader pins such a tuple's tensors."""

    indices: torch.Tensor  # int64 [B], of the images in their data set
    contrasts: torch.Tensor  # float32 [B]
    groups: list[CropGroup]

    def to(self, device: torch.device) -> Self:
        """All but the indices on a device; from pinned memory without waiting."""
        groups = [
            CropGroup(g.columns.to(device, non_blocking=True), g.shapes.to(device, non_blocking=True), g.widest)
            for g in self.groups
        ]
        return self._replace(contrasts=self.contrasts.to(device, non_blocking=True), groups=groups)


def collate_crops(samples: list[tuple[int, torch.Tensor, Crop]]) -> CropBatch:
    """Stack samples (index, pixels uint8 [1, height, width] of the crop, crop) to a batch.

    A group's crops are padded to one height, and their longest sides have the same bit length (or at most 255 px), so
    that a large scene does not widen the taps of small chips.
    """

    def size_class(place: int) -> int:
        return max(samples[place][2].height, samples[place][2].width, 255).bit_length()

    groups = []
    by_height = sorted(range(len(samples)), key=lambda place: samples[place][2].height)
    for _, alike in itertools.groupby(sorted(by_height, key=size_class), key=size_class):
        places = list(alike)
        groups += [places[i : i + GROUP_SIZE] for i in range(0, len(places), GROUP_SIZE)]
    return CropBatch(
        indices=torch.tensor([index for index, _, _ in samples]),
        contrasts=torch.tensor([crop.contrast for _, _, crop in samples], dtype=torch.float32),
        groups=[collate_group(samples, places) for places in groups],
    )


def collate_group(samples: list[tuple[int, torch.Tensor, Crop]], members: list[int]) -> CropGroup:
    """Stack the samples at these places of the batch."""
    crops = [samples[place][2] for place in members]
    columns = np.zeros((sum(crop.width for crop in crops), max(crop.height for crop in crops)), np.uint8)
    start = 0
    for place, crop in zip(members, crops, strict=True):
        columns[start : start + crop.width, : crop.height] = samples[place][1][0].numpy().T
        start += crop.width
    shapes = [members, [c.height for c in crops], [c.width for c in crops], [int(c.flip) for c in crops]]
    return CropGroup(torch.from_numpy(columns), torch.tensor(shapes), max(crop.width for crop in crops))


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
    images = torch.empty(len(batch.contrasts), size, size, device=batch.contrasts.device)
    for group in batch.groups:
        places = group.shapes[0]
        images[places] = change_contrast(resize_group(group, size), batch.contrasts[places])
    return images[:, None]


def resize_group(group: CropGroup, size: int) -> torch.Tensor:
    """Scale and flip crops: float32 [b, S, S] in [0, 1].

    Horizontally first, and clipped after each axis, as 8 bits do: bicubic overshoots.
    """
    _, heights, widths, flips = group.shapes
    crops, tallest = len(heights), group.columns.shape[1]

    indices, weights = taps(widths, group.widest, size, flips)
    indices += (widths.cumsum(0) - widths)[:, None, None]
    columns = weighted_rows(group.columns.float(), indices, weights).clamp_(0, 255)  # [b * S, tallest]

    rows = columns.t().contiguous().view(tallest * crops, size)  # the top rows of all crops, the second rows, ...
    indices, weights = taps(heights, tallest, size, torch.zeros_like(flips))
    indices = indices * crops + torch.arange(crops, device=rows.device)[:, None, None]
    return weighted_rows(rows, indices, weights / 255).clamp_(0, 1).view(crops, size, size)


def change_contrast(images: torch.Tensor, contrasts: torch.Tensor) -> torch.Tensor:
    """Blend images [b, S, S] with their means by factors [b], in place, within [0, 1]."""
    contrasts = contrasts[:, None, None]
    offsets = (1 - contrasts) * images.mean(dim=(1, 2), keepdim=True)
    return images.mul_(contrasts).add_(offsets).clamp_(0, 1)


def weighted_rows(table: torch.Tensor, indices: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Sum weighted rows of a table [rows, n], K for each of b * S results: [b, S, K] twice -> [b * S, n]."""
    return F.embedding_bag(indices.flatten(0, 1), table, mode="sum", per_sample_weights=weights.flatten(0, 1))


def taps(lengths: torch.Tensor, longest: int, size: int, flips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The K inputs of each output pixel, and their weights, by the rule of Pillow and PyTorch.

    Args:
        lengths: int64 [b], inputs on this axis; the largest is `longest`, which decides K.
        longest: int.
        size: S, outputs.
        flips: [b], 1 for reverse order of the outputs.

    Returns:
        Indices int64 [b, S, K] in 0..length - 1, and weights float32 [b, S, K] whose sum over K is 1.

    """
    count = math.ceil(2 * CUBIC_SUPPORT * max(longest / size, 1))
    outputs = torch.arange(size, device=lengths.device)
    outputs = torch.where(flips[:, None] > 0, size - 1 - outputs, outputs)  # [b, S]
    scale = lengths[:, None].double() / size  # positions in float64: their errors would be weights' errors
    stretch = scale.clamp(min=1)  # an output pixel averages over this many inputs: antialiasing
    centres = (outputs + 0.5) * scale
    first = (centres - CUBIC_SUPPORT * stretch + 0.5).long().clamp(min=0)
    stop = torch.minimum((centres + CUBIC_SUPPORT * stretch + 0.5).long(), lengths[:, None])

    steps = torch.arange(count, device=lengths.device)
    distances = (((first + 0.5 - centres)[..., None] + steps) / stretch[..., None]).abs().float()
    indices = first[..., None] + steps
    weights = cubic(distances).masked_fill(indices >= stop[..., None], 0)
    weights /= weights.sum(dim=-1, keepdim=True)
    return torch.minimum(indices, lengths[:, None, None] - 1), weights


def cubic(distances: torch.Tensor) -> torch.Tensor:
    """Keys's cubic convolution kernel at distances >= 0."""
    near = ((CUBIC + 2) * distances - (CUBIC + 3)) * distances.square() + 1
    far = CUBIC * (((distances - 5) * distances + 8) * distances - 4)
    return torch.where(distances < 1, near, torch.where(distances < CUBIC_SUPPORT, far, 0))
