"""Merging oriented boxes that overlapping windows have found: whole ones win over pieces."""

import numpy as np
import torch
from scipy.sparse import csr_array

from hivit_det.scenes.merge import cut_by_window, falling, first_come, inside, touching
from mmcv_stand_in.rotated_boxes import corners, overlap


def upright(boxes: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    """Upright boxes [N, 4] around boxes: oriented ones [N, 5], cut to their windows [N, 4], or upright ones as is."""
    if boxes.shape[1] == 4:
        return boxes
    points = corners(boxes)
    return inside(torch.cat([points.amin(dim=1), points.amax(dim=1)], dim=1), frames)


def longer_side_first(boxes: torch.Tensor) -> torch.Tensor:
    """Give the same boxes [N, 5] with w as the longer side, and its angle in [-pi / 2, pi / 2)."""
    x, y, w, h, angle = boxes.unbind(1)
    quarter = torch.pi / 2
    along = torch.where(w < h, angle + quarter, angle)
    return torch.stack([x, y, torch.maximum(w, h), torch.minimum(w, h), (along + quarter) % torch.pi - quarter], dim=1)


def merge_oriented(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    labels: torch.Tensor,
    frames: torch.Tensor,
    size: tuple[int, int],
    nms: float,
) -> torch.Tensor:
    """Choose one box per target that several windows have found.

    Whole boxes come first, by score, and then those that their window's edge cuts, by area. Each drops those of its
    class after it that overlap it: a whole one by its intersection over union, a cut one by the part of it that is
    inside. Pieces of a target that no window shows whole are not joined.

    Args:
        boxes: [N, 5] in pixels of the scene: x, y, w, h, angle.
        scores: [N].
        labels: [N].
        frames: [N, 4], the window in which each was found.
        size: width and height of the scene.
        nms: overlap above which two boxes are of one target.

    Returns:
        Indices of the boxes that stay, by falling score.

    """
    hulls = upright(boxes, frames)
    is_cut = cut_by_window(hulls, frames, size)
    order = torch.from_numpy(np.concatenate([falling(scores, ~is_cut), falling(boxes[:, 2:4].prod(dim=1), is_cut)]))
    boxes, hulls, labels, is_cut = boxes[order], hulls[order], labels[order], is_cut[order]
    found = [torch.zeros(2, 0, dtype=torch.int64)]
    for pair in touching(hulls):
        better, worse = pair[:, labels[pair[0]] == labels[pair[1]]]
        inside_better = overlap(boxes[worse], boxes[better], of_first=True)
        agreed = torch.where(is_cut[worse], inside_better, overlap(boxes[worse], boxes[better]))
        found.append(torch.stack([better, worse])[:, agreed > nms])
    better, worse = torch.cat(found, dim=1).numpy()
    pairs = csr_array((np.ones(len(better)), (better, worse)), shape=(len(boxes), len(boxes)))
    kept = order[torch.from_numpy(first_come(np.arange(len(boxes)), pairs))]
    return kept[scores[kept].argsort(descending=True, stable=True)]
