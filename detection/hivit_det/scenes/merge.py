"""Merging what overlapping windows have found: one box per target."""

import torch
from torchvision.ops import batched_nms

EDGE = 0.01  # a box that ends within this part of a window's side from its edge is taken to be cut
PAIRS_AT_ONCE = 500_000  # of boxes, when they are compared: bounds the memory


def merge(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    labels: torch.Tensor,
    frames: torch.Tensor,
    size: tuple[int, int],
    nms: float,
) -> torch.Tensor:
    """Choose one box per target that several windows have found.

    Whole boxes come first: non-maximum suppression by class. A box that its window's edge cuts stays only if no whole
    box, nor a larger cut one, is of the same target, of whatever class: a part of a target is easily mistaken.

    Args:
        boxes: [N, 4] in pixels of the scene.
        scores: [N].
        labels: [N].
        frames: [N, 4], the window in which each was found.
        size: width and height of the scene.
        nms: overlap above which two boxes are of one target.

    Returns:
        Indices of the boxes that stay, by falling score.

    """
    is_cut = cut_by_window(boxes, frames, size)

    def same_target(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        overlaps = overlap_where_both_see(boxes[first], frames[first], boxes[second], frames[second]) > nms
        neighbours = (frames[first, None] != frames[None, second]).any(dim=2)
        return overlaps & (neighbours | (labels[first, None] == labels[None, second]))  # one window has decided itself

    whole, cut = (~is_cut).nonzero()[:, 0], is_cut.nonzero()[:, 0]
    kept = whole[batched_nms(boxes[whole], scores[whole], labels[whole], nms)]
    parts = cut.split(max(1, PAIRS_AT_ONCE // max(1, len(kept))))
    cut = torch.cat([part[~same_target(part, kept).any(dim=1)] for part in parts])
    areas = (boxes[cut, 2:] - boxes[cut, :2]).prod(dim=1)
    for part in cut[areas.argsort(descending=True, stable=True)].split(1):
        if not same_target(part, kept[is_cut[kept]]).any():
            kept = torch.cat([kept, part])
    return kept[scores[kept].argsort(descending=True, stable=True)]


def cut_by_window(boxes: torch.Tensor, frames: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Which boxes [N, 4] reach an edge of their window [N, 4] that is no edge of the scene."""
    width, height = size
    margin = EDGE * (frames[:, 2:] - frames[:, :2]).repeat(1, 2)
    scene = torch.tensor([0, 0, width, height])
    return (((boxes - frames).abs() <= margin) & (frames != scene)).any(dim=1)


def overlap_where_both_see(
    first: torch.Tensor, first_frames: torch.Tensor, second: torch.Tensor, second_frames: torch.Tensor
) -> torch.Tensor:
    """Intersection over union [M, N] of boxes [M, 4] and [N, 4], each cut to what both their windows show."""
    corner = torch.maximum(first_frames[:, None, :2], second_frames[None, :, :2])
    opposite = torch.minimum(first_frames[:, None, 2:], second_frames[None, :, 2:])

    def cut(boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.maximum(boxes[..., :2], corner), torch.minimum(boxes[..., 2:], opposite)

    def area(corner: torch.Tensor, opposite: torch.Tensor) -> torch.Tensor:
        return (opposite - corner).clamp(min=0).prod(dim=-1)

    (a, a_end), (b, b_end) = cut(first[:, None]), cut(second[None])
    shared = area(torch.maximum(a, b), torch.minimum(a_end, b_end))
    return shared / (area(a, a_end) + area(b, b_end) - shared).clamp(min=1e-6)
