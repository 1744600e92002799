"""Position embeddings: the fixed sine-cosine table, and resizing trained tables to another grid of patches."""

import torch
import torch.nn.functional as F

Grid = tuple[int, int]  # (rows, columns) of patches


def sincos_table(width: int, grid: Grid) -> torch.Tensor:
    """Two-dimensional sine-cosine table (MAE, CVPR 2022, as published checkpoints hold it).

    The first half of the width encodes the column, the second half the row; each half is [sin(p w), cos(p w)]
    with w_i = 10000 ** (-i / (width / 4)).

    Returns:
        [rows * columns, width], float32, patches in row-major order.

    """
    if width % 4:
        raise ValueError(f"a sine-cosine table needs a width that is a multiple of 4, not {width}")
    frequencies = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    row, column = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in grid), indexing="ij")
    halves = []
    for position in (column.flatten(), row.flatten()):
        angles = torch.outer(position, frequencies)
        halves += [angles.sin(), angles.cos()]
    return torch.cat(halves, dim=1).float()


def resize_position_embedding(table: torch.Tensor, old: Grid, new: Grid) -> torch.Tensor:
    """Resize an absolute position embedding [1, old rows * columns, D] bicubically to [1, new rows * columns, D]."""
    if old == new:
        return table
    image = table.reshape(1, *old, -1).permute(0, 3, 1, 2).float()
    image = F.interpolate(image, size=new, mode="bicubic", align_corners=False)
    return image.permute(0, 2, 3, 1).flatten(1, 2).to(table.dtype)


def resize_bias_table(table: torch.Tensor, old: Grid, new: Grid) -> torch.Tensor:
    """Resize a relative position bias [(2 rows - 1) * (2 columns - 1), heads] bicubically from grid `old` to `new`."""
    old_offsets, new_offsets = ((2 * rows - 1, 2 * columns - 1) for rows, columns in (old, new))
    return resize_position_embedding(table[None], old_offsets, new_offsets)[0]


def relative_position_index(grid: Grid) -> torch.Tensor:
    """Row of the bias table for every pair of patches (Swin's numbering): [N, N] int64, N = rows * columns."""
    rows, columns = grid
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    row, column = row.flatten(), column.flatten()
    row_offset = row[:, None] - row[None, :] + rows - 1
    column_offset = column[:, None] - column[None, :] + columns - 1
    return row_offset * (2 * columns - 1) + column_offset
