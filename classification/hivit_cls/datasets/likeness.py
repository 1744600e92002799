"""Which images are alike, as a run reads them: equal pixel for pixel, or near copies of each other."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from dassl.data.datasets import Datum
from saratrx.errors import InputError
from saratrx.reading import AS_DEFAULT, Reading

SIDE = 24  # pixels, at which images are compared
NEAR = 0.99  # correlation above which an image counts as a near copy of another
GROUPED = 0.97  # and above which two images are kept on one side: SAR-ACD's groups are the same from 0.95 to 0.98
TOGETHER = 64  # images that one thread reads in turn
ROWS = 1024  # of a product of matrices at a time
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Likeness:
    """What images are compared by.

    Args:
        digest: hash of shape and pixels, as 64 hexadecimal digits.
        small: uint8 [24 * 24], the image made small.

    """

    digest: str
    small: NDArray[np.uint8]


def likeness(path: str, reading: Reading = AS_DEFAULT) -> Likeness:
    """Read an image, once while its file does not change.

    Raises:
        InputError: if it cannot be read.

    """
    try:
        state = os.stat(path)  # noqa: PTH116 -- faster than Path's, and asked for every image
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    return _read(path, reading, state.st_mtime_ns, state.st_ctime_ns, state.st_size, state.st_ino)


@lru_cache(maxsize=200_000)
def _read(path: str, reading: Reading, *_: int) -> Likeness:
    pixels = reading.read(path)
    digest = hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).hexdigest()
    return Likeness(digest, cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA).reshape(-1))


def read_all(items: Sequence[Datum], reading: Reading = AS_DEFAULT) -> list[Likeness]:
    """Read images, several at a time."""

    def read(begin: int) -> list[Likeness]:
        return [likeness(item.impath, reading) for item in items[begin : begin + TOGETHER]]

    with ThreadPoolExecutor() as readers:
        return [each for part in readers.map(read, range(0, len(items), TOGETHER)) for each in part]


def unit_rows(items: Sequence[Datum], reading: Reading = AS_DEFAULT) -> Floats:
    """Give float32 [N, 576] whose products of rows are the correlations of the images; 0 for images of one value."""
    small = np.stack([each.small for each in read_all(items, reading)]).astype(np.float32)
    small -= small.mean(axis=1, keepdims=True)
    return small / np.linalg.norm(small, axis=1, keepdims=True).clip(1e-6)


def near_copies(
    test: Sequence[Datum], train: Sequence[Datum], reading: Reading = AS_DEFAULT
) -> list[tuple[Datum, Datum]]:
    """Find, for each test image that has a near copy in training, the nearest one."""
    tested, learnt = (tuple(sorted(items, key=lambda item: item.impath)) for items in (test, train))
    return _near_copies(tested, learnt, reading) if test and train else []


@lru_cache(maxsize=4)  # the parts of a fixed split are the same for every seed of a table
def _near_copies(test: tuple[Datum, ...], train: tuple[Datum, ...], reading: Reading) -> list[tuple[Datum, Datum]]:
    learnt = unit_rows(train, reading).T
    found = []
    for begin in range(0, len(test), ROWS):
        part = test[begin : begin + ROWS]
        correlation = unit_rows(part, reading) @ learnt
        nearest = correlation.argmax(axis=1)
        found += [
            (part[row], train[nearest[row]])
            for row in np.flatnonzero(correlation[np.arange(len(part)), nearest] > NEAR)
        ]
    return found


def groups(items: Sequence[Datum], reading: Reading = AS_DEFAULT) -> list[int]:
    """Give each image the number of its group: near copies, and near copies of these, are one group."""
    rows = unit_rows(items, reading)
    links = [
        np.argwhere(rows[begin : begin + ROWS] @ rows.T > GROUPED) + np.array([begin, 0])
        for begin in range(0, len(rows), ROWS)
    ]
    first, second = np.concatenate(links).T
    graph = csr_matrix((np.ones(len(first), bool), (first, second)), shape=(len(rows), len(rows)))
    numbers: list[int] = connected_components(graph, directed=False)[1].tolist()
    return numbers
