"""Shared parts of two images are found where they lie, and nothing is found where there are none."""

import cv2
import numpy as np
import pytest
from PIL import Image
from test_prepare_likeness import compressed

from hivit_mae.prepare.cutting import Window
from hivit_mae.prepare.overlap import Landmarks, Piece, correlation, landmarks, shared_correlation


def clutter(seed, height, width):
    rng = np.random.default_rng(seed)
    values = cv2.GaussianBlur(rng.gamma(1.0, 60.0, (height, width)), (0, 0), 1.2)
    return values.clip(0, 255).astype(np.uint8)


def chip(seed):
    """A bright target in speckle, 96 px."""
    image = clutter(seed, 96, 96).astype(float)
    rng = np.random.default_rng(1000 + seed)
    for row, column in rng.integers(32, 64, (15, 2)):
        image[row : row + 3, column : column + 3] += 150
    return cv2.GaussianBlur(image, (0, 0), 0.8).clip(0, 255).astype(np.uint8)


def known(folder, images):
    pieces = []
    for number, image in enumerate(images):
        path = folder / f"{number}.png"
        Image.fromarray(image).save(path)
        pieces.append(Piece(path.name, path, Window(0, 0, *image.shape)))
    return Landmarks(pieces, [landmarks(piece.read()) for piece in pieces])


def test_a_chip_cut_out_of_a_scene_is_found_in_its_place(tmp_path):
    scenes = [clutter(seed, 300, 400) for seed in range(3)]
    bright = known(tmp_path, scenes)
    assert bright.overlap(scenes[1][50:150, 211:311]) == "1.png at row 50, column 211"
    assert bright.overlap(compressed(scenes[2][50:150, 211:311], 70)) == "2.png at row 50, column 211"
    half = np.concatenate([scenes[0][100:200, 350:], clutter(9, 100, 60)], axis=1)
    assert bright.overlap(half) == "0.png at row 100, column 350"
    darker = (scenes[0][100:200, 200:300] * 0.5).astype(np.uint8)
    assert bright.overlap(darker) == "0.png at row 100, column 200"
    for seed in range(10, 30):
        assert bright.overlap(clutter(seed, 200, 200)) is None


def test_a_scene_that_a_chip_was_pasted_into_is_found(tmp_path):
    chips = [chip(seed) for seed in range(10)]
    bright = known(tmp_path, chips)
    scene = clutter(50, 300, 300)
    assert bright.overlap(scene) is None
    scene[120:216, 33:129] = chips[7]
    assert bright.overlap(compressed(scene, 75)) == "7.png at row -120, column -33"
    assert bright.overlap(chip(70)) is None


def test_one_point_alike_is_no_overlap(tmp_path):
    one, other = clutter(0, 150, 150), clutter(1, 150, 150)
    one[60:63, 60:63] = 255
    other[54:80, 34:60] = one[48:74, 48:74]
    (places, hashes), (others, other_hashes) = landmarks(one), landmarks(other)
    alike = np.bitwise_count(hashes[:, None] ^ other_hashes) <= 3
    assert alike.sum() == 1
    assert (others[alike.any(0)] - places[alike.any(1)]).tolist() == [[6, -14]]
    assert known(tmp_path, [one]).overlap(other) is None


def test_images_without_landmarks_have_no_overlap(tmp_path):
    bright = known(tmp_path, [chip(0), np.full((50, 50), 9, np.uint8), chip(1)[:20, :20]])
    assert bright.overlap(np.zeros((100, 100), np.uint8)) is None
    assert bright.overlap(chip(0)[:20, :20]) is None
    assert known(tmp_path, []).overlap(chip(0)) is None


def test_landmarks_move_with_the_image():
    image = clutter(0, 200, 200)
    places, hashes = landmarks(image)
    moved, moved_hashes = landmarks(image[30:, 50:])
    shifted = {(row - 30, column - 50): value for (row, column), value in zip(places, hashes, strict=True)}
    inner = [place for place in map(tuple, moved) if min(place) > 20]
    assert len(inner) > 40
    found = dict(zip(map(tuple, moved), moved_hashes, strict=True))
    assert all(shifted[place] == found[place] for place in inner)


def test_correlations_are_those_of_numpy():
    one, other = chip(0), chip(1)
    wanted = np.corrcoef(np.sqrt(one.ravel()), np.sqrt(other.ravel()))[0, 1]
    assert correlation(one, other) == pytest.approx(wanted, abs=1e-4)
    assert correlation(one, np.zeros_like(one)) == 0
    part = one[20:90, 10:80]
    assert shared_correlation(part, one, 20, 10) == pytest.approx(1, abs=1e-5)
    assert shared_correlation(one, part, -20, -10) == pytest.approx(1, abs=1e-5)
    assert shared_correlation(one, other, 80, 0) == 0  # 16 rows are too few
