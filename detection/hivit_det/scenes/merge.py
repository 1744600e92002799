"""Merging what overlapping windows have found: one box per target."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import shapely
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

EDGE = 0.01  # a box that ends within this part of a window's side from its edge is taken to be cut
BOXES_AT_ONCE = 20_000  # whose neighbours are looked for: bounds the memory


def merge(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    labels: torch.Tensor,
    frames: torch.Tensor,
    size: tuple[int, int],
    nms: float,
    how: Literal["union", "best"] = "union",
) -> torch.Tensor:
    """Choose one box per target that several windows have found, and make it whole.

    Whole boxes come first: non-maximum suppression by class. A box that its window's edge cuts stays only if no whole
    box is of the same target, of whatever class: a part of a target is easily mistaken. Cut boxes of one target are its
    pieces: the largest stays, with its class and score. Time and memory grow like the number of boxes that touch.

    Args:
        boxes: [N, 4] in pixels of the scene, each inside its window. Changed in place where pieces are joined.
        scores: [N].
        labels: [N].
        frames: [N, 4], the window in which each was found.
        size: width and height of the scene.
        nms: overlap above which two boxes are of one target.
        how: of a target larger than the overlap of windows, "union" gives the box around all its pieces, and "best" the
            largest piece as it is.

    Returns:
        Indices of the boxes that stay, by falling score.

    """
    is_cut = cut_by_window(boxes, frames, size)

    def same_target(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        has_one_class = labels[first] == labels[second]
        has_other_window = (frames[first] != frames[second]).any(dim=1)  # one window has decided itself
        whole = has_one_class & (overlap(boxes[first], boxes[second]) > nms)
        seen = overlap_where_both_see(boxes[first], frames[first], boxes[second], frames[second]) > nms
        return torch.where(is_cut[first] | is_cut[second], seen & (has_one_class | has_other_window), whole)

    found = [pair[:, same_target(*pair)].numpy() for pair in touching(boxes)]
    first, second = np.concatenate([np.zeros((2, 0), int), *found], axis=1)
    pairs = csr_array((np.ones(len(first)), (first, second)), shape=(len(boxes), len(boxes)))

    kept = first_come(falling(scores, ~is_cut), pairs)
    of_whole = np.zeros(len(boxes), bool)
    of_whole[pairs[kept].indices] = True
    pieces = falling((boxes[:, 2:] - boxes[:, :2]).prod(dim=1), is_cut & ~torch.from_numpy(of_whole))
    if how == "best":
        pieces = first_come(pieces, pairs)
    else:
        _, group = connected_components(pairs[pieces][:, pieces], directed=False)
        pieces = join(boxes, pieces, group)
    chosen = torch.from_numpy(np.concatenate([kept, pieces]))
    return chosen[scores[chosen].argsort(descending=True, stable=True)]


def touching(boxes: torch.Tensor) -> Iterator[torch.Tensor]:
    """Find all pairs of different boxes that touch, each both ways, as indices [2, P] in parts."""
    shapes = shapely.box(*boxes.double().numpy().T)
    tree = shapely.STRtree(shapes)
    for start in range(0, len(boxes), BOXES_AT_ONCE):
        first, second = torch.from_numpy(tree.query(shapes[start : start + BOXES_AT_ONCE]))
        pair = torch.stack([first + start, second])
        yield pair[:, pair[0] != pair[1]]


def falling(values: torch.Tensor, chosen: torch.Tensor) -> NDArray[np.int64]:
    """Give the indices of the chosen ones, by falling value; equal ones in their order."""
    indices = chosen.nonzero()[:, 0]
    return indices[values[indices].argsort(descending=True, stable=True)].numpy()


def first_come(order: NDArray[np.int64], pairs: csr_array) -> NDArray[np.int64]:
    """Walk along indices, and keep each that none kept before it is paired with."""
    is_free = np.ones(pairs.shape[0], bool)
    kept = []
    for index in order:
        if is_free[index]:
            kept.append(index)
            is_free[pairs.indices[pairs.indptr[index] : pairs.indptr[index + 1]]] = False
    return np.array(kept, np.int64)


def join(boxes: torch.Tensor, pieces: NDArray[np.int64], group: NDArray[np.int32]) -> NDArray[np.int64]:
    """Give the first piece of each group the box around all of them, in place, and return these first ones."""
    _, leaders = np.unique(group, return_index=True)
    places = torch.from_numpy(group).long()[:, None].expand(-1, 2)
    corners = boxes[pieces]
    around = corners[leaders].clone()
    around[:, :2].scatter_reduce_(0, places, corners[:, :2], "amin")
    around[:, 2:].scatter_reduce_(0, places, corners[:, 2:], "amax")
    boxes[pieces[leaders]] = around
    return pieces[leaders]


def cut_by_window(boxes: torch.Tensor, frames: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Which boxes [N, 4] reach an edge of their window [N, 4] that is no edge of the scene."""
    width, height = size
    margin = EDGE * (frames[:, 2:] - frames[:, :2]).repeat(1, 2)
    scene = torch.tensor([0, 0, width, height])
    return (((boxes - frames).abs() <= margin) & (frames != scene)).any(dim=1)


def overlap(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Intersection over union [P] of boxes [P, 4] and [P, 4], pair by pair."""

    def area(box: torch.Tensor) -> torch.Tensor:
        return (box[:, 2:] - box[:, :2]).clamp(min=0).prod(dim=1)

    shared = area(inside(first, second))
    return shared / (area(first) + area(second) - shared).clamp(min=1e-6)


def overlap_where_both_see(
    first: torch.Tensor, first_frames: torch.Tensor, second: torch.Tensor, second_frames: torch.Tensor
) -> torch.Tensor:
    """Intersection over union [P] of boxes [P, 4] and [P, 4], each cut to what both their windows show."""
    view = inside(first_frames, second_frames)
    return overlap(inside(first, view), inside(second, view))


def inside(boxes: torch.Tensor, view: torch.Tensor) -> torch.Tensor:
    """Cut boxes [P, 4] to others [P, 4]."""
    return torch.cat([torch.maximum(boxes[:, :2], view[:, :2]), torch.minimum(boxes[:, 2:], view[:, 2:])], dim=1)
