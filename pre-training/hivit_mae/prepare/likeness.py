"""Which images are alike: equal pixels, and a perceptual hash whose near pairs are confirmed by their correlation.

The hash follows pHash (Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010), but for one
thing: a bit is the sign of a coefficient, not its side of the median. Flips and quarter turns only change signs and
transpose, so the hash of an image gives those of its eight orientations.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

from saratrx.grey_scale import Grey

Hashes = NDArray[np.uint64]
Indices = NDArray[np.int64]

SIDE = 8  # coefficients, in each direction, that become bits
BITS = SIDE * SIDE  # the first, of the mean, is always 0
THUMB = 64  # px a side of what is correlated; smaller, and views of a vehicle from near angles look alike
LEAST_CORRELATION = 0.95  # of near duplicates; chips of MSTAR that are 1 degree apart have less than 0.93
ORIENTATIONS = 8  # number o: transposed if o & 4, then upside down if o & 2, then left to right if o & 1
PAIRS_AT_ONCE = 1_000_000
THUMBS_AT_ONCE = 2_000  # pairs of them


def pixel_hash(image: Grey) -> str:
    """Hash height, width and pixels of an image: 32 hexadecimal digits."""
    height, width = image.shape
    digest = hashlib.sha256(f"{height} {width} ".encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()[:32]


def perceptual_hash(image: Grey) -> int:
    """Hash what an image [H, W] shows: 64 bits, of which few change with compression, brightness or size."""
    return int(sign_hashes(resized(image, 4 * SIDE)[None])[0])


def sign_hashes(patches: NDArray[np.float32]) -> Hashes:
    """Hash square patches [N, S, S] by the signs of their lowest 8 x 8 DCT coefficients: [N]."""
    bits = dctn(patches, axes=(1, 2))[:, :SIDE, :SIDE] > 0
    bits[:, 0, 0] = False
    return packed(bits)


def packed(bits: NDArray[np.bool_]) -> Hashes:
    """Bits [N, 8, 8] to hashes [N]."""
    return np.packbits(bits.reshape(-1, BITS), axis=1).view(">u8")[:, 0].astype(np.uint64)


def oriented_hashes(hashes: Hashes) -> Hashes:
    """Give the hashes [N, 8] of images in each orientation, from those as they are [N]."""
    bits = np.unpackbits(hashes.astype(">u8").view(np.uint8)).reshape(-1, SIDE, SIDE).astype(bool)
    odd = np.arange(SIDE) % 2 == 1
    found = np.empty((len(hashes), ORIENTATIONS), np.uint64)
    for orientation in range(ORIENTATIONS):
        turned = bits.swapaxes(1, 2) if orientation & 4 else bits
        turned = turned ^ (odd[:, None] & bool(orientation & 2)) ^ (odd & bool(orientation & 1))
        found[:, orientation] = packed(turned)
    return found


def oriented(images: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Flip and turn images [..., H, W] as orientations are counted."""
    turned = images.swapaxes(-1, -2) if orientation & 4 else images
    turned = turned[..., ::-1, :] if orientation & 2 else turned
    return turned[..., ::-1] if orientation & 1 else turned


def resized(image: Grey, side: int) -> NDArray[np.float32]:
    """Bring an image [H, W] to [side, side], whatever its shape: averaged, or interpolated where it is small."""
    how = cv2.INTER_LINEAR if min(image.shape) < side else cv2.INTER_AREA
    return cv2.resize(image.astype(np.float32), (side, side), interpolation=how)


def thumb(image: Grey) -> NDArray[np.float16]:
    """Make of an image what is correlated: [64, 64] of mean 0 and norm 1, or 0 if it is constant."""
    small = resized(image, THUMB)
    small -= small.mean()
    return (small / max(float(np.linalg.norm(small)), 1e-6)).astype(np.float16)


class NearHashes:
    """Hashes [N] among which those near to others are found, without comparing all with all.

    Of radius + 1 bands of bits one must be equal, so only hashes with an equal band are compared: multi-index hashing
    (Norouzi, Punjani and Fleet, CVPR 2012).
    """

    def __init__(self, hashes: Hashes, radius: int) -> None:
        self.hashes, self.radius = hashes, radius
        edges = np.linspace(0, BITS, radius + 2).round().astype(int).tolist()
        self.masks = [np.uint64(2**high - 2**low) for low, high in itertools.pairwise(edges)]
        self.orders = [np.argsort(hashes & mask, kind="stable") for mask in self.masks]

    def pairs(self, queries: Hashes) -> Iterator[tuple[Indices, Indices]]:
        """Find all pairs that differ in at most `radius` bits: indices of queries [P] and of hashes [P], each once."""
        for number, (mask, order) in enumerate(zip(self.masks, self.orders, strict=True)):
            keys = self.hashes[order] & mask
            first, last = (np.searchsorted(keys, queries & mask, side) for side in ("left", "right"))
            ends = (last - first).cumsum()
            start = 0
            while start < len(queries):
                before = ends[start - 1] if start else 0
                stop = max(start + 1, int(np.searchsorted(ends, before + PAIRS_AT_ONCE, "right")))
                counts = (last - first)[start:stop]
                query = np.repeat(np.arange(start, stop), counts)
                place = np.arange(len(query)) - np.repeat(counts.cumsum() - counts - first[start:stop], counts)
                found = order[place]
                difference = queries[query] ^ self.hashes[found]
                is_near = np.bitwise_count(difference) <= self.radius
                for earlier in self.masks[:number]:  # by which the pair was found already
                    is_near &= (difference & earlier) != 0
                yield query[is_near], found[is_near]
                start = stop


def near_duplicates(
    hashes: Hashes, radius: int, thumbs_of: Callable[[Indices], NDArray[np.float16]]
) -> tuple[Indices, Indices, NDArray[np.float32]]:
    """Find the pairs of images whose hashes are near, in any orientation of one, and whose thumbs correlate.

    Args:
        hashes: of all images [N].
        radius: bits that may differ.
        thumbs_of: gives the thumbs [M, 64, 64] of images, by ascending indices [M].

    Returns:
        Indices [P] of the earlier and of the later image, sorted by the later; their correlation [P].

    """
    found: list[Indices] = [np.empty((0, 3), np.int64)]
    for query, later in NearHashes(hashes, radius).pairs(oriented_hashes(hashes).reshape(-1)):
        earlier, orientation = query // ORIENTATIONS, query % ORIENTATIONS
        is_new = earlier < later
        found.append(np.stack([later[is_new], earlier[is_new], orientation[is_new]], axis=1))
    later, earlier, orientation = np.unique(np.concatenate(found), axis=0).T
    seen = np.union1d(earlier, later)
    thumbs = thumbs_of(seen)
    earlier_place, later_place = np.searchsorted(seen, earlier), np.searchsorted(seen, later)
    correlation = np.empty(len(later), np.float32)
    for number in range(ORIENTATIONS):
        members = np.nonzero(orientation == number)[0]
        for start in range(0, len(members), THUMBS_AT_ONCE):
            chosen = members[start : start + THUMBS_AT_ONCE]
            left = oriented(thumbs[earlier_place[chosen]].astype(np.float32), number)
            correlation[chosen] = (left * thumbs[later_place[chosen]].astype(np.float32)).sum((1, 2))
    is_alike = correlation >= LEAST_CORRELATION
    return earlier[is_alike], later[is_alike], correlation[is_alike]
