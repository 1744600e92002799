"""Windows for a second look: around targets of which the first windows have shown pieces alone."""

import torch

from hivit_det.scenes.merge import cut_by_window

ROOM = 0.9  # part of a window that a target may fill, so that something of what is around it is seen too


def second_looks(
    targets: torch.Tensor, window: tuple[int, int], overlap: int, scene: tuple[int, int]
) -> list[tuple[int, int]]:
    """Choose windows in which targets are whole that no window has shown so; as few as go around several at a time.

    A target that is no longer than the overlap was whole in some window; if it was not found there, it need not be
    looked for again. One that fills more than 0.9 of a window cannot be seen better.

    Args:
        targets: boxes [N, 4] in pixels of the scene, around all that is known of each target.
        window: width and height of the windows.
        overlap: pixels that the first windows share.
        scene: width and height.

    Returns:
        Left and top of each.

    """
    size, extent = torch.tensor(window), torch.tensor(scene)
    sides = targets[:, 2:] - targets[:, :2]
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
