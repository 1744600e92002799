"""Images that are nearly the same, as one that was saved anew or scaled, in sets that were merged from several."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Sketch = NDArray[np.float32]

SIDE, FINE = 16, 64  # cells of a sketch, and of one that decides
ALIKE, SAME = 0.95, 0.9  # rank correlation of sketches that are looked at closely, and of images that are alike
SHARE_SEEN = 0.1  # of the fine cells that must not be black in both
ROWS = 1024  # of sketches that are compared at a time


def sketch(pixels: NDArray[np.uint8], side: int = SIDE) -> NDArray[np.float32]:
    """Mean grey levels of side x side cells: float32 [side * side], in [0, 255]."""
    return cv2.resize(pixels.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA).ravel()


def ranks(cells: NDArray[np.float32]) -> NDArray[np.float32]:
    """Ranks of cells, with the mean 0 and the length 1, so that their product is Spearman's correlation.

    A bright target counts no more than a cell of clutter, whose speckle no other image has. All 0 if all are alike.
    """
    _, places, counts = np.unique(cells, return_inverse=True, return_counts=True)
    centred = (np.cumsum(counts) - counts / 2)[places] - cells.size / 2  # equal ones share their mean rank
    return (centred / max(float(np.linalg.norm(centred)), 1e-12)).astype(np.float32)


def candidates(sketches: Sequence[Sketch]) -> Iterator[tuple[int, int]]:
    """Give pairs of places of sketches that are alike, the earlier one first."""
    if not sketches:
        return
    all_ranks = np.stack([ranks(each) for each in sketches])
    for start in range(0, len(all_ranks), ROWS):
        alike = all_ranks[start : start + ROWS] @ all_ranks[: start + ROWS].T > ALIKE
        for row, column in np.argwhere(alike):
            if column < start + row:
                yield int(column), int(start + row)


def likeness(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Rank correlation of two images in fine cells, but for those that are black in either; 0 if few are left."""
    cells = [sketch(pixels, FINE) for pixels in (first, second)]
    seen = (cells[0] > 0) & (cells[1] > 0)
    if seen.mean() < SHARE_SEEN:
        return 0.0
    return float(ranks(cells[0][seen]) @ ranks(cells[1][seen]))
