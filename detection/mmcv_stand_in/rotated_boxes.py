"""Overlap and suppression of rotated boxes in plain PyTorch, on any device: exact but for rounding, in float64.

A box is a row (x, y, w, h, angle): its centre, its sides, and the angle in radians from the x axis towards the y axis,
which is clockwise in an image.
"""

from collections.abc import Iterator

import torch

PAIRS_AT_ONCE = 2**17  # bounds the memory: about 100 MB


def corners(boxes: torch.Tensor) -> torch.Tensor:
    """Corners [..., 4, 2] of boxes [..., 5], one after the other around each."""
    x, y, w, h, angle = boxes[..., None].unbind(-2)
    along = w / 2 * w.new_tensor([-1, 1, 1, -1])
    across = h / 2 * h.new_tensor([-1, -1, 1, 1])
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([x + along * cos - across * sin, y + along * sin + across * cos], dim=-1)


def shared_area(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Area [P] that boxes [P, 5] and [P, 5] share, pair by pair.

    By Green's theorem, the area of a polygon inside the box 0 <= x <= w, 0 <= y <= h is the integral of y dx around the
    polygon, with y clamped to the box and only x from 0 to w. Along a straight edge that is a closed form, and it is
    continuous in the boxes: those that are equal, or touch, are no special cases.
    """
    placed = second.clone()  # in a frame in which the first box lies upright, with its centre at 0
    cos, sin = first[:, 4].cos(), first[:, 4].sin()
    x, y = (second[:, :2] - first[:, :2]).unbind(1)
    placed[:, 0], placed[:, 1], placed[:, 4] = x * cos + y * sin, y * cos - x * sin, second[:, 4] - first[:, 4]
    half_w, half_h = (first[:, 2:4, None] / 2).unbind(1)  # [P, 1], as edges are [P, 4]
    x1, y1 = corners(placed).unbind(-1)
    x2, y2 = x1.roll(-1, 1), y1.roll(-1, 1)

    x_start, x_end = x1.clamp(-half_w, half_w), x2.clamp(-half_w, half_w)
    slope = torch.where(x1 == x2, 0.0, (y2 - y1) / (x2 - x1))
    y_start, y_end = y1 + (x_start - x1) * slope, y2 + (x_end - x2) * slope
    in_start, in_end = y_start.clamp(-half_h, half_h), y_end.clamp(-half_h, half_h)
    low, high = torch.minimum(y_start, y_end), torch.maximum(y_start, y_end)
    above = (high - torch.maximum(low, half_h)).clamp(min=0)
    below = (torch.minimum(high, -half_h) - low).clamp(min=0)
    inside = (in_end - in_start).abs() * (in_start + in_end) / 2 + (above - below) * half_h
    mean = torch.where(low == high, in_start, inside / (high - low))
    return ((x_end - x_start) * (mean + half_h)).sum(1).abs()


def overlap(first: torch.Tensor, second: torch.Tensor, of_first: bool = False) -> torch.Tensor:
    """Shared area [P] of boxes [P, 5] and [P, 5] over their union, or over the first's; 0 where that is 0. float64."""
    first, second = first.double(), second.double()
    shared = shared_area(first, second)
    areas = first[:, 2:4].prod(1), second[:, 2:4].prod(1)
    whole = areas[0] if of_first else areas[0] + areas[1] - shared
    return torch.where(torch.minimum(*areas) > 0, shared / whole, 0.0).clamp(0, 1)


def touching(first: torch.Tensor, second: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Find the pairs of boxes [N, 5] and [M, 5] whose upright hulls touch, as indices [P] and [P], in parts."""
    hulls = [(box.amin(1), box.amax(1)) for box in (corners(first.double()), corners(second.double()))]
    (low, high), (other_low, other_high) = hulls
    rows = max(1, PAIRS_AT_ONCE // max(1, len(second)))
    for start in range(0, len(first), rows):
        part = slice(start, start + rows)
        meets = (low[part, None] <= other_high) & (high[part, None] >= other_low)
        i, j = meets.all(-1).nonzero(as_tuple=True)
        yield i + start, j


def overlaps(first: torch.Tensor, second: torch.Tensor, of_first: bool = False) -> torch.Tensor:
    """`overlap` of each of boxes [N, 5] with each of boxes [M, 5]: [N, M], float64."""
    found = first.new_zeros(len(first), len(second), dtype=torch.float64)
    for i, j in touching(first, second):
        found[i, j] = overlap(first[i], second[j], of_first)
    return found


def suppress(boxes: torch.Tensor, threshold: float, labels: torch.Tensor | None = None) -> torch.Tensor:
    """Which of boxes [N, 5], the best first, stay: [N]. Those that overlap one that stays by more are dropped.

    Args:
        boxes: by falling score.
        threshold: of the overlap.
        labels: [N]; only boxes with the same one suppress each other.

    """
    worse_ones: dict[int, list[int]] = {}
    for i, j in touching(boxes, boxes):
        is_pair = i < j if labels is None else (i < j) & (labels[i] == labels[j])
        better, worse = i[is_pair], j[is_pair]
        is_same = overlap(boxes[better], boxes[worse]) > threshold
        for one, other in zip(better[is_same].tolist(), worse[is_same].tolist(), strict=True):
            worse_ones.setdefault(one, []).append(other)
    stays = [True] * len(boxes)
    for number in sorted(worse_ones):
        if stays[number]:
            for other in worse_ones[number]:
                stays[other] = False
    return torch.tensor(stays, dtype=torch.bool, device=boxes.device)
