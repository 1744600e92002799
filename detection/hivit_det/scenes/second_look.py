"""Windows for a second look: around targets of which the first windows have shown pieces alone."""

import torch

from hivit_det.scenes.merge import cut_by_window, merge

ROOM = 0.9  # part of a window that a target may fill, so that something of what is around it is seen too


def second_looks(
    found: tuple[torch.Tensor, ...], window: tuple[int, int], overlap: int, scene: tuple[int, int], nms: float
) -> list[tuple[int, int]]:
    """Choose windows in which targets are whole that no window has shown so; as few as go around several at a time.

    A target that is no longer than the overlap was whole in some window; if it was not found there, it need not be
    looked for again. One that fills more than 0.9 of a window cannot be seen better.

    Args:
        found: boxes [N, 4] in pixels of the scene, scores [N], labels [N] and windows [N, 4], of the first windows.
        window: width and height of the windows.
        overlap: pixels that the first ones share.
        scene: width and height.
        nms: overlap above which two boxes are of one target.

    Returns:
        Left and top of each.

    """
    boxes, scores, labels, frames = found
    is_cut = cut_by_window(boxes, frames, scene)
    whole_or_joined = boxes.clone()
    kept = merge(whole_or_joined, scores, labels, frames, scene, nms)
    targets = whole_or_joined[kept[is_cut[kept]]]
    sides = targets[:, 2:] - targets[:, :2]
    size, extent = torch.tensor(window), torch.tensor(scene)
    targets = targets[(sides > overlap).any(dim=1) & (sides <= ROOM * size).all(dim=1)]

    places = []
    while len(targets):
        middle = (targets[0, :2] + targets[0, 2:]) / 2
        corner = torch.minimum((middle - size / 2).round().clamp(min=0), extent - size)
        frame = torch.cat([corner, corner + size]).expand(len(targets), 4)
        is_inside = (targets[:, :2] >= frame[:, :2]).all(dim=1) & (targets[:, 2:] <= frame[:, 2:]).all(dim=1)
        is_seen = is_inside & ~cut_by_window(targets, frame, scene)
        is_seen[0] = True
        targets = targets[~is_seen]
        places.append((int(corner[0]), int(corner[1])))
    return places
