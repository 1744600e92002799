"""Large images are cut so that nothing is lost, window by window, and background is known as such."""

from contextlib import contextmanager

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
    Picture,
    Window,
    contrast,
    is_background,
    is_kept_all_the_same,
    readings,
    windows,
)
from saratrx import sar_files, sar_image
from saratrx.grey_scale import to_uint8
from saratrx.reading import AS_DEFAULT, Reading
from saratrx.sar_image import ImageError


@contextmanager
def open_picture(path, reading=AS_DEFAULT):
    with sar_files.open(path) as image:
        yield Picture(image, reading)


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


@pytest.mark.parametrize("size", [(193, 128), (100, 150), (1, 1), (900, 700)])
def test_the_middle_is_as_far_from_both_borders(size):
    for middle in (1, 64, 128, 800):
        found = windows(*size, 512, 64, middle)
        for axis, length in enumerate(size):
            begin = min((w.top, w.left)[axis] for w in found)
            end = max((w.top + w.height, w.left + w.width)[axis] for w in found)
            assert end - begin == min(length, middle)
            assert length - end - begin in (0, 1)
    assert windows(*size, 512, 64, 0) == windows(*size, 512, 64)


def write_geotiff(path, *bands):
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=bands[0].shape[0],
        width=bands[0].shape[1],
        count=len(bands),
        dtype=bands[0].dtype,
        crs="EPSG:32633",
        transform=from_origin(5e5, 5e6, 10, 10),
    ) as file:
        for number, values in enumerate(bands, start=1):
            file.write(values, number)


def scene():
    return np.random.default_rng(0).gamma(1.0, 900.0, (300, 250))


def as_tiff(path, values):
    write_geotiff(path, values.astype(np.uint16))


def as_array(path, values):
    np.save(path, values.astype(np.complex64))


def as_archive(path, values):
    np.savez(path, image=values.astype(np.float32))


def as_picture(path, values):
    Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(path)


@pytest.mark.parametrize("remap", ["percentile", "sqrt"])
@pytest.mark.parametrize(
    ("write", "kind"), [(as_tiff, "tif"), (as_array, "npy"), (as_archive, "npz"), (as_picture, "png")]
)
def test_a_window_of_any_format_is_a_part_of_the_whole(tmp_path, write, kind, remap):
    path = tmp_path / f"scene.{kind}"
    write(path, scene())
    whole = sar_image.read(path, remap=remap)
    with open_picture(path, Reading(remap)) as picture:
        assert (picture.height, picture.width) == whole.shape
        assert np.array_equal(picture.read(Window(17, 40, 200, 100)), whole[17:217, 40:140])


def test_the_remap_says_what_was_done(tmp_path):
    values = np.arange(2000).reshape(40, 50)
    Image.fromarray(values.astype(np.uint8)).save(tmp_path / "8.png")
    Image.fromarray(values.astype(np.uint16)).save(tmp_path / "16.png")
    np.save(tmp_path / "8.npy", values.astype(np.uint8))
    np.save(tmp_path / "complex.npy", values.astype(np.complex64))
    found = {}
    for path in tmp_path.iterdir():
        with open_picture(path, Reading("sqrt")) as picture:
            found[path.name] = picture.remap.split()
            assert picture.doubt == ""
    white = f"{np.percentile(values, 99.5):g}"
    assert found == {
        "8.png": ["none"],
        "16.png": ["sqrt", "0", "to", white],
        "8.npy": ["none"],
        "complex.npy": ["sqrt", "0", "to", white],
    }


def test_values_in_decibels_are_doubted(tmp_path):
    np.save(tmp_path / "0.npy", np.log10(scene() + 1e-9) * 20 - 90)
    with open_picture(tmp_path / "0.npy") as picture:
        assert "negative, as decibels are" in picture.doubt


def test_each_channel_is_read_by_itself_or_the_one_that_is_asked_for(tmp_path):
    path = tmp_path / "two.tif"
    bands = [scene().astype(np.uint16), scene()[::-1].astype(np.uint16)]
    write_geotiff(path, *bands)
    for channel, expected in (
        ("each", bands),
        ("1", bands[1:]),
        ("band1", bands[:1]),
        ("span", [np.hypot(bands[0] * 1.0, bands[1])]),
    ):
        with sar_files.open(path) as image:
            found = [
                Picture(image, each).read(Window(0, 0, 300, 250)) for each in readings(image, Reading("sqrt", channel))
            ]
        assert len(found) == len(expected)
        for grey, values in zip(found, expected, strict=True):
            assert np.array_equal(grey, to_uint8(values, "sqrt"))
    with pytest.raises(ImageError, match=r"two\.tif has 2 bands"), open_picture(path):
        pass


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
