"""Large images are cut so that nothing is lost, window by window, and background is known as such."""

import re

import cv2
import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin

from hivit_mae.prepare.cutting import (
    CELL,
    GUARD,
    RING,
    Window,
    contrast,
    is_background,
    is_kept_all_the_same,
    open_picture,
    windows,
)
from saratrx import sar_image
from saratrx.grey_scale import to_uint8
from saratrx.sar_image import ImageError


@pytest.mark.parametrize(("height", "width"), [(769, 400), (1000, 1000), (513, 3000), (100, 2000)])
def test_windows_cover_an_image_and_overlap(height, width):
    found = windows(height, width, 512, 64)
    covered = np.zeros((height, width), int)
    for window in found:
        assert (window.height, window.width) == (min(512, height), min(512, width))
        covered[window.top : window.top + window.height, window.left : window.left + window.width] += 1
    assert covered.min() == 1
    for starts, length in (({w.top for w in found}, height), ({w.left for w in found}, width)):
        steps = np.diff(sorted(starts))
        assert (steps <= 512 - 64).all()
        assert len(starts) == (1 if length <= 512 else -(-(length - 64) // 448))


def test_images_that_are_not_large_stay_whole():
    assert windows(768, 13, 512, 64) == [Window(0, 0, 768, 13)]


def test_contrast_is_that_of_a_plain_loop():
    rng = np.random.default_rng(0)
    image = rng.gamma(1.0, 40.0, (60, 70)).clip(0, 255).astype(np.uint8)
    image[:, :15] = 0  # no data
    largest = 0.0
    for row in range(60):
        for column in range(70):
            boxes = []
            for side in (CELL, GUARD, RING):
                half = side // 2
                box = image[max(0, row - half) : row + half + 1, max(0, column - half) : column + half + 1]
                boxes.append((box.sum(dtype=float), np.count_nonzero(box)))
            pixels = boxes[2][1] - boxes[1][1]
            if pixels:
                background = (boxes[2][0] - boxes[1][0]) / pixels + 1
                largest = max(largest, boxes[0][0] / CELL**2 / background)
    assert contrast(image) == pytest.approx(largest, rel=1e-4)


@pytest.mark.parametrize("mean", [6, 40])
def test_speckle_is_background_and_a_ship_is_not(mean):
    rng = np.random.default_rng(0)
    field = rng.normal(size=(2, 512, 512))
    amplitude = np.hypot(*(cv2.GaussianBlur(part, (0, 0), 0.6) for part in field))
    sea = amplitude / amplitude.mean() * mean
    sea[:, :100] = 0  # beyond the swath
    assert is_background(sea.clip(0, 255).astype(np.uint8))
    assert is_background(to_uint8(sea))
    sea[300:304, 300:310] += 8 * mean
    assert not is_background(sea.clip(0, 255).astype(np.uint8))
    assert not is_background(to_uint8(sea))


def test_the_share_of_background_that_stays_is_drawn_by_its_place():
    places = [f"a/{number}.png" for number in range(4000)]
    drawn = [is_kept_all_the_same(place, 0.05) for place in places]
    assert drawn == [is_kept_all_the_same(place, 0.05) for place in places]
    assert 140 < sum(drawn) < 260
    assert all(is_kept_all_the_same(place, 1) for place in places)
    assert not any(is_kept_all_the_same(place, 0) for place in places)


def write_geotiff(path, values):
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=values.shape[0],
        width=values.shape[1],
        count=1,
        dtype=values.dtype,
        crs="EPSG:32633",
        transform=from_origin(5e5, 5e6, 10, 10),
    ) as file:
        file.write(values, 1)


def test_a_window_of_a_geotiff_is_a_part_of_the_whole(tmp_path):
    path = tmp_path / "scene.tif"
    values = np.random.default_rng(0).gamma(1.0, 900.0, (300, 250)).astype(np.uint16)
    write_geotiff(path, values)
    whole = sar_image.read(path)
    with open_picture(path) as picture:
        assert (picture.height, picture.width) == whole.shape
        assert np.array_equal(picture.read(Window(17, 40, 200, 100)), whole[17:217, 40:140])
        low, high = re.fullmatch(r"linear (\S+) to (\S+)", picture.remap).groups()
    assert float(low) == 0
    assert float(high) == pytest.approx(np.percentile(values, 99.5), rel=1e-4)


def test_the_remap_says_what_was_stored(tmp_path):
    values = np.arange(2000).reshape(40, 50)
    Image.fromarray(values.astype(np.uint8)).save(tmp_path / "8.png")
    Image.fromarray(values.astype(np.uint16)).save(tmp_path / "16.png")
    np.save(tmp_path / "8.npy", values.astype(np.uint8))
    np.save(tmp_path / "complex.npy", values.astype(np.complex64))
    found = {}
    for path in tmp_path.iterdir():
        with open_picture(path) as picture:
            found[path.name] = picture.remap
    assert found == {"8.png": "none", "16.png": "linear", "8.npy": "none", "complex.npy": "linear"}


def test_torn_files_are_refused(tmp_path):
    path = tmp_path / "scene.tif"
    write_geotiff(path, np.random.default_rng(0).integers(0, 9000, (400, 400), np.uint16))
    content = path.read_bytes()
    path.write_bytes(content[:1000])
    with pytest.raises(ImageError, match=r"scene\.tif"), open_picture(path) as picture:
        picture.read(Window(0, 0, 400, 400))
    path.write_bytes(b"")
    with pytest.raises(ImageError, match=r"scene\.tif"), open_picture(path):
        pass
    with pytest.raises(ImageError, match="no such file"), open_picture(tmp_path / "none.tif"):
        pass
