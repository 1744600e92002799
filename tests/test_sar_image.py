import os
from dataclasses import dataclass

import cv2
import golden
import numpy as np
import pytest
import rasterio
from PIL import Image

from saratrx import sar_files, sar_image
from saratrx.command_line import parse
from saratrx.errors import InputError
from saratrx.grey_scale import REMAPS, GreyScale, Remap, doubts
from saratrx.sar_image import ImageError, read, to_uint8

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (20, 30), dtype=np.uint8)
SIXTEEN = RNG.integers(0, 65536, (20, 30), dtype=np.uint16)
AMPLITUDE = RNG.gamma(2.0, 100.0, (20, 30)).astype(np.float32)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".PNG"])
def test_8_bit_is_taken_as_it_is(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(GREY).save(path)
    assert np.array_equal(read(path), GREY)


def test_npy_of_8_bit_is_taken_as_it_is(tmp_path):
    for name, values in {"hw": GREY, "1hw": GREY[None], "hw1": GREY[..., None]}.items():
        np.save(tmp_path / f"{name}.npy", values)
        assert np.array_equal(read(tmp_path / f"{name}.npy"), GREY)


def test_jpeg(tmp_path):
    smooth = np.tile(np.arange(0, 240, 8, dtype=np.uint8), (20, 1))
    Image.fromarray(smooth).save(tmp_path / "a.jpeg", quality=95)
    found = read(tmp_path / "a.jpeg")
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - smooth).max() <= 4


def test_colours_become_luma_and_transparency_goes(tmp_path):
    colours = RNG.integers(0, 256, (5, 6, 4), dtype=np.uint8)
    Image.fromarray(colours).save(tmp_path / "a.png")
    expected = colours[..., :3] @ np.array([0.299, 0.587, 0.114])
    assert np.abs(read(tmp_path / "a.png") - expected).max() <= 1


def test_palette(tmp_path):
    image = Image.fromarray(GREY // 128)
    image.putpalette([10, 10, 10, 200, 200, 200])
    image.save(tmp_path / "a.png")
    assert np.array_equal(read(tmp_path / "a.png"), np.where(GREY // 128, 200, 10))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_is_remapped(tmp_path, suffix):
    Image.fromarray(SIXTEEN).save(tmp_path / f"a{suffix}")
    assert np.array_equal(read(tmp_path / f"a{suffix}"), to_uint8(SIXTEEN))


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_float_tiff_is_remapped(tmp_path, kind):
    cv2.imwrite(str(tmp_path / "a.tif"), AMPLITUDE.astype(kind))
    assert np.array_equal(read(tmp_path / "a.tif"), to_uint8(AMPLITUDE))


@pytest.mark.parametrize(
    "kind", [np.float16, np.float32, np.float64, np.int16, np.uint16, np.uint32, np.complex64, bool]
)
def test_npy_of_any_number_is_remapped(tmp_path, kind):
    values = (AMPLITUDE * np.exp(1j * AMPLITUDE)).astype(kind) if kind is np.complex64 else AMPLITUDE.astype(kind)
    np.save(tmp_path / "a.npy", values)
    expected = to_uint8(AMPLITUDE if kind is np.complex64 else values)
    assert np.abs(read(tmp_path / "a.npy").astype(int) - expected).max() <= 1


def test_remap_is_linear_with_the_brightest_half_per_cent_clipped():
    values = np.arange(10001, dtype=np.float64)
    grey = to_uint8(values)
    assert grey[0] == 0
    assert grey[9950] == 255 == grey[-1]
    assert grey[4975] in (127, 128)
    assert np.abs(grey.astype(int) - to_uint8(values * 1e-6)).max() <= 1  # whatever the scale


def test_remap_of_decibels_starts_at_the_darkest():
    decibels = np.linspace(-30, 0, 10001)
    grey = to_uint8(decibels)
    assert (grey[0], grey[-1]) == (0, 255)
    assert grey[5000] in (127, 128)


def test_remap_of_odd_images():
    assert not to_uint8(np.zeros((3, 3), np.float32)).any()
    assert not to_uint8(np.full((3, 3), -7.0)).any()
    point = np.zeros((100, 100), np.uint16)
    point[50, 50] = 900
    assert to_uint8(point)[50, 50] == 255
    holes = AMPLITUDE.copy()
    holes[:3] = np.nan
    holes[3, 3] = np.inf
    grey = to_uint8(holes)
    assert not grey[:3].any()
    assert grey[3, 3] == 0
    with pytest.raises(ValueError, match="no finite value"):
        to_uint8(np.full((2, 2), np.nan))


def test_files_that_are_refused(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "whole.jpg")
    jpeg = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "torn.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    Image.fromarray(SIXTEEN).save(tmp_path / "whole.png")
    png = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "torn.png").write_bytes(png[: len(png) // 2])
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.tif").write_text("no image")
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "torn.npy", AMPLITUDE)
    (tmp_path / "torn.npy").write_bytes((tmp_path / "torn.npy").read_bytes()[:200])
    np.save(tmp_path / "channels.npy", np.zeros((2, 20, 30), np.float32))
    np.save(tmp_path / "nothing.npy", np.zeros((0, 5), np.float32))
    np.save(tmp_path / "nan.npy", np.full((5, 5), np.nan))
    np.save(tmp_path / "words.npy", np.array([["a", "b"]]))
    cv2.imwrite(str(tmp_path / "colours16.png"), np.dstack([SIXTEEN] * 3))
    cv2.imwrite(str(tmp_path / "colours32.tif"), np.dstack([AMPLITUDE] * 3))
    (tmp_path / "folder.png").mkdir()
    refused = [path for path in tmp_path.iterdir() if path.stem != "whole"] + [tmp_path / "absent.png"]
    assert len(refused) == 14
    for path in refused:
        with pytest.raises(ImageError, match=path.name):
            read(path)


@pytest.mark.filterwarnings("ignore")  # Pillow tells of every odd tag
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "b.tif", "a.npy"])
def test_damaged_files_raise_nothing_else(tmp_path, name):
    path = tmp_path / name
    if name == "a.npy":
        np.save(path, AMPLITUDE)
    elif name == "b.tif":
        cv2.imwrite(str(path), AMPLITUDE.astype(np.float64))
    else:
        Image.fromarray(GREY).save(path)
    content, refused = path.read_bytes(), 0
    for number in range(150):
        rng = np.random.default_rng(number)
        changed = np.frombuffer(content[: rng.integers(1, len(content) + 1)], np.uint8).copy()
        changed[rng.integers(0, min(len(changed), 300), 3)] = rng.integers(0, 256, 3)
        path.write_bytes(changed.tobytes())
        try:
            assert read(path).dtype == np.uint8
        except ImageError:
            refused += 1
    assert refused > 50


def test_real_images():
    if not (golden.SHARED / "data").is_dir():
        pytest.skip(f"no images in {golden.SHARED / 'data'}")
    kinds = {
        path.suffix: path
        for path in sorted((golden.SHARED / "data").rglob("*.*"))
        if path.suffix in sar_image.EXTENSIONS
    }
    assert set(kinds) == {".jpeg", ".jpg", ".tif", ".png"}
    for path in kinds.values():
        assert read(path).std() > 1


def write_tiff(path, values, **profile):
    bands = values if values.ndim == 3 else values[None]
    count, height, width = bands.shape
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=count, dtype=bands.dtype, **profile
    ) as file:
        file.write(bands)
    return path


DECIBELS = (20 * np.log10(AMPLITUDE) - 60).astype(np.float32)


@pytest.mark.parametrize("no_data", [-9999, -32768, 0])
@pytest.mark.parametrize("kind", ["float32", "int16"])
def test_declared_no_data_is_black_and_does_not_count(tmp_path, no_data, kind):
    values = np.rint(DECIBELS * 100).astype(kind)
    expected = to_uint8(values[:, 8:])
    values[:, :8] = no_data
    grey = read(write_tiff(tmp_path / "a.tif", values, nodata=no_data))
    assert not grey[:, :8].any()
    assert np.array_equal(grey[:, 8:], expected)


def test_zeros_that_fill_an_image_are_no_data_where_nothing_is_declared(tmp_path):
    values = DECIBELS.copy()
    values[:6] = 0
    grey = read(write_tiff(tmp_path / "a.tif", values))
    assert not grey[:6].any()
    assert np.array_equal(grey[6:], to_uint8(DECIBELS[6:]))
    declared = read(write_tiff(tmp_path / "b.tif", values, nodata=-1))
    assert (declared[:6] == 255).all()  # 0 dB, brighter than all the rest


def test_signed_bytes_and_large_whole_numbers_keep_their_order(tmp_path):
    signed = (GREY.astype(int) - 128).astype(np.int8)
    expected = to_uint8(signed.astype(np.float64))
    assert np.abs(read(write_tiff(tmp_path / "a.tif", signed)).astype(int) - expected).max() <= 1
    large = (AMPLITUDE / AMPLITUDE.max() * 4.2e9).astype(np.uint32)
    assert np.abs(read(write_tiff(tmp_path / "b.tif", large)).astype(int) - to_uint8(large)).max() <= 1


@pytest.mark.parametrize("bits", [8, 16])
def test_white_zero_is_turned(tmp_path, bits):
    values = GREY if bits == 8 else SIXTEEN
    path = write_tiff(tmp_path / "a.tif", 2**bits - 1 - values, photometric="MINISWHITE")
    assert np.array_equal(read(path), values if bits == 8 else to_uint8(values))


def test_white_zero_without_a_largest_value_is_refused(tmp_path):
    path = write_tiff(tmp_path / "a.tif", AMPLITUDE, photometric="MINISWHITE")
    with pytest.raises(ImageError, match=r"a\.tif has float32 values whose 0 is white"):
        read(path)


@pytest.mark.parametrize("values", [GREY // 128, GREY // 16], ids=["1 bit", "4 bits"])
def test_fewer_bits_fill_the_scale(tmp_path, values):
    bits = 1 if values.max() == 1 else 4
    path = write_tiff(tmp_path / "a.tif", values, nbits=bits)
    assert np.array_equal(read(path), values * (255 // (2**bits - 1)))


def test_a_tiff_whose_name_is_no_utf_8_is_opened_in_windows(tmp_path):
    path = write_tiff(tmp_path / "a.tif", GREY).rename(os.fsdecode(os.fsencode(tmp_path) + b"/\xcb\xf0.tif"))
    with sar_files.open(path) as image:
        assert np.array_equal(image.read(((2, 9), (3, 20))), GREY[2:9, 3:20])


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("kind", ["uint16", "int16", "float32", "complex64"])
def test_several_bands_are_refused_by_their_number(tmp_path, count, kind):
    path = write_tiff(tmp_path / "a.tif", np.stack([SIXTEEN // 4] * count).astype(kind))
    with pytest.raises(ImageError, match=rf"a\.tif has {count} bands of {kind}"):
        read(path)


def test_a_tiff_is_read_by_no_other_format_and_without_files_beside_it(tmp_path):
    write_tiff(tmp_path / "real.tif", GREY)
    (tmp_path / "a.tif").write_text(
        '<VRTDataset rasterXSize="30" rasterYSize="20"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f"<SourceFilename>{tmp_path / 'real.tif'}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    with pytest.raises(ImageError, match=r"a\.tif"):
        read(tmp_path / "a.tif")
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    with pytest.raises(ImageError, match=r"a\.png"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.npy", "a.bmp"])
def test_the_limit_of_pixels_is_the_products_own(tmp_path, name, monkeypatch):
    path = tmp_path / name
    if name == "a.npy":
        np.save(path, GREY)
    else:
        Image.fromarray(GREY).save(path)
    monkeypatch.setenv("SARATRX_MAX_PIXELS", "599")
    with pytest.raises(ImageError, match=r"20 x 30 pixels: more than SARATRX_MAX_PIXELS=599 allows"):
        read(path)
    monkeypatch.setenv("SARATRX_MAX_PIXELS", "600")
    assert np.array_equal(read(path), GREY)
    monkeypatch.setenv("SARATRX_MAX_PIXELS", "many")
    with pytest.raises(InputError, match="SARATRX_MAX_PIXELS=many"):
        read(path)


def test_large_images_are_remapped_in_strips_like_small_ones():
    values = RNG.gamma(2.0, 100.0, (2000, 2040)).astype(np.float32)
    scale = GreyScale.of(values)
    assert np.array_equal(to_uint8(values), scale.grey(values))


def remapped(values, remap):
    """Each remap written out, for amplitudes above 0 of which none is no data."""
    amplitude = np.abs(values).astype(np.float64)
    ordered = np.sort(amplitude.ravel())
    place = 0.995 * (len(ordered) - 1)
    low = int(place)
    white = ordered[low] + (place - low) * (ordered[low + 1] - ordered[low])
    share = np.minimum(amplitude / white, 1)
    mean = ordered.mean()
    as_density = 30 + 225 * (np.log10(amplitude) - np.log10(0.8 * mean)) / np.log10(40)
    grey = {
        "percentile": 255 * share,
        "linear": 255 * amplitude / ordered[-1],
        "sqrt": 255 * share**0.5,
        "decibel": 255 * (20 * np.log10(share) + 50) / 50,
        "log": 255 * np.log(1 + share) / np.log(2),
        "density": as_density,
        "pedf": np.where(np.minimum(as_density, 255) > 128, (np.minimum(as_density, 255) + 128) / 2, as_density),
    }
    return grey[remap].clip(0, 255)


@pytest.mark.parametrize("remap", REMAPS)
@pytest.mark.parametrize("values", [AMPLITUDE, SIXTEEN // 2 + 1, AMPLITUDE * np.exp(1j * AMPLITUDE) / 1e4])
def test_remaps_are_as_their_formulas(tmp_path, remap, values):
    np.save(tmp_path / "a.npy", values)
    grey = read(tmp_path / "a.npy", remap=remap)
    assert np.abs(grey - remapped(values, remap)).max() <= 0.51  # rounding
    assert len(np.unique(grey)) > 50


@pytest.mark.parametrize("remap", REMAPS)
def test_remaps_of_odd_images(remap):
    assert not to_uint8(np.zeros((9, 9), np.float32), remap).any()
    assert len(np.unique(to_uint8(np.full((9, 9), 7.0), remap))) == 1
    negative = to_uint8(np.full((9, 9), -7.0), remap)
    assert not negative.any()
    with pytest.raises(ValueError, match="no finite value"):
        to_uint8(np.full((2, 2), np.nan), remap)
    point = np.zeros((100, 100), np.uint16)
    point[50, 50] = 900
    assert to_uint8(point, remap).argmax() == 5050
    holes = AMPLITUDE.copy()
    holes[:3], holes[3, :4], holes[4, 0] = np.nan, np.inf, -np.inf
    grey = to_uint8(holes, remap)
    assert not grey[:3].any() and not grey[3, :4].any() and not grey[4, 0]
    seen = np.isfinite(holes)
    assert np.array_equal(grey[seen], to_uint8(holes[seen], remap))
    filled = AMPLITUDE.copy()
    filled[:6] = 0  # what the radar did not see
    assert np.array_equal(to_uint8(filled, remap)[6:], to_uint8(AMPLITUDE[6:], remap))
    order = np.argsort(AMPLITUDE.ravel())
    assert (np.diff(to_uint8(AMPLITUDE, remap).ravel()[order].astype(int)) >= 0).all()


@pytest.mark.parametrize("remap", REMAPS[1:])
def test_no_remap_but_percentile_gives_negative_values_grey(remap):
    values, dark = AMPLITUDE.copy(), AMPLITUDE.copy()
    values[:4] *= -1
    dark[:4] = 1e-30
    grey = to_uint8(values, remap)
    assert not grey[:4].any()
    assert np.array_equal(grey, to_uint8(dark, remap))


@pytest.mark.parametrize("remap", REMAPS)
def test_8_bits_stay_as_they_are_under_every_remap(tmp_path, remap):
    write_tiff(tmp_path / "a.tif", GREY)
    Image.fromarray(GREY).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", GREY)
    for name in ("a.tif", "a.png", "a.npy"):
        assert np.array_equal(read(tmp_path / name, remap=remap), GREY)
    assert np.array_equal(sar_image.decode("a.png", (tmp_path / "a.png").read_bytes(), remap=remap), GREY)


def test_values_that_can_be_no_amplitudes_are_doubted():
    assert doubts(AMPLITUDE) == doubts(AMPLITUDE * 1j) == doubts(np.full((3, 3), np.nan)) == []
    assert "95% of the values are negative, as decibels" in doubts(np.linspace(-95, 5, 101)[:100])[0]
    saturated = SIXTEEN // 2
    saturated[0, :7] = 65535
    (said,) = doubts(saturated)
    assert said.startswith("1.2% of the values are 65,535, the largest of uint16")
    saturated[0, :2] = 0
    assert doubts(saturated) == []
    as_read = np.where(saturated == 0, np.nan, saturated)
    as_read[1] = 65535
    assert "saturated" in doubts(as_read, np.dtype(np.uint16))[0]


def test_an_open_image_tells_its_doubts_by_channel(tmp_path):
    write_tiff(tmp_path / "a.tif", np.stack([AMPLITUDE, DECIBELS - 90]))
    with sar_files.open(tmp_path / "a.tif") as image:
        (said,) = image.warnings
    assert said.startswith("band2: 100% of the values are negative")


def test_the_remap_option():
    @dataclass(frozen=True)
    class Options:
        """Images."""

        remap: Remap = sar_image.remap_option()  # noqa: RUF009 -- makes a field

    assert parse([Options], "Try.", [])[0].remap == "percentile"
    assert parse([Options], "Try.", ["--remap", "density"])[0].remap == "density"
    with pytest.raises(SystemExit):
        parse([Options], "Try.", ["--remap", "other"])
