"""Whether two images share a part: one is cut out of the other, pasted into it, or both show some of the same scene.

Bright points of an image are its landmarks; the hash of what is around each finds it again in another image. Landmarks
that agree on how far one image is shifted against the other tell an overlap (as in audio search, Wang, ISMIR 2003), or
few of them and the correlation of all that the images would share. So no image is correlated with all others.

Found is what has the same scale and orientation, whatever its brightness. Of parts of real scenes, stored as JPEG of
quality 75, it found all of 96 px a side, 93 % or more of 64 px, 70 % of 48 px and 15 % of 32 px. Not found is what is
scaled (by 10 % and more), turned, flipped or filtered.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from hivit_mae.prepare.cutting import Picture, Window
from hivit_mae.prepare.likeness import Hashes, Indices, NearHashes, sign_hashes
from saratrx import sar_files
from saratrx.grey_scale import Grey
from saratrx.reading import AS_DEFAULT, Reading

BLUR = 1.5  # px, before landmarks are looked for
APART = 8  # px from each landmark to any brighter point
PATCH = 24  # px a side, around a landmark, that are hashed
RADIUS = 3  # bits that may differ, of 63
ENOUGH_VOTES = 3  # landmarks that agree on the shift
ENOUGH_CORRELATION = (
    0.6  # of what would be shared, where fewer do; chance gave up to 0.5, chips pasted into clutter 0.7
)


@dataclass(frozen=True)
class Piece:
    """Where pixels are: a window of an image file, read in some way; `name` is for people."""

    name: str
    path: Path
    window: Window
    reading: Reading = AS_DEFAULT

    def read(self) -> Grey:
        """Read it, uint8 [H, W]; raises ImageError."""
        with sar_files.open(self.path) as image:
            return Picture(image, self.reading).read(self.window)


def landmarks(image: Grey) -> tuple[Indices, Hashes]:
    """Find the bright points of an image [H, W]: row and column [N, 2], and the hashes of what is around them [N]."""
    half = PATCH // 2
    if min(image.shape) < PATCH + 1:
        return np.empty((0, 2), np.int64), np.empty(0, np.uint64)
    values = image.astype(np.float32)
    smooth = cv2.GaussianBlur(values, (0, 0), BLUR)
    around = np.ones((2 * APART + 1, 2 * APART + 1), np.uint8)
    is_top = (smooth >= cv2.dilate(smooth, around)) & (smooth > cv2.erode(smooth, around))
    rows, columns = np.nonzero(is_top[half:-half, half:-half])
    patches = np.lib.stride_tricks.sliding_window_view(values, (PATCH, PATCH))[rows, columns]
    return np.stack([rows, columns], axis=1) + half, sign_hashes(patches)


class Landmarks:
    """The landmarks of all pieces that are to be kept out."""

    def __init__(self, pieces: list[Piece], found: list[tuple[Indices, Hashes]]) -> None:
        self.pieces = pieces
        self.owners = np.repeat(np.arange(len(found)), [len(hashes) for _, hashes in found])
        self.places = np.concatenate([np.empty((0, 2), np.int64), *(places for places, _ in found)])
        self.near = NearHashes(np.concatenate([np.empty(0, np.uint64), *(hashes for _, hashes in found)]), RADIUS)

    def overlap(self, image: Grey) -> str | None:
        """Name a piece that shares a part with an image, and where the image lies in it; None if there is none."""
        places, hashes = landmarks(image)
        votes: Counter[tuple[int, int, int]] = Counter()
        for query, found in self.near.pairs(hashes):
            shifts = self.places[found] - places[query]
            votes.update(zip(self.owners[found].tolist(), *shifts.T.tolist(), strict=True))
        for (owner, down, right), count in sorted(votes.items(), key=lambda each: (-each[1], each[0])):
            piece = self.pieces[owner]
            if count >= ENOUGH_VOTES or shared_correlation(image, piece.read(), down, right) >= ENOUGH_CORRELATION:
                return f"{piece.name} at row {piece.window.top + down}, column {piece.window.left + right}"
        return None


def shared_correlation(image: Grey, other: Grey, down: int, right: int) -> float:
    """Correlate what two images share if the first lies `down` and `right` pixels in the second; 0 if that is small."""
    top, left = max(0, down), max(0, right)
    bottom, end = min(other.shape[0], down + image.shape[0]), min(other.shape[1], right + image.shape[1])
    if bottom - top < PATCH or end - left < PATCH:
        return 0.0
    return correlation(image[top - down : bottom - down, left - right : end - right], other[top:bottom, left:end])


def correlation(one: Grey, other: Grey) -> float:
    """Correlate the square roots of two images of one shape, lest a few bright points decide; 0 if one is constant."""
    left, right = (np.sqrt(image, dtype=np.float32) for image in (one, other))
    left, right = left - left.mean(), right - right.mean()
    norm = float(np.linalg.norm(left) * np.linalg.norm(right))
    return float((left * right).sum()) / norm if norm > 0 else 0.0
