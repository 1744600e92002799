"""Scenes are read in windows as the whole image would be."""

import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.rpc import RPC
from rasterio.transform import Affine, rowcol

from coco_annotations.scene_options import WindowOptions
from hivit_det.scenes import detection_files
from hivit_det.scenes.finding import find_in
from hivit_det.scenes.scene import open_scene
from hivit_det.scenes.windows import Detections
from saratrx import sar_image
from saratrx.errors import InputError
from saratrx.sar_image import ImageError

RNG = np.random.default_rng(0)
GREY = RNG.integers(1, 255, (70, 90), dtype=np.uint8)
AMPLITUDE = RNG.gamma(2.0, 300.0, (70, 90)).astype(np.float32) + 1
UTM = {"crs": "EPSG:32650", "transform": Affine(10, 0, 500000, 0, -10, 4000000)}


def write_tiff(path, values, **profile):
    bands = values if values.ndim == 3 else values[None]
    count, height, width = bands.shape
    size = {"height": height, "width": width, "count": count, "dtype": bands.dtype}
    with rasterio.open(path, "w", driver="GTiff", **size, **profile) as file:
        file.write(bands)
    return path


KINDS = {
    ".tif": ["uint8", "uint16", "float32", "complex64"],
    ".png": ["uint8", "uint16"],
    ".npy": ["uint8", "complex64"],
}


@pytest.mark.parametrize(("suffix", "kind"), [(suffix, kind) for suffix, kinds in KINDS.items() for kind in kinds])
def test_windows_are_parts_of_the_whole_image(tmp_path, suffix, kind):
    values = GREY if kind == "uint8" else AMPLITUDE.astype(kind)
    path = tmp_path / f"scene{suffix}"
    if suffix == ".tif":
        write_tiff(path, values)
    elif suffix == ".npy":
        np.save(path, values)
    else:
        Image.fromarray(values).save(path)
    whole = values if kind == "uint8" else sar_image.to_uint8(values)
    scene = open_scene(path)
    assert (scene.height, scene.width, scene.crs) == (70, 90, None)
    assert np.array_equal(scene.read(13, 7, 40, 50), whole[7:57, 13:53])
    assert np.array_equal(scene.overview(2000), whole)
    small = scene.overview(45)
    assert small.shape == (35, 45)
    if kind != "complex64":
        assert abs(small.mean() - whole.mean()) < 6


def test_no_data_is_black_and_does_not_count(tmp_path):
    values = AMPLITUDE.copy()
    values[:, :60] = 0  # without being declared, as in Sentinel-1 products
    scene = open_scene(write_tiff(tmp_path / "a.tif", values))
    assert np.array_equal(scene.read(60, 0, 30, 70), sar_image.to_uint8(AMPLITUDE[:, 60:]))
    decibels = 20 * np.log10(AMPLITUDE) - 80
    assert decibels.max() < 0
    decibels[:, :60] = -9999
    scene = open_scene(write_tiff(tmp_path / "b.tif", decibels, nodata=-9999))
    grey = scene.read(0, 0, 90, 70)
    assert not grey[:, :60].any()
    assert np.array_equal(grey[:, 60:], sar_image.to_uint8(decibels[:, 60:]))
    whole_numbers = np.rint(decibels * 100).astype(np.int16)
    whole_numbers[:, :60] = -32768
    scene = open_scene(write_tiff(tmp_path / "c.tif", whole_numbers, nodata=-32768))
    assert not scene.read(0, 0, 60, 70).any()
    nothing = open_scene(write_tiff(tmp_path / "d.tif", np.zeros((70, 90), np.float32)))
    assert not nothing.read(0, 0, 90, 70).any()


def test_colours_become_luma(tmp_path):
    colours = np.stack([GREY, GREY[::-1], GREY[:, ::-1]])
    scene = open_scene(write_tiff(tmp_path / "a.tif", colours, photometric="RGB"))
    expected = 0.299 * colours[0] + 0.587 * colours[1] + 0.114 * colours[2]
    assert np.abs(scene.read(0, 0, 90, 70) - expected).max() < 1


def test_what_is_no_scene_is_refused(tmp_path):
    torn = write_tiff(tmp_path / "torn.tif", AMPLITUDE)
    content = torn.read_bytes()
    torn.write_bytes(content[: len(content) // 2])
    (tmp_path / "no.tif").write_bytes(b"no image")
    (tmp_path / "no.npy").write_bytes(b"no array")
    np.save(tmp_path / "three.npy", np.zeros((4, 5, 6), np.float32))
    cases = {
        "absent.tif": "no such file",
        "no.tif": "cannot be read as an image",
        "no.npy": "cannot be read as an image",
        "three.npy": r"not one channel \[H, W\]",
        "torn.tif": "is torn or damaged",
        write_tiff(tmp_path / "dual.tif", np.stack([AMPLITUDE] * 2)).name: "2 bands of float32 .*gdal_translate -b 1",
        write_tiff(tmp_path / "two.tif", np.stack([GREY] * 2)).name: "2 bands of uint8",
        write_tiff(tmp_path / "blank.tif", np.full((9, 9), np.nan, np.float32)).name: "has no finite value",
    }
    for name, sentence in cases.items():
        with pytest.raises(ImageError, match=f"{name}.*{sentence}"):
            open_scene(tmp_path / name).read(0, 0, 9, 9)


def detections(*boxes):
    count = len(boxes)
    return Detections(
        torch.tensor(boxes, dtype=torch.float32), torch.linspace(0.9, 0.5, count), torch.arange(count) % 2, ("a", "b")
    )


def geojson(folder, path, found, **how):
    """What the GeoJSON file of found targets holds."""
    written = detection_files.write_all(folder, open_scene(path), found, **how)
    return json.loads(next(file for file in written if file.suffix == ".geojson").read_text())


def test_geojson_maps_back_onto_the_pixels(tmp_path):
    turned = UTM["transform"] @ Affine.rotation(30)
    boxes = [(3.0, 5.0, 20.0, 11.0), (40.5, 30.25, 60.0, 69.0)]
    for name, transform in (("north", UTM["transform"]), ("turned", turned)):
        path = write_tiff(tmp_path / f"{name}.tif", GREY, crs="EPSG:32650", transform=transform)
        written = detection_files.write_all(tmp_path / "out", open_scene(path), detections(*boxes))
        content = json.loads(next(file for file in written if file.suffix == ".geojson").read_text())
        assert content["crs"]["properties"]["name"] == "EPSG:32650"
        for feature, (x1, y1, x2, y2) in zip(content["features"], boxes, strict=True):
            ring = feature["geometry"]["coordinates"][0]
            assert ring[0] == ring[-1]
            with rasterio.open(path) as file:
                row, column = rowcol(file.transform, *zip(*ring[:4], strict=True), op=lambda value: value)
            assert np.allclose(column, [x1, x1, x2, x2], atol=1e-6)
            assert np.allclose(row, [y1, y2, y2, y1], atol=1e-6)
        assert [feature["properties"]["class"] for feature in content["features"]] == ["a", "b"]


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:4326", None),
        ("EPSG:4326", Affine(1, 0, 0, 0, -1, 0)),  # rows counted from below
        ("EPSG:32650", Affine(1, 0, 0, 0, -1, 70)),
        ("EPSG:4326", Affine(10, 0, 0, 0, -10, 0)),  # degrees in the hundreds
        ("EPSG:4326", Affine(1e-4, 0, 10, 0, -1e-4, 95)),  # beyond the pole
        ("EPSG:32650", Affine(10, 0, 500000, 0, 0, 4000000)),  # a line
        (None, UTM["transform"]),
    ],
)
def test_pixels_without_a_place_on_the_map_have_no_map_coordinates(tmp_path, crs, transform):
    how = {"crs": crs} | ({"transform": transform} if transform else {})
    scene = open_scene(write_tiff(tmp_path / "scene.tif", GREY, **how))
    assert scene.crs is None
    assert scene.map_coordinates([(12, 8)]) == [(12, 8)]
    written = detection_files.write_all(tmp_path / "out", scene, detections((3.0, 5.0, 20.0, 11.0)))
    assert [path.suffix for path in written] == [".json", ".csv", ".jpg"]


def test_degrees_to_the_pole_and_the_date_line_are_map_coordinates(tmp_path):
    transform = Affine(180 / 90, 0, 0, 0, -90 / 70, 90)
    scene = open_scene(write_tiff(tmp_path / "scene.tif", GREY, crs="EPSG:4326", transform=transform))
    assert np.allclose(scene.map_coordinates([(90, 0)]), [(180, 90)])


@pytest.mark.parametrize("count", [1, 2, 9])
def test_control_points_on_one_line_are_no_map_coordinates(tmp_path, count):
    points = [GroundControlPoint(row=8 * i, col=8 * i, x=10 + i / 10, y=50 + i / 10) for i in range(count)]
    path = write_tiff(tmp_path / "gcp.tif", GREY)
    with rasterio.open(path, "r+") as file:
        file.gcps = (points, "EPSG:4326")
    scene = open_scene(path)
    assert scene.crs is None
    assert scene.map_coordinates([(12, 8)]) == [(12, 8)]


def test_control_points_are_map_coordinates_too(tmp_path):
    points = [
        GroundControlPoint(row=row, col=column, x=10 + column * 0.01 + row * 0.001, y=50 - row * 0.02)
        for row in (0, 35, 70)
        for column in (0, 45, 90)
    ]
    path = tmp_path / "gcp.tif"
    write_tiff(path, GREY)
    with rasterio.open(path, "r+") as file:
        file.gcps = (points, "EPSG:4326")
    scene = open_scene(path)
    assert scene.crs == "EPSG:4326"
    [(x, y)] = scene.map_coordinates([(20.0, 30.0)])
    assert np.allclose((x, y), (10.23, 49.4), atol=1e-4)


def test_control_points_of_an_affine_map_lead_where_it_does(tmp_path):
    """For corners of boxes, and for heading, length and width of oriented ones."""
    affine = Affine(10, 0, 500000, 0, -10, 4000000) @ Affine.rotation(20)
    paths = [write_tiff(tmp_path / "affine.tif", GREY, crs="EPSG:32650", transform=affine)]
    paths.append(write_tiff(tmp_path / "points.tif", GREY))
    grid = [(column, row) for row in (0, 35, 70) for column in (0, 30, 60, 90)]
    points = [GroundControlPoint(row, column, *(affine @ (column, row))) for column, row in grid]
    with rasterio.open(paths[1], "r+") as file:
        file.gcps = (points, "EPSG:32650")
    oriented = detections((45, 35, 40, 8, 0.3), (20.5, 30.25, 8, 12, -1))
    for found in (detections((3.0, 5.0, 20.0, 11.0), (40.5, 30.25, 60.0, 69.0)), oriented):
        one, other = (geojson(tmp_path / path.stem, path, found)["features"] for path in paths)
        for first, second in zip(one, other, strict=True):
            corners = [np.array(each["geometry"]["coordinates"]) for each in (first, second)]
            assert np.abs(corners[0] - corners[1]).max() < 1e-5  # m
            assert first["properties"] == second["properties"]
    assert {"heading", "length", "width"} <= second["properties"].keys()


def test_rational_polynomials_are_map_coordinates_at_their_own_height(tmp_path, caplog):
    """Of a map that is known: 1e-4 degrees a pixel at the height of the offset, and shifted above it."""
    one, line, sample = ([1.0 if i == n else 0.0 for i in range(20)] for n in (0, 2, 1))
    line[3] = 5.0  # of the height
    rpcs = RPC(
        height_off=120, height_scale=500, lat_off=50, lat_scale=0.01, line_off=34.5, line_scale=-100,
        long_off=10, long_scale=0.01, samp_off=44.5, samp_scale=100,
        line_num_coeff=line, line_den_coeff=one, samp_num_coeff=sample, samp_den_coeff=one,
    )  # fmt: skip
    path = write_tiff(tmp_path / "scene.tif", GREY)
    with rasterio.open(path, "r+") as file:
        file.rpcs = rpcs
    assert not list(tmp_path.glob("scene*.txt"))
    scene = open_scene(path)
    assert (scene.crs, scene.ground) == ("EPSG:4326", 120)
    points = [(45.0, 35.0), (0.0, 0.0), (90.0, 10.0)]  # RPCs count from the middle of the first pixel
    expected = [(10 + (x - 45) * 1e-4, 50 - (y - 35) * 1e-4) for x, y in points]
    assert np.allclose(scene.map_coordinates(points), expected, atol=1e-9)
    (target,) = geojson(tmp_path / "out", path, detections((45, 35, 40, 8, 0)))["features"]
    assert target["properties"]["heading"] == pytest.approx(90, abs=0.01)
    assert target["properties"]["length"] == pytest.approx(40e-4 * 71_695.7, rel=1e-4)  # m a degree of longitude at 50
    assert target["properties"]["width"] == pytest.approx(8e-4 * 111_229.0, rel=1e-4)
    detector = SimpleNamespace(detect=lambda scene, **how: detections((3.0, 5.0, 20.0, 11.0)))
    options = SimpleNamespace(output_dir=tmp_path, classes=None, wgs84=False)
    for name in (path, write_tiff(tmp_path / "affine.tif", GREY, **UTM)):
        find_in(open_scene(name), detector, options, WindowOptions(), {})
    assert caplog.text.count("RPCs give its map coordinates") == 1
    assert f"{path}: RPCs give its map coordinates, for ground at their own height, 120 m" in caplog.text


def test_corners_in_geojson_lead_back_to_the_pixels_of_a_large_scene(tmp_path):
    """To 1e-6 px of the corners that are found, 20,000 px from where the coordinates begin."""
    path = tmp_path / "scene.tif"
    transform = Affine(0.5, 0, 399960, 0, -0.5, 4400040) @ Affine.rotation(12)
    about = {"width": 20_000, "height": 20_000, "count": 1, "dtype": "uint8", "tiled": True, "SPARSE_OK": "YES"}
    with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32650", transform=transform, **about):
        pass
    low = np.random.default_rng(0).uniform(0, 19_900, (500, 2))
    boxes = np.concatenate([low, low + 60], axis=1).astype(np.float32)
    target = tmp_path / "targets.geojson"
    detection_files.write_geojson(target, open_scene(path), detections(*boxes.tolist()))
    rings = [each["geometry"]["coordinates"][0] for each in json.loads(target.read_text())["features"]]
    x, y = np.array(rings).reshape(-1, 2).T
    with rasterio.open(path) as file:
        rows, columns = rowcol(file.transform, x, y, op=lambda value: value)
    expected = boxes[:, [0, 1, 0, 3, 2, 3, 2, 1, 0, 1]].reshape(-1, 2)
    found = np.stack([columns, rows], axis=1)
    assert np.abs(found - expected).max() < 1e-6


def test_files_hold_what_was_found(tmp_path):
    path = write_tiff(tmp_path / "scene.tif", GREY)
    found = detections((3.0, 5.0, 20.0, 11.0), (40.5, 30.25, 60.0, 69.0))
    written = detection_files.write_all(tmp_path, open_scene(path), found)
    assert [file.name for file in written] == [f"scene_targets.{suffix}" for suffix in ("json", "csv", "jpg")]
    content = json.loads(written[0].read_text())
    assert [box["bbox"] for box in content["annotations"]] == [[3, 5, 17, 6], [40.5, 30.25, 19.5, 38.75]]
    assert [box["category_id"] for box in content["annotations"]] == [1, 2]
    assert content["annotations"][0]["score"] == 0.9
    assert written[1].read_text().splitlines() == [
        "class,score,x1,y1,x2,y2",
        "a,0.9000,3.00,5.00,20.00,11.00",
        "b,0.5000,40.50,30.25,60.00,69.00",
    ]
    picture = np.asarray(Image.open(written[2]).convert("RGB")).astype(int)
    assert picture.shape == (70, 90, 3)
    coloured = np.ptp(picture, axis=2) > 60
    assert coloured[30:69, 40].mean() > 0.8  # the left side of the second box
    assert not coloured[35:66, 66:].any()
    nothing = Detections(torch.empty(0, 4), torch.empty(0), torch.empty(0, dtype=torch.int64), ("a",))
    assert (
        json.loads(detection_files.write_all(tmp_path, open_scene(path), nothing)[0].read_text())["annotations"] == []
    )


@pytest.mark.parametrize("name", ["舰船", "a$b$c_1", "\u0e17\u0e14", "a\nb", ""])
def test_a_class_of_any_name_ends_no_run(tmp_path, name):
    scene = open_scene(write_tiff(tmp_path / "scene.tif", GREY))
    found = Detections(torch.tensor([[3.0, 25, 20, 31]]), torch.tensor([0.9]), torch.tensor([0]), (name,))
    written = detection_files.write_all(tmp_path, scene, found)
    assert json.loads(written[0].read_text())["categories"] == [{"id": 1, "name": name}]
    assert Image.open(written[2]).size == (90, 70)


def test_names_are_drawn_in_a_font_that_has_their_signs():
    font = detection_files.font_for("корабль")  # Matplotlib's own font has it, Pillow's has not
    assert set(map(ord, "корабль")) <= detection_files.signs_of(font.path)
    assert detection_files.drawable("корабль", font) == "корабль"
    nowhere = "\U0010f123"
    font = detection_files.font_for(nowhere)
    assert detection_files.drawable(f"a{nowhere}", font) == r"a\U0010f123"


def test_a_scene_whose_name_is_not_utf8_is_written(tmp_path):
    path = tmp_path / os.fsdecode(b"sc\xe9ne.png")
    Image.fromarray(GREY).save(path)
    written = detection_files.write_all(tmp_path, open_scene(path), detections((3.0, 5.0, 20.0, 11.0)))
    assert os.fsencode(written[0].name) == b"sc\xe9ne_targets.json"
    assert json.loads(written[0].read_text())["images"][0]["file_name"] == path.name


def test_a_folder_in_the_way_is_told(tmp_path):
    detection_files.refuse_folders(tmp_path, tmp_path / "scene.tif")
    (tmp_path / "scene_targets.geojson").mkdir()
    with pytest.raises(InputError, match=r"scene_targets.geojson is a folder, and would be written to"):
        detection_files.refuse_folders(tmp_path, tmp_path / "scene.tif")


def test_a_large_png_of_one_bit_is_read(tmp_path):
    white = np.zeros((4000, 6000), bool)
    white[2000:2032, 3000:3032] = True
    Image.fromarray(white).save(tmp_path / "scene.png")
    scene = open_scene(tmp_path / "scene.png")
    assert (scene.height, scene.width) == (4000, 6000)
    assert np.array_equal(scene.read(2900, 1900, 256, 256) == 255, white[1900:2156, 2900:3156])
