"""Copies of an image are known by it, in any orientation; other images are not."""

from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image

from hivit_mae.prepare import likeness
from hivit_mae.prepare.likeness import (
    LEAST_CORRELATION,
    NearHashes,
    near_duplicates,
    oriented,
    oriented_hashes,
    perceptual_hash,
    pixel_hash,
    thumb,
)


def picture(seed, height=90, width=120):
    """Speckle with some bright points."""
    rng = np.random.default_rng(seed)
    values = rng.gamma(1.0, 30.0, (height, width))
    for row, column in rng.integers(10, min(height, width) - 10, (12, 2)):
        values[row - 3 : row + 4, column - 3 : column + 4] += rng.uniform(80, 250)
    return cv2.GaussianBlur(values, (0, 0), 1.0).clip(0, 255).astype(np.uint8)


def compressed(image, quality):
    """The same image through JPEG."""
    file = BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def pairs_of(images, radius=4):
    hashes = np.array([perceptual_hash(image) for image in images], np.uint64)
    thumbs = np.array([thumb(image) for image in images])
    earlier, later, correlation = near_duplicates(hashes, radius, lambda indices: thumbs[indices])
    assert (correlation >= LEAST_CORRELATION).all()
    return set(zip(earlier.tolist(), later.tolist(), strict=True))


def test_the_hash_is_the_signs_of_a_cosine_transform():
    image = picture(0, 32, 32)
    places = np.arange(32)
    cosines = np.cos(np.pi * (2 * places + 1) * np.arange(8)[:, None] / 64)  # [8, 32]
    signs = cosines @ image.astype(np.float64) @ cosines.T > 0
    signs[0, 0] = False
    assert perceptual_hash(image) == int("".join(map(str, signs.astype(int).ravel())), 2)


def test_hashes_of_orientations_follow_from_one():
    images = [picture(seed, 32, 32) for seed in range(20)]
    found = oriented_hashes(np.array([perceptual_hash(image) for image in images], np.uint64))
    wanted = [[perceptual_hash(oriented(image, number)) for number in range(8)] for image in images]
    assert found.tolist() == wanted
    assert len(set(wanted[0])) == 8


@pytest.mark.parametrize("radius", [0, 3, 8])
def test_near_hashes_are_those_that_a_full_comparison_finds(radius, monkeypatch):
    monkeypatch.setattr(likeness, "PAIRS_AT_ONCE", 1000)  # several rounds
    rng = np.random.default_rng(1)
    base = rng.integers(0, 2**63, 300, dtype=np.uint64)
    queries = base[rng.permutation(300)[:200]].copy()
    for bits in range(200):
        for bit in rng.permutation(64)[: bits % 12]:
            queries[bits] ^= np.uint64(1) << np.uint64(bit)
    distance = np.bitwise_count(queries[:, None] ^ base)
    wanted = list(zip(*np.nonzero(distance <= radius), strict=True))
    found = [pair for q, b in NearHashes(base, radius).pairs(queries) for pair in zip(q, b, strict=True)]
    assert len(wanted) > 10
    assert sorted(found) == sorted(wanted)


def test_copies_are_found_and_others_are_not():
    image = picture(0)
    images = [
        image,
        compressed(image, 60),
        (image * 0.7).astype(np.uint8),
        cv2.resize(image, (150, 100), interpolation=cv2.INTER_AREA),
        *(np.ascontiguousarray(oriented(image, number)) for number in range(1, 8)),
    ]
    copies = len(images)
    images += [picture(seed) for seed in range(1, 30)]
    found = pairs_of(images)
    assert {(0, other) for other in range(1, copies)} <= found
    assert max(other for _, other in found) < copies


def test_a_near_hash_alone_is_no_copy(monkeypatch):
    monkeypatch.setattr(likeness, "LEAST_CORRELATION", -1.0)
    images = [picture(seed, 64, 64) for seed in range(2)]
    thumbs = np.array([thumb(image) for image in images])
    same = np.zeros(2, np.uint64)
    _, _, correlation = near_duplicates(same, 0, lambda indices: thumbs[indices])
    wanted = max(np.corrcoef(oriented(images[0], o).ravel(), images[1].ravel())[0, 1] for o in range(8))
    assert correlation.max() == pytest.approx(wanted, abs=2e-3)
    assert wanted < 0.5


def test_the_pixel_hash_knows_the_shape():
    image = picture(0)
    assert pixel_hash(image) == pixel_hash(image.copy())
    assert pixel_hash(image) != pixel_hash(image.reshape(120, 90))
    assert pixel_hash(image[:, ::2]) == pixel_hash(image[:, ::2].copy())
