"""Merging what overlapping windows have found: one box per target."""

from collections.abc import Iterator
from itertools import product
from typing import Literal

import numpy as np
import shapely
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

EDGE = 0.01  # a box that ends within this part of a window's side from its edge is taken to be cut
BOXES_AT_ONCE = 20_000  # whose neighbours are looked for: bounds the memory
ALIKE = 0.9  # overlap of two boxes from which on nothing else needs to explain them
WIDTHS = np.linspace(0.01, 0.5, 16)  # of bars, as parts of the shorter side of the box around them


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

    Two boxes, at least one of them cut, are of one target if they agree where both their windows see; if both are cut
    and fit one straight bar (`agreement_as_bar`); or if one is whole and the other, of its class, lies in it where the
    window ends that cuts it. Of the pieces of one window and class, at most one goes with a piece of another: the
    pairing with the greatest agreement in all holds, so that parallel targets stay apart. Not joined are pieces of a
    bent target that agree in no such way. Parallel targets can be joined wrongly where the detector missed the pieces
    that would have told them apart.

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

    def agreement(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        has_one_class = labels[first] == labels[second]
        has_other_window = (frames[first] != frames[second]).any(dim=1)  # one window has decided itself
        one_is_cut = is_cut[first] | is_cut[second]
        views = boxes[first], frames[first], boxes[second], frames[second]
        whole = overlap(boxes[first], boxes[second]) * has_one_class
        cut = overlap_where_both_see(*views) * (has_one_class | has_other_window)
        goes_on = goes_on_in(*views[:3], size) | goes_on_in(*views[2:], views[0], size)
        diagonal = goes_on & is_cut[first] & is_cut[second] & has_other_window & (cut < max(ALIKE, nms))
        cut[diagonal] = torch.maximum(cut[diagonal], agreement_as_bar(*(each[diagonal] for each in views)))
        for piece, other in ((first, second), (second, first)):
            part = part_of(boxes[piece], frames[piece], boxes[other]) * (is_cut[piece] & ~is_cut[other] & has_one_class)
            cut = torch.maximum(cut, part * (part > ALIKE))
        return torch.where(one_is_cut, cut, whole).double()  # beside which indices are exact

    found = [np.zeros((3, 0))]
    for first, second in touching(boxes):
        agreed = agreement(first, second)
        found.append(torch.stack([first, second, agreed])[:, agreed > nms].numpy())
    first, second, agreed = np.concatenate(found, axis=1)
    one_way = csr_array((agreed, (first.astype(int), second.astype(int))), shape=(len(boxes), len(boxes)))
    pairs = (one_way + one_way.T).tocsr()

    kept = first_come(falling(scores, ~is_cut), pairs)
    of_whole = np.zeros(len(boxes), bool)
    of_whole[pairs[kept].indices] = True
    pieces = falling((boxes[:, 2:] - boxes[:, :2]).prod(dim=1), is_cut & ~torch.from_numpy(of_whole))
    origins = torch.cat([frames, labels[:, None]], dim=1).numpy()
    pairs = one_to_one(pairs[pieces][:, pieces], np.unique(origins[pieces], axis=0, return_inverse=True)[1])
    if how == "best":
        pieces = pieces[first_come(np.arange(len(pieces)), pairs)]
    else:
        _, group = connected_components(pairs, directed=False)
        pieces = join(boxes, pieces, group)
    chosen = torch.from_numpy(np.concatenate([kept, pieces]))
    return chosen[scores[chosen].argsort(descending=True, stable=True)]


def touching(boxes: torch.Tensor) -> Iterator[torch.Tensor]:
    """Find all pairs of different boxes that touch, each once, as indices [2, P] in parts."""
    shapes = shapely.box(*boxes.double().numpy().T)
    tree = shapely.STRtree(shapes)
    for start in range(0, len(boxes), BOXES_AT_ONCE):
        first, second = torch.from_numpy(tree.query(shapes[start : start + BOXES_AT_ONCE]))
        pair = torch.stack([first + start, second])
        yield pair[:, pair[0] < pair[1]]


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


def one_to_one(pairs: csr_array, origin: NDArray[np.int64]) -> csr_array:
    """Leave at most one partner in each other window, by the greatest agreement in all; pairs of one window stay.

    Args:
        pairs: agreement [N, N] of pieces, 0 where they are of different targets.
        origin: number [N] of the window and class of each piece.

    Returns:
        The pairs that are left, with 1 for each.

    """
    first, second = pairs.nonzero()
    kept = [np.stack([first, second])[:, origin[first] == origin[second]]]
    one_way = origin[first] < origin[second]
    first, second = first[one_way], second[one_way]
    _, number = np.unique(np.stack([origin[first], origin[second]]), axis=1, return_inverse=True)
    for chosen in np.split(number.argsort(kind="stable"), np.cumsum(np.bincount(number))[:-1]):
        rows, columns = np.unique(first[chosen]), np.unique(second[chosen])
        agreed = pairs[rows][:, columns].toarray()
        i, j = linear_sum_assignment(agreed, maximize=True)
        partners = np.stack([rows[i], columns[j]])[:, agreed[i, j] > 0]
        kept += [partners, partners[::-1]]
    left = np.concatenate(kept, axis=1)
    return csr_array((np.ones(left.shape[1]), tuple(left)), shape=pairs.shape)


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
    return sides_that_cut(boxes, frames, size).any(dim=1)


def sides_that_cut(boxes: torch.Tensor, frames: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Which edges of windows [N, 4], but for those of the scene, boxes [N, 4] reach: left, top, right, bottom."""
    width, height = size
    margin = EDGE * (frames[:, 2:] - frames[:, :2]).repeat(1, 2)
    return ((boxes - frames).abs() <= margin) & (frames != torch.tensor([0, 0, width, height]))


def goes_on_in(
    first: torch.Tensor, first_frames: torch.Tensor, second: torch.Tensor, size: tuple[int, int]
) -> torch.Tensor:
    """Whether second boxes [P, 4] reach beyond the windows of the first [P, 4] on a side that cuts the first.

    A straight target leaves a window through the sides that cut it: boxes that do not are no two pieces of one.
    """
    beyond = torch.cat([second[:, :2] < first_frames[:, :2], second[:, 2:] > first_frames[:, 2:]], dim=1)
    return (sides_that_cut(first, first_frames, size) & beyond).any(dim=1)


def overlap(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Intersection over union [P] of boxes [P, 4] and [P, 4], pair by pair."""
    shared = area(inside(first, second))
    return shared / (area(first) + area(second) - shared).clamp(min=1e-6)


def area(boxes: torch.Tensor) -> torch.Tensor:
    """Areas [P] of boxes [P, 4], 0 of those turned inside out."""
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1)


def part_of(pieces: torch.Tensor, frames: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """Shares [P] of pieces [P, 4] that lie in whole boxes [P, 4], if these reach beyond the windows of the pieces."""
    reaches_beyond = (whole[:, :2] < frames[:, :2]).any(dim=1) | (whole[:, 2:] > frames[:, 2:]).any(dim=1)
    return area(inside(pieces, whole)) / area(pieces).clamp(min=1e-6) * reaches_beyond


def overlap_where_both_see(
    first: torch.Tensor, first_frames: torch.Tensor, second: torch.Tensor, second_frames: torch.Tensor
) -> torch.Tensor:
    """Intersection over union [P] of boxes [P, 4] and [P, 4], each cut to what both their windows show."""
    view = inside(first_frames, second_frames)
    return overlap(inside(first, view), inside(second, view))


def agreement_as_bar(
    first: torch.Tensor, first_frames: torch.Tensor, second: torch.Tensor, second_frames: torch.Tensor
) -> torch.Tensor:
    """How well boxes [P, 4] and [P, 4] fit one straight bar, of which each window shows its part: [P] in [0, 1].

    A box does not say where in it a diagonal target lies, so that the boxes of its parts overlap little where both
    windows see. But a bar from corner to corner of the box around both is known but for its width, and so is the box
    that a window shows of it. The result is the least intersection over union of three boxes with those of the bar:
    the two, and what they share. It is of the width and the diagonal that fit best.
    """
    views = [
        (first, first_frames),
        (second, second_frames),
        (inside(first, second), inside(first_frames, second_frames)),
    ]
    shown = [(box, shapely.box(*frame.double().numpy().T)) for box, frame in views]
    left, top = torch.minimum(first, second)[:, :2].double().T
    right, bottom = torch.maximum(first, second)[:, 2:].double().T
    across, down = right - left, bottom - top
    relative = torch.minimum(across, down) / torch.maximum(across, down).clamp(min=1e-6)
    best = torch.zeros(len(first))
    for width, is_rising in product(WIDTHS, (False, True)):
        x_end, y_end = width * relative * down, width * relative * across  # how far a bar's end reaches along the box
        x = torch.stack([left, left + x_end, right, right - x_end], dim=1)
        y = torch.stack([top + y_end, top, bottom - y_end, bottom], dim=1)
        if is_rising:
            x = (left + right)[:, None] - x
        bar = shapely.polygons(torch.stack([x, y], dim=2).numpy())
        fits = [
            overlap(box, torch.from_numpy(np.nan_to_num(shapely.bounds(shapely.intersection(bar, frame)))))
            for box, frame in shown
        ]
        best = torch.maximum(best, torch.stack(fits).amin(dim=0).float())
    return best


def inside(boxes: torch.Tensor, view: torch.Tensor) -> torch.Tensor:
    """Cut boxes [P, 4] to others [P, 4]."""
    return torch.cat([torch.maximum(boxes[:, :2], view[:, :2]), torch.minimum(boxes[:, 2:], view[:, 2:])], dim=1)
