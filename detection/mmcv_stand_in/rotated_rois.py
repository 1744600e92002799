"""RoIAlign of rotated boxes in plain PyTorch, on any device."""

import torch
import torch.nn.functional as F


def align(
    maps: torch.Tensor,
    rois: torch.Tensor,
    size: tuple[int, int],
    scale: float,
    samples: int,
    aligned: bool,
    clockwise: bool,
) -> torch.Tensor:
    """Means of bilinear samples in the cells of rotated boxes.

    Args:
        maps: [B, C, H, W].
        rois: [R, 6]: number of the map, x, y, w, h, angle in radians.
        size: rows and columns of cells.
        scale: of the boxes' numbers to those of the maps.
        samples: along each side of a cell; 0: as many as it has pixels.
        aligned: whether the centre of the first pixel is at 0.5, not at 0; sides are then not made at least 1.
        clockwise: whether angles are from the x axis towards the y axis, which points down.

    Returns:
        [R, C, rows, columns].

    """
    x, y, w, h = (rois[:, 1:5] * scale).unbind(1)
    angle = rois[:, 5] if clockwise else -rois[:, 5]
    centre = torch.stack([x, y], dim=1) - (0.5 if aligned else 0.0)
    sides = torch.stack([w, h], dim=1).clamp(min=0.0 if aligned else 1.0)
    wanted = sides / sides.new_tensor([size[1], size[0]])
    counts = torch.full_like(wanted, samples) if samples > 0 else wanted.ceil()
    groups = torch.cat([rois[:, :1], counts], dim=1).long()  # of one map and one number of samples
    found = maps.new_zeros(len(rois), maps.shape[1], *size)
    for group in groups.unique(dim=0):
        chosen = (groups == group).all(dim=1).nonzero()[:, 0]
        number, across, down = group.tolist()
        if across and down:
            points = sample_points(centre[chosen], sides[chosen], angle[chosen], (size[0] * down, size[1] * across))
            values = sampled(maps[number], points)
            found = found.index_copy(0, chosen, F.avg_pool2d(values, (down, across)).to(found.dtype))
    return found


def sample_points(
    centre: torch.Tensor, sides: torch.Tensor, angle: torch.Tensor, grid: tuple[int, int]
) -> torch.Tensor:
    """Middles [R, rows, columns, 2] of the cells of a grid in boxes: centres and sides [R, 2], angles [R]."""
    rows, columns = ((torch.arange(count).to(sides) + 0.5) / count - 0.5 for count in grid)
    along = columns[None, None, :] * sides[:, 0, None, None]
    across = rows[None, :, None] * sides[:, 1, None, None]
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    turned = torch.stack([along * cos - across * sin, along * sin + across * cos], dim=-1)
    return turned + centre[:, None, None]


def sampled(image: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Values [R, C, rows, columns] of a map [C, H, W] at points [R, rows, columns, 2]; 0 from a pixel outside on."""
    extent = points.new_tensor([image.shape[2], image.shape[1]])
    is_near = ((points >= -1) & (points <= extent)).all(dim=-1)
    grid = 2 * points / (extent - 1).clamp(min=1) - 1
    # all boxes as one picture of the map, which is not copied for each
    flat = grid.flatten(0, 1)[None].to(image.dtype)
    values = F.grid_sample(image[None], flat, padding_mode="border", align_corners=True)[0]
    return values.unflatten(1, points.shape[:2]).transpose(0, 1) * is_near[:, None]
