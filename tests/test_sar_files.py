"""Each format, written by another hand, reads back to the bit; what is torn, hostile or ambiguous is refused."""

import io
import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.control
import sar_writers
import scipy.io
from PIL import Image

from saratrx import grey_scale, sar_files, sar_image
from saratrx.errors import InputError
from saratrx.sar_files.limits import ImageError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (20, 30), dtype=np.uint8)
SIXTEEN = RNG.integers(0, 65536, (20, 30), dtype=np.uint16)
MAGNITUDE = RNG.gamma(2.0, 100.0, (20, 30)).astype(np.float32)
PHASE = RNG.uniform(0, 2 * np.pi, (20, 30)).astype(np.float32)
COMPLEX = (MAGNITUDE * np.exp(1j * PHASE.astype(np.float64))).astype(np.complex64)
WINDOW = ((3, 11), (5, 19))
INSIDE = (slice(3, 11), slice(5, 19))


def refused(path, text, **how):
    """Expect one line that names the file and says that."""
    with pytest.raises(ImageError, match=text) as caught:
        sar_image.read(path, **how)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def reads_back(path, values, **how):
    """Expect the values, whole and in a window, from the file and from its content."""
    for content in (None, path.read_bytes()):
        with sar_files.open(path, content) as image:
            assert image.shape == values.shape
            for found, expected in (
                (image.read(**how), values),
                (image.read(WINDOW, **how), values[INSIDE]),
                (image.sample(**how), values),
            ):
                assert found.dtype == values.dtype
                assert np.array_equal(found, expected)
    with sar_files.open(path) as image:
        image.read(**how)
        return image


# --- MSTAR ---


@pytest.mark.parametrize("native", [b"", b"native" * 50])
def test_mstar_chips_keep_magnitude_phase_and_facts(tmp_path, native):
    path = tmp_path / "HB03787.004"
    path.write_bytes(
        sar_writers.mstar(MAGNITUDE, PHASE, native=native, RangePixelSpacing="0.2", CrossRangePixelSpacing="0.3")
    )
    image = reads_back(path, COMPLEX)
    assert image.is_complex
    assert np.array_equal(image.magnitude, MAGNITUDE)
    assert np.array_equal(image.phase, PHASE)
    facts = {"target": "t72_tank", "serial_number": "812", "azimuth": 203.741455, "depression": 17.0}
    assert facts.items() <= image.metadata.items()
    assert image.pixel_spacing == (0.2, 0.3)
    assert np.array_equal(sar_image.read(path), sar_image.to_uint8(COMPLEX))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"order": "<"}, "is little-endian"),
        ({"NumberOfRows": "00021"}, "its header and 21 x 30 pixels need"),
        ({"NumberOfRows": None}, "has no number NumberOfRows in its MSTAR header"),
        ({"NumberOfColumns": "-30"}, "has no number NumberOfColumns .*'-30'"),
        ({"NumberOfColumns": "99999", "NumberOfRows": "99999"}, "need 79,998,400,520: it is torn"),
        ({"NumberOfRows": "0"}, "has 0 x 30 pixels"),
        ({"native_header_length": "8"}, "it is torn"),
        ({"PhoenixHeaderLength": "99999999999999"}, "has no number PhoenixHeaderLength"),
    ],
)
def test_mstar_chips_that_are_refused(tmp_path, change, text):
    path = tmp_path / "a.015"
    path.write_bytes(sar_writers.mstar(MAGNITUDE, PHASE, **change))
    refused(path, text)


def test_mstar_chips_of_wrong_length_or_values_are_refused(tmp_path):
    path, content = tmp_path / "a.000", sar_writers.mstar(MAGNITUDE, PHASE)
    for wrong in (content[:-1], content + b"\0", content[:600], content[:40]):
        path.write_bytes(wrong)
        refused(path, "torn|no number")
    path.write_bytes(content[: 512 + 4 * MAGNITUDE.size])
    refused(path, "full MSTAR scene of 16-bit values")
    path.write_bytes(sar_writers.mstar(-MAGNITUDE, PHASE))
    refused(path, "holds no magnitudes and phases")


# --- arrays ---


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["<c8", ">f4", "<u2", "|u1"])
def test_npy(tmp_path, order, kind):
    values = (COMPLEX if "c" in kind else MAGNITUDE.astype(np.uint8)).astype(kind)
    np.save(tmp_path / "a.npy", np.asarray(values, order=order))
    reads_back(tmp_path / "a.npy", values)
    np.save(tmp_path / "b.npy", np.asarray(values[None], order=order))
    reads_back(tmp_path / "b.npy", values)


def test_npz_with_one_image_or_a_channel_that_is_named(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, image=COMPLEX, azimuth=12.5, name="t72", axis=np.arange(30.0))
    assert reads_back(path, COMPLEX).metadata == {"azimuth": 12.5, "name": "t72"}
    np.savez_compressed(path, VV=MAGNITUDE, VH=MAGNITUDE.T.copy().T * 2, azimuth=3)
    image = reads_back(path, MAGNITUDE, channel="VV")
    assert image.channels == ("VH", "VV")
    reads_back(path, MAGNITUDE * 2, channel=0)
    refused(path, r"has 2 channels, not one: VH, VV; choose one by its name, or span")
    refused(path, "has no channel HH; it has VH, VV", channel="HH")
    refused(path, "has no channel 2", channel=2)
    refused(path, "has no channel -1", channel=-1)
    np.savez(path, image=MAGNITUDE, mask=GREY)
    reads_back(path, MAGNITUDE, channel="image")
    assert np.array_equal(sar_image.read(path, channel="mask"), GREY)
    assert np.array_equal(sar_image.read(path, channel="image"), sar_image.to_uint8(MAGNITUDE))
    np.savez(path, a=MAGNITUDE, b=GREY[:9])
    refused(path, "several images of different size.*a .20, 30. of float32, b .9, 30. of uint8")


def test_content_decides_not_the_name(tmp_path):
    np.savez(tmp_path / "real.npz", a=GREY)
    path = (tmp_path / "real.npz").rename(tmp_path / "a.npy")
    reads_back(path, GREY)
    path.write_bytes(sar_writers.mstar(MAGNITUDE, PHASE))
    reads_back(path, COMPLEX)


def test_archives_that_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    np.savez(path, a=np.array([{}], object), b=np.array(["x"] * 4))
    refused(path, r"no array \[H, W\] of numbers, but a \[1\] of object")
    np.savez_compressed(path, a=MAGNITUDE)
    path.write_bytes(path.read_bytes()[:-30])
    refused(path, "cannot be read as an image")
    head = io.BytesIO()
    np.save(head, MAGNITUDE)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", head.getvalue()[:-1])
    refused(path, "it is torn")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:  # of small head, and much behind it
        archive.writestr("a.npy", head.getvalue() + bytes(200_000))
    monkeypatch.setenv("SARATRX_MAX_PIXELS", "600")
    refused(path, "a has 202,528 bytes: more than SARATRX_MAX_PIXELS=600 allows")


# --- MATLAB ---


@pytest.mark.parametrize("is_packed", [True, False])
def test_matlab_5_of_scipy(tmp_path, is_packed):
    path = tmp_path / "a.mat"
    beside = {
        "azimuth": 12.5,
        "target": "t72",
        "axis": np.arange(30.0),
        "notes": {"a": 1},
        "cells": np.array([{}], object),
    }
    scipy.io.savemat(path, {"complex_img": COMPLEX, "other": GREY, **beside}, do_compression=is_packed)
    image = reads_back(path, COMPLEX)
    assert image.metadata == {"azimuth": 12.5, "target": "t72"}
    scipy.io.savemat(path, {"image": SIXTEEN, **beside}, do_compression=is_packed)
    reads_back(path, SIXTEEN)
    scipy.io.savemat(path, {"mask": GREY > 7, "image": MAGNITUDE}, do_compression=is_packed)
    reads_back(path, MAGNITUDE)
    scipy.io.savemat(path, {"HH": MAGNITUDE, "HV": MAGNITUDE + 1}, do_compression=is_packed)
    assert reads_back(path, MAGNITUDE + 1, channel="HV").channels == ("HH", "HV")
    refused(path, "2 channels, not one: HH, HV")


def test_matlab_5_as_its_description_says(tmp_path):
    path = tmp_path / "a.mat"
    for order in "<>":
        path.write_bytes(sar_writers.matlab_5("img", MAGNITUDE.astype(float), order))
        reads_back(path, MAGNITUDE.astype(float))
        path.write_bytes(sar_writers.matlab_5("img", GREY, order, stored=(2, "u1")))
        reads_back(path, GREY.astype(float))


def test_matlab_files_that_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.mat"
    content = sar_writers.matlab_5("img", MAGNITUDE.astype(float))
    for wrong in (content[:-8], content[:-3000], content[:140], content[:100]):
        path.write_bytes(wrong)
        refused(path, "torn")
    for stored in ((2, "f8"), (10, "f8"), (99, "f8")):  # no type of that number, or of other length
        path.write_bytes(sar_writers.matlab_5("img", MAGNITUDE, stored=stored))
        refused(path, "is damaged")
    path.write_bytes(content + content[128:])
    refused(path, "several variables called img")
    scipy.io.savemat(path, {"notes": {"a": GREY}, "cells": np.array([{}], object), "text": "abc"})
    refused(path, r"no array \[H, W\] of numbers")
    scipy.io.savemat(path, {"a": MAGNITUDE, "b": GREY[:9]})
    refused(path, "several images of different size")
    bomb = zlib.compress(content[128:] + bytes(5_000_000))
    path.write_bytes(content[:128] + struct.pack("<II", 15, len(bomb)) + bomb)
    monkeypatch.setenv("SARATRX_MAX_PIXELS", "600")
    refused(path, "unpacks to more than 1,058,176 bytes")


def test_matlab_73(tmp_path):
    pytest.importorskip("h5py", reason="needs the extra `products`")
    path = sar_writers.matlab_73(tmp_path / "a.mat", {"complex_img": COMPLEX, "other": GREY, "azimuth": 12.5})
    assert reads_back(path, COMPLEX).metadata == {"azimuth": 12.5}
    path = sar_writers.matlab_73(
        tmp_path / "c.mat", {"image": GREY, "mask": GREY > 7, "target": "t72", "angle": 1 + 2j}
    )
    assert reads_back(path, GREY).metadata == {"target": "t72", "angle": 1 + 2j}
    path = sar_writers.matlab_73(tmp_path / "b.mat", {"HH": SIXTEEN, "HV": SIXTEEN + 1})
    reads_back(path, SIXTEEN + 1, channel="HV")
    refused(path, "2 channels, not one: HH, HV")
    path.write_bytes(path.read_bytes()[:3000])
    refused(path, "cannot be read as an image")


def test_matlab_73_with_large_packed_blocks_is_refused(tmp_path, monkeypatch):
    h5py = pytest.importorskip("h5py", reason="needs the extra `products`")
    path = sar_writers.matlab_73(tmp_path / "a.mat", {})
    noise = RNG.integers(0, 256, (1000, 1100), dtype=np.uint8)
    with h5py.File(path, "r+") as file:
        file.create_dataset("image", data=noise, chunks=noise.shape, compression="gzip")
    assert np.array_equal(sar_image.read(path), noise.T)
    monkeypatch.setenv("SARATRX_MAX_PIXELS", str(noise.size))
    refused(path, "packed blocks that may grow too large")


def test_matlab_73_follows_no_link_and_loads_no_plug_in(tmp_path):
    h5py = pytest.importorskip("h5py", reason="needs the extra `products`")
    sar_writers.matlab_73(tmp_path / "real.mat", {"image": MAGNITUDE.T})
    MAGNITUDE.tofile(tmp_path / "raw")
    path = sar_writers.matlab_73(tmp_path / "a.mat", {})
    with h5py.File(path, "r+") as file:
        file["linked"] = h5py.ExternalLink(str(tmp_path / "real.mat"), "image")
        file["soft"] = h5py.SoftLink("/linked")
        file.create_dataset("outside", MAGNITUDE.shape, "f4", external=[(str(tmp_path / "raw"), 0, MAGNITUDE.nbytes)])
        layout = h5py.VirtualLayout(MAGNITUDE.shape, "f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "real.mat"), "image", MAGNITUDE.shape)
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("packed", data=MAGNITUDE, compression="lzf")
        file.create_dataset("words", data=np.array([[b"a", b"b"]] * 2))
    refused(path, r"no array \[H, W\] of numbers")


# --- NITF ---


def test_sicd(tmp_path):
    pytest.importorskip("sarkit", reason="needs the extra `products`")
    image = reads_back(sar_writers.sicd(tmp_path / "a.nitf", COMPLEX, "RE32F_IM32F"), COMPLEX)
    assert (image.channels, image.pixel_spacing, image.sensor) == (("V:H",), (0.3, 0.25), "TESTSAT")
    assert image.geolocation["scene_centre"] == (0, 0, 0)
    assert image.metadata["grazing_angle"] == 45
    whole = RNG.integers(-9999, 9999, (2, 20, 30)).astype(np.int16)
    pairs = np.empty((20, 30), [("real", np.int16), ("imag", np.int16)])
    pairs["real"], pairs["imag"] = whole
    path = sar_writers.sicd(tmp_path / "b.nitf", pairs, "RE16I_IM16I")
    reads_back(path, (whole[0] + 1j * whole[1]).astype(np.complex64))
    pairs = np.empty((20, 30), [("amp", np.uint8), ("phase", np.uint8)])
    pairs["amp"], pairs["phase"] = GREY, GREY.T.reshape(20, 30)
    with sar_files.open(sar_writers.sicd(tmp_path / "c.nitf", pairs, "AMP8I_PHS8I")) as image:
        values = image.read()
    assert np.allclose(values, GREY * np.exp(2j * np.pi * pairs["phase"] / 256), atol=1e-4)


def test_sidd(tmp_path):
    sarkit = pytest.importorskip("sarkit.sidd", reason="needs the extra `products`")
    image = reads_back(sar_writers.sidd(tmp_path / "a.ntf", [GREY], "MONO8I"), GREY)
    assert (image.pixel_spacing, image.sensor, image.metadata["product"]) == ((0.5, 0.75), "TESTSAT", "product 7")
    path = sar_writers.sidd(tmp_path / "b.ntf", [SIXTEEN, SIXTEEN + 1], "MONO16I")
    reads_back(path, SIXTEEN + 1, channel="image2")
    refused(path, "has 2 channels, not one: image1, image2")
    table = np.arange(256, dtype=np.uint16)[::-1] * 200
    reads_back(sar_writers.sidd(tmp_path / "c.ntf", [GREY], "MONO8LU", table), table[GREY])
    colours = np.zeros((20, 30), sarkit.PIXEL_TYPES["RGB24I"]["dtype"])
    colours["R"] = GREY
    found = sar_image.read(sar_writers.sidd(tmp_path / "d.ntf", [colours], "RGB24I"))
    assert np.abs(found - 0.299 * GREY).max() <= 1


def test_no_entity_of_xml_is_taken_from_another_file(tmp_path):
    pytest.importorskip("sarkit", reason="needs the extra `products`")
    (tmp_path / "secret").write_text("secret")
    entity = f'<!DOCTYPE SICD [<!ENTITY other SYSTEM "file://{tmp_path}/secret">]>'
    hidden = f"<!--{entity[7:]}-->".encode()
    path = sar_writers.sicd(tmp_path / "a.nitf", COMPLEX, "RE32F_IM32F", before=hidden.decode())
    content = path.read_bytes()
    assert content.count(hidden) == content.count(b"TESTSAT") == 1
    path.write_bytes(content.replace(hidden, entity.encode()).replace(b"TESTSAT", b"&other;"))
    refused(path, "cannot be read as SICD: Entity 'other' not defined")


def test_nitf_files_that_are_refused(tmp_path):
    pytest.importorskip("sarkit", reason="needs the extra `products`")
    path = sar_writers.sicd(tmp_path / "a.nitf", COMPLEX, "RE32F_IM32F")
    content = path.read_bytes()
    for length in (100, 1000, 3000, len(content) - 100, len(content) - 3000):
        path.write_bytes(content[:length])
        refused(path, "is torn")
    path.write_bytes(content.replace(b"<NumRows>20<", b"<NumRows>90<"))
    refused(path, "its image segments are not of the size that its XML says")
    path.write_bytes(content.replace(b"SICD000", b"OTHER00").replace(b"urn:SICD", b"urn:OTHR"))
    refused(path, "neither SICD nor SIDD")
    path = sar_writers.sidd(tmp_path / "b.ntf", [GREY], "MONO8I")
    path.write_bytes(path.read_bytes().replace(b"NC", b"NM"))
    refused(path, "is compressed or masked .IC NM.")


@pytest.mark.parametrize(("package", "name"), [("sarkit", "nitf"), ("h5py", "matlab_hdf5")])
def test_a_missing_package_is_named_with_what_installs_it(tmp_path, monkeypatch, package, name):
    monkeypatch.setitem(
        sar_files.__dict__, "import_module", lambda _: (_ for _ in ()).throw(ModuleNotFoundError(name=package))
    )
    path = tmp_path / "a.nitf"
    path.write_bytes(b"NITF02.10" if package == "sarkit" else b"MATLAB 7.3 MAT-file")
    with pytest.raises(InputError, match=rf"a\.nitf needs the package {package}: pip install -e '\.\[products\]'"):
        sar_image.read(path)


# --- rasters ---


def write(path, values, **profile):
    bands = values if values.ndim == 3 else values[None]
    names = profile.pop("names", ())
    kind = profile.pop("dtype", bands.dtype)
    how = {"driver": "GTiff", "height": bands.shape[1], "width": bands.shape[2], "count": len(bands), "dtype": kind}
    with rasterio.open(path, "w", **how | profile) as file:
        file.write(bands, window=((0, bands.shape[1]), (0, bands.shape[2])))
        for number, name in enumerate(names, start=1):
            file.set_band_description(number, name)
    return path


@pytest.mark.parametrize(
    ("values", "how"),
    [
        (SIXTEEN, {}),
        (MAGNITUDE, {"BIGTIFF": "YES"}),
        (COMPLEX, {"compress": "deflate"}),
        (SIXTEEN, {"driver": "COG", "compress": "lzw"}),
        (SIXTEEN, {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"}),
        (GREY, {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"}),
    ],
    ids=["uint16", "BigTIFF", "complex", "COG", "JPEG 2000 of 16 bits", "JPEG 2000 of 8 bits"],
)
def test_rasters(tmp_path, values, how):
    path = write(tmp_path / "image", values, **how)
    reads_back(path, values)
    assert np.array_equal(sar_image.read(path), values if values is GREY else sar_image.to_uint8(values))


def test_complex_whole_numbers(tmp_path):
    whole = np.rint(COMPLEX).astype(np.complex64)
    path = write(tmp_path / "a.tiff", whole, dtype="complex_int16")
    assert reads_back(path, whole).is_complex


def test_map_coordinates_are_told(tmp_path):
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 5e5, 0, -20, 5e6)}
    with sar_files.open(write(tmp_path / "a.tif", SIXTEEN, **place)) as image:
        assert image.pixel_spacing == (20, 10)
        assert image.geolocation == {"crs": "EPSG:32633", "transform": (10, 0, 5e5, 0, -20, 5e6)}
    points = [rasterio.control.GroundControlPoint(r, c, 10 + c / 9, 50 - r / 9) for r in (0, 20) for c in (0, 30)]
    with sar_files.open(write(tmp_path / "b.tif", SIXTEEN, gcps=points, crs="EPSG:4326")) as image:
        assert (image.geolocation, image.pixel_spacing) == ({"crs": "EPSG:4326", "control_points": 4}, None)
    with sar_files.open(write(tmp_path / "c.tif", SIXTEEN)) as image:
        assert (image.geolocation, image.pixel_spacing) == (None, None)


@pytest.mark.parametrize("values", [np.stack([MAGNITUDE, MAGNITUDE * 2]), np.stack([COMPLEX, COMPLEX * 2])])
def test_polarisations_are_chosen_or_joined(tmp_path, values):
    path = write(tmp_path / "a.tif", values, names=("VV", "VH"))
    assert reads_back(path, values[1], channel="VH").channels == ("VV", "VH")
    reads_back(path, values[0], channel=0)
    reads_back(path, values[1], channel="1")
    refused(path, r"has 2 bands of .*choose a channel .VV, VH.*gdal_translate -b 1")
    refused(path, "has no channel HH; it has VV, VH, or 0 to 1, or span", channel="HH")
    span = np.sqrt((np.abs(values.astype(np.complex128)) ** 2).sum(0))
    with sar_files.open(path) as image:
        assert np.allclose(image.read(channel="span"), span, rtol=1e-6)
    assert np.array_equal(sar_image.read(path, channel="span"), sar_image.to_uint8(span))
    grey = np.stack([GREY, GREY[::-1]])
    path = write(tmp_path / "b.tif", grey)
    assert np.array_equal(sar_image.read(path, channel="band2"), GREY[::-1])
    expected = sar_image.to_uint8(np.sqrt((grey.astype(float) ** 2).sum(0)))
    assert np.array_equal(sar_image.read(path, channel="span"), expected)


@pytest.mark.parametrize("kind", ["float32", "uint16", "complex64"])
def test_the_largest_of_all_bands(tmp_path, monkeypatch, kind):
    """In windows, too, and in strips: the scale is one."""
    turned = (COMPLEX[::-1] * 1.3) if kind == "complex64" else MAGNITUDE[::-1] * 1.3
    values = np.stack([COMPLEX if kind == "complex64" else MAGNITUDE, turned]).astype(kind)
    path = write(tmp_path / "a.tif", values, names=("VV", "VH"), blockysize=1)
    largest = np.abs(values).max(axis=0)
    assert (largest != np.abs(values[0])).any() and (largest != np.abs(values[1])).any()
    with sar_files.open(path) as image:
        assert np.allclose(image.read(channel="max"), largest, rtol=1e-6)
        assert np.allclose(image.read(((3, 9), (2, 7)), "max"), largest[3:9, 2:7], rtol=1e-6)
        assert not image.is_eight_bit("max")
    expected = sar_image.to_uint8(largest)
    monkeypatch.setattr(grey_scale, "STRIP_PIXELS", 3 * largest.shape[1])
    assert np.array_equal(sar_image.read(path, channel="max"), expected)


def test_the_largest_of_grey_values_is_taken_as_it_is(tmp_path):
    grey = np.stack([GREY, GREY[::-1]])
    assert np.array_equal(sar_image.read(write(tmp_path / "a.tif", grey), channel="max"), grey.max(axis=0))
    named = write(tmp_path / "b.tif", grey, names=("max", "VV"))
    assert np.array_equal(sar_image.read(named, channel="max"), GREY)


def test_the_largest_is_no_data_where_any_band_has_none(tmp_path):
    values = np.stack([MAGNITUDE, MAGNITUDE * 2])
    values[0, :5], values[1, 5:9] = -9, -9
    with sar_files.open(write(tmp_path / "a.tif", values, nodata=-9)) as image:
        found = image.read(channel="max")
    assert np.isnan(found[:9]).all()
    assert np.allclose(found[9:], 2 * MAGNITUDE[9:])


def test_texts_in_another_coding_do_no_harm(tmp_path):
    path = write(tmp_path / "a.tif", SIXTEEN, names=("ABCDEF",))
    path.write_bytes(path.read_bytes().replace(b"ABCDEF", b"\xe9\xff\xfe\xe9\xff\xfe"))
    assert reads_back(tmp_path / "a.tif", SIXTEEN).channels == ("band1",)


def test_declared_no_data_is_nan(tmp_path):
    values = SIXTEEN.copy()
    values[:5] = 7
    values[5:][values[5:] == 7] = 8
    with sar_files.open(write(tmp_path / "a.tif", values, nodata=7)) as image:
        assert (image.dtype, image.is_no_data_declared) == (np.uint16, True)
        found = image.read()
    assert np.isnan(found[:5]).all()
    assert np.array_equal(found[5:], values[5:])


def test_large_images_are_sampled_evenly(tmp_path):
    values = RNG.integers(0, 65536, (2500, 2100), dtype=np.uint16)
    np.save(tmp_path / "a.npy", values)
    write(tmp_path / "a.tif", values)
    for name in ("a.npy", "a.tif"):
        with sar_files.open(tmp_path / name) as image:
            assert image.sample().shape == (1250, 1050)
            if name == "a.npy":
                assert np.array_equal(image.sample(), values[::2, ::2])
            with pytest.raises(ImageError, match="no window"):
                image.read(((0, 10), (0, 2101)))


def test_a_small_file_that_says_it_is_large_takes_no_memory(tmp_path):
    path = write(tmp_path / "a.tif", SIXTEEN[:1, :1], width=200_000, height=200_000, SPARSE_OK="YES", tiled=True)
    assert path.stat().st_size < 10_000_000
    with sar_files.open(path) as image:
        assert image.read(((199_990, 200_000), (5, 9))).shape == (10, 4)
        with pytest.raises(ImageError, match="200,000 x 200,000 pixels: more than SARATRX_MAX_PIXELS"):
            image.read()
    refused(path, "200,000 x 200,000 pixels: more than SARATRX_MAX_PIXELS")


@pytest.mark.parametrize("channel", ["span", "max"])
def test_the_span_of_one_channel_is_the_channel(tmp_path, channel):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    assert np.array_equal(sar_image.read(tmp_path / "a.png", channel=channel), GREY)
    np.save(tmp_path / "a.npy", COMPLEX)
    reads_back(tmp_path / "a.npy", COMPLEX, channel=channel)


def test_windows_need_no_more_than_themselves(tmp_path, monkeypatch):
    """A limit below the whole image stops reading it whole, not in windows."""
    monkeypatch.setenv("SARATRX_MAX_PIXELS", "500")
    np.save(tmp_path / "a.npy", SIXTEEN)
    write(tmp_path / "a.tif", SIXTEEN, blockysize=1)
    for name in ("a.npy", "a.tif"):
        with sar_files.open(tmp_path / name) as image:
            assert np.array_equal(image.read(WINDOW), SIXTEEN[INSIDE])
        refused(tmp_path / name, "20 x 30 pixels: more than SARATRX_MAX_PIXELS=500 allows")


# --- pictures ---

UPRIGHT = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).T,
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_pictures_are_turned_as_their_exif_says(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for values, name in ((GREY, "a.png"), (SIXTEEN, "b.png"), (GREY, "a.jpg")):
        Image.fromarray(values).save(tmp_path / name, exif=exif)
        expected = values if name != "a.jpg" else np.asarray(Image.open(tmp_path / name))
        found = reads_back(tmp_path / name, np.ascontiguousarray(UPRIGHT[orientation](expected)))
        assert found.shape == ((30, 20) if orientation > 4 else (20, 30))


def test_a_picture_with_damaged_exif_stays_as_it_is(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    reads_back(tmp_path / "a.png", GREY)


# --- all ---


def test_other_files_are_refused(tmp_path):
    refused(tmp_path / "absent.png", "no such file")
    for content in (
        b"",
        b"x",
        b"BM",
        b"MATLAB 5.0",
        b"NITF02.10",
        b"\x93NUMPY",
        b"[PhoenixHeaderVer",
        b"PK\x03\x04",
        b"<VRT",
    ):
        path = tmp_path / "a.ntf"
        path.write_bytes(content)
        refused(path, "a.ntf")


def test_names_of_images():
    names = ("a.JPG", "b.tiff", "c.mat", "d.npz", "e.ntf", "f.NITF", "g.jp2", "HB03787.004", "x.026")
    assert all(map(sar_image.is_image_name, names))
    assert not any(map(sar_image.is_image_name, ("a.027", "a.txt", "a.0001", "000", "a.xml", "a.00", "a.json")))


def test_opened_files_are_closed(tmp_path):
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("counts open files in /proc")
    before = len(os.listdir("/proc/self/fd"))
    write(tmp_path / "a.tif", SIXTEEN)
    np.savez(tmp_path / "a.npz", GREY)
    (tmp_path / "b.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:100])
    for name in ("a.tif", "a.npz"):
        sar_image.read(tmp_path / name)
    refused(tmp_path / "b.tif", "b.tif")
    assert len(os.listdir("/proc/self/fd")) == before
