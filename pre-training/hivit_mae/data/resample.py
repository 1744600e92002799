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
from numpy.typing import NDArray

from hivit_mae.data.augment import Crop

try:
    from cv2 import transpose  # twice NumPy's speed
except ModuleNotFoundError:  # as on a machine that benchmarks are tried on, with PyTorch and little else
    from numpy import transpose  # type: ignore[no-redef]

CUBIC = -0.5  # the parameter of Keys's cubic; Pillow's choice
GROUP_SIZE = 32  # crops that are resized together: on a CPU, larger intermediate results are slower
CUBIC_SUPPORT = 2.0  # its reach on either side, in pixels of the coarser grid
COLUMNS = ("height", "width", "flip", "contrast", "place")  # of what there is of each crop beside its pixels
BYTES_OF_A_CROP = 8 * len(COLUMNS)  # float64


class CropGroup(NamedTuple):
    """Crops of similar size."""

    crops: int
    width: int  # of all together
    tallest: int
    widest: int


class CropBatch(NamedTuple):
    """B crops of all sizes, grouped. One tensor alone: each would cost the way from the worker, or to a GPU, anew."""

    # uint8: for each crop, in the order of the groups, the float64 of COLUMNS; then, for each group, [its width, its
    # tallest]: the crops transposed and stacked, so that a row is a column of one of them
    data: torch.Tensor
    indices: list[int]  # of the images in their data set
    groups: list[CropGroup]
    is_sorted: bool  # whether the groups' order is the batch's

    def to(self, device: torch.device) -> Self:
        """Bring the data to a device; from pinned memory without waiting."""
        return self._replace(data=self.data.to(device, non_blocking=True))

    def pin_memory(self) -> Self:
        """Copy the data to pinned memory; DataLoader calls this, and would look at each number of the lists itself."""
        return self._replace(data=self.data.pin_memory())


def collate_crops(samples: list[tuple[int, NDArray[np.uint8], Crop]]) -> CropBatch:
    """Stack samples (index, pixels uint8 [height, width] of the crop, crop) to a batch.

    A group's crops are padded to one height, and their longest sides have the same bit length (or at most 255 px), so
    that a large scene does not widen the taps of small chips. Within a group they keep their order.
    """

    def size_class(place: int) -> int:
        return max(samples[place][2].height, samples[place][2].width, 255).bit_length()

    members = []
    for _, alike in itertools.groupby(sorted(range(len(samples)), key=size_class), key=size_class):
        places = list(alike)
        members += [places[i : i + GROUP_SIZE] for i in range(0, len(places), GROUP_SIZE)]
    order = list(itertools.chain.from_iterable(members))
    crops = np.array(
        [[getattr(samples[place][2], name) for name in COLUMNS[:-1]] + [place] for place in order], np.float64
    )
    pixels, groups = zip(*(collate_group([samples[place] for place in places]) for places in members), strict=True)
    return CropBatch(
        data=torch.from_numpy(np.concatenate([crops.view(np.uint8).ravel(), *pixels])),
        indices=[index for index, _, _ in samples],
        groups=list(groups),
        is_sorted=order == sorted(order),
    )


def collate_group(samples: list[tuple[int, NDArray[np.uint8], Crop]]) -> tuple[NDArray[np.uint8], CropGroup]:
    """Give the flat pixels of the crops of a group, and its sizes."""
    heights, widths = [crop.height for _, _, crop in samples], [crop.width for _, _, crop in samples]
    columns = np.zeros((sum(widths), max(heights)), np.uint8)
    start = 0
    for _, pixels, crop in samples:
        columns[start : start + crop.width, : crop.height] = transpose(pixels)
        start += crop.width
    return columns.ravel(), CropGroup(len(samples), sum(widths), max(heights), max(widths))


@torch.no_grad()
def resize_crops(batch: CropBatch, size: int) -> torch.Tensor:
    """Augment a batch on the device where it lies; nothing of it is read back, so that nothing waits.

    Equals `Augmentation.apply` but for 8-bit rounding, which that does after each of three steps (down, after the
    contrast: half a grey level on average) and this not at all.

    Args:
        batch: B crops.
        size: side S of the result in pixels.

    Returns:
        float32 [B, 1, S, S] in [0, 1].

    """
    total = len(batch.indices)
    numbers, pixels = batch.data.split([total * BYTES_OF_A_CROP, len(batch.data) - total * BYTES_OF_A_CROP])
    crops = numbers.view(torch.float64).view(total, len(COLUMNS))
    images = torch.empty(total, size, size, device=batch.data.device)
    counts = [group.crops for group in batch.groups]
    tables = pixels.split([group.width * group.tallest for group in batch.groups])
    for table, group, of_group, result in zip(
        tables, batch.groups, crops.split(counts), images.split(counts), strict=True
    ):
        resize_group(table, group, of_group, result)
    if not batch.is_sorted:
        images = torch.empty_like(images).index_copy_(0, crops[:, -1].long(), images)
    return images[:, None]


def resize_group(pixels: torch.Tensor, group: CropGroup, crops: torch.Tensor, result: torch.Tensor) -> None:
    """Scale, flip and change the contrast of b crops, given as their flat pixels, into `result` [b, S, S], in [0, 1].

    `crops` is float64 [b, COLUMNS]. Horizontally first, and clipped after each axis, as 8 bits do: bicubic overshoots.
    """
    heights, widths, flips, contrasts, _ = crops.unbind(1)
    size, count, tallest = result.shape[1], group.crops, group.tallest
    starts = widths.cumsum(0) - widths
    indices, weights = taps(widths, size, group.widest, flips, starts)
    columns = weighted_rows(pixels.view(-1, tallest).float(), indices, weights).clamp_(0, 255)  # [b * S, tallest]

    rows = columns.view(count, size, tallest).transpose(1, 2).reshape(count * tallest, size)
    starts = torch.arange(0, count * tallest, tallest, device=crops.device)
    indices, weights = taps(heights, size, tallest, torch.zeros_like(flips), starts)
    images = weighted_rows(rows, indices, weights.div_(255)).clamp_(0, 1).view(count, size, size)

    contrasts = contrasts.float()[:, None, None]
    offsets = (1 - contrasts) * images.mean(dim=(1, 2), keepdim=True)
    # into `result` and in place: fresh memory costs more than the arithmetic
    torch.addcmul(offsets, images, contrasts, out=result).clamp_(0, 1)


def weighted_rows(table: torch.Tensor, indices: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Sum weighted rows of a table [rows, n], K for each of m results: [m, K] twice -> [m, n]."""
    return F.embedding_bag(indices, table, mode="sum", per_sample_weights=weights)


def taps(
    lengths: torch.Tensor, size: int, longest: int, flips: torch.Tensor, starts: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the rows of a table, and their weights, that make up each output pixel of b crops along one axis.

    By the rule of Pillow and PyTorch, on the device of the arguments, for all crops together.

    Args:
        lengths: of the crops on this axis in pixels, float64 [b].
        size: S, outputs of each crop.
        longest: the largest of the lengths.
        flips: whether the outputs go in reverse order, float64 [b], 0 or 1.
        starts: the table's row for the first pixel of each crop [b].

    Returns:
        Rows int32 [b * S, K], and weights float32 [b * S, K] whose sum over K is 1.

    """
    count = math.ceil(2 * CUBIC_SUPPORT * max(longest / size, 1))
    lengths, flips = lengths[:, None], flips[:, None]
    scale = lengths / size
    stretch = scale.clamp(min=1)  # an output pixel averages over this many inputs: antialiasing
    outputs = torch.arange(size, dtype=torch.float64, device=lengths.device)
    centres = (outputs + flips * (size - 1 - 2 * outputs) + 0.5) * scale  # [b, S]
    first = (centres - CUBIC_SUPPORT * stretch + 0.5).clamp_(min=0).floor_()
    stop = torch.minimum((centres + CUBIC_SUPPORT * stretch + 0.5).floor_(), lengths)
    nearest = ((first + 0.5 - centres) / stretch).float()[..., None]  # the rest is near 0, where float32 is enough
    steps = torch.arange(count, device=lengths.device)
    weights = cubic((nearest + steps / stretch.float()[..., None]).abs_())
    weights.masked_fill_(steps >= (stop - first)[..., None], 0)
    weights /= weights.sum(dim=-1, keepdim=True)
    indices = torch.minimum(first.int()[..., None] + steps.int(), (lengths - 1).int()[..., None])
    indices += starts.int()[:, None, None]
    return indices.flatten(0, 1), weights.flatten(0, 1)


def cubic(distances: torch.Tensor) -> torch.Tensor:
    """Keys's cubic convolution kernel at distances >= 0."""
    near = ((CUBIC + 2) * distances - (CUBIC + 3)) * distances.square() + 1
    far = CUBIC * (((distances - 5) * distances + 8) * distances - 4)
    return torch.where(distances < 1, near, torch.where(distances < CUBIC_SUPPORT, far, 0))
