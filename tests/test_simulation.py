import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import radar
import simulate
from radar import Radar
from saratrx import sar_files
from scatterers import SHIPS, VEHICLES, Scatterers, scatterers

FLAT = (256, 256)


def one_point(x, y, z, azimuth, sensor):
    point = Scatterers(np.array([[x, y, z]]), np.ones(1), np.zeros(1), np.zeros(1))
    return np.abs(radar.target_response(point, (12.8, 12.8), azimuth, sensor, (128, 128)))


@pytest.mark.parametrize("looks", [1, 4])
def test_speckle_is_gamma_distributed_with_the_number_of_looks(looks):
    sensor = Radar(looks=looks)
    amplitude = radar.image(np.zeros(FLAT), np.ones(FLAT), np.zeros(FLAT), sensor, np.random.default_rng(0))
    intensity = amplitude**2
    assert intensity.mean() == pytest.approx(1 + radar.NOISE, rel=0.03)
    assert intensity.mean() ** 2 / intensity.var() == pytest.approx(looks, rel=0.08)
    third = ((intensity - intensity.mean()) ** 3).mean() / intensity.std() ** 3
    assert third == pytest.approx(2 / np.sqrt(looks), rel=0.2)  # a gamma distribution's skewness


def test_speckle_is_multiplicative():
    """Its deviation grows with the mean."""
    clutter = np.ones(FLAT)
    clutter[:, 128:] = 25
    amplitude = radar.image(np.zeros(FLAT), clutter, np.zeros(FLAT), Radar(), np.random.default_rng(0))
    dark, bright = amplitude[:, 8:120], amplitude[:, 136:248]
    assert bright.std() / dark.std() == pytest.approx(5, rel=0.06)
    assert bright.mean() / dark.mean() == pytest.approx(5, rel=0.06)


def test_sea_is_k_distributed():
    """Second moment of intensity: 2 (1 + 1 / order) for one look, against 2 for plain speckle."""
    spectrum = np.zeros(FLAT)
    spectrum[1:6, :6] = 1  # a texture much wider than the resolution
    texture = radar.texture(FLAT, 1.5, spectrum, np.random.default_rng(1))
    assert texture.mean() == pytest.approx(1, rel=0.25)
    amplitude = radar.image(np.zeros(FLAT), texture, np.zeros(FLAT), Radar(), np.random.default_rng(0))
    ratio = (amplitude**4).mean() / (amplitude**2).mean() ** 2
    expected = 2 * (texture**2).mean() / texture.mean() ** 2
    assert expected > 2.8
    assert ratio == pytest.approx(expected, rel=0.06)


def test_point_response_is_a_weighted_sinc():
    distances, response = radar.impulse_response(0.3)
    main = np.abs(distances[response >= np.sqrt(0.5)]).max() * 2
    assert 0.3 * 1.05 < main < 0.3 * 1.3  # -3 dB width: Taylor weighting broadens it
    side_lobes = np.abs(response[np.abs(distances) > 0.7])
    assert -37 < 20 * np.log10(side_lobes.max()) < -32


def test_a_point_lies_where_its_place_height_and_azimuth_put_it():
    sensor = Radar(depression=45)
    assert np.unravel_index(one_point(2, 0, 0, 0, sensor).argmax(), (128, 128)) == (74, 64)
    assert np.unravel_index(one_point(2, 0, 0, np.pi / 2, sensor).argmax(), (128, 128)) == (64, 74)
    assert np.unravel_index(one_point(0, 0, 1, 0, sensor).argmax(), (128, 128)) == (59, 64)  # layover towards the radar


def test_a_wall_shines_only_when_it_faces_the_radar():
    wall = Scatterers(np.zeros((1, 3)), np.ones(1), np.zeros(1), np.full(1, 20.0))  # faces forward
    strength = [
        np.abs(radar.target_response(wall, (12.8, 12.8), np.radians(a), Radar(), (128, 128))).max()
        for a in (180, 190, 200, 0)
    ]
    assert strength[0] == pytest.approx(1, abs=1e-3)
    assert strength[0] > 1.3 * strength[1] > 1.6 * strength[2] > 0
    assert strength[3] == 0


def test_shadow_is_as_long_as_height_over_slope():
    sensor = Radar(depression=15)
    height = np.zeros((256, 20))
    height[50:60, 5:15] = 2.0
    shaded = radar.shadow(height, sensor)
    assert not shaded[:60].any()
    assert not shaded[:, :5].any()
    length = shaded[:, 10].sum() * sensor.spacing
    assert length == pytest.approx(2.0 / np.tan(np.radians(15)), abs=0.6)


def test_shadow_stays_dark():
    height = np.zeros(FLAT)
    height[60:70, 60:200] = 4.0
    amplitude = radar.image(np.zeros(FLAT), np.ones(FLAT), height, Radar(), np.random.default_rng(0))
    assert amplitude[80:110, 80:180].mean() < 0.25 * amplitude[:40].mean()


def test_types_are_distinct_and_fixed():
    kinds = VEHICLES + SHIPS
    assert len(VEHICLES) == 10
    found = [scatterers(kind) for kind in kinds]
    assert all(np.array_equal(a.amplitude, scatterers(k).amplitude) for a, k in zip(found, kinds, strict=True))
    shapes = {tuple(np.round(np.sort(a.amplitude)[-20:], 3)) for a in found}
    assert len(shapes) == len(kinds)


def test_boxes_hold_what_shines():
    for number in range(3, 9):
        kind = simulate.KINDS[number % 3]
        scene, found = simulate.make_scene(kind, 4, np.random.default_rng(number))
        assert found
        for target, (x, y, width, height), _ in found:
            assert min(x, y) >= 0
            assert max(x + width, y + height) <= simulate.SCENE
            inside = scene[int(y) : int(y + height) + 1, int(x) : int(x + width) + 1]
            assert inside.max() > np.percentile(scene, 98), (kind, target.name)
            assert width * height < (2.6 * target.radius / (3.0 if kind == "sea" else 0.2)) ** 2


def test_oriented_boxes_lie_along_the_heading():
    """The front is where a target is shifted to when it moves ahead; the box holds all points, and touches four."""
    sensor, target, azimuth = Radar(), VEHICLES[2], np.radians(160.0)
    points = radar.target_points(target, (50.0, 40.0), azimuth, sensor)
    corners = radar.oriented_box(points, azimuth)
    ahead = radar.place(np.array([1.0, 0.0]), azimuth)[::-1]
    left = radar.place(np.array([0.0, 1.0]), azimuth)[::-1]
    front_left, front_right, rear_right, rear_left = corners
    for start, end, side in (
        (rear_left, front_left, ahead),
        (rear_right, front_right, ahead),
        (front_right, front_left, left),
    ):
        assert (end - start) / np.linalg.norm(end - start) == pytest.approx(side)
    length, width = (np.linalg.norm(corner - front_left) * sensor.spacing for corner in (rear_left, front_right))
    assert 9.6 < length < 10.5  # hull and barrel, and some layover
    assert 3.6 < width < 4.6
    for axis in (ahead, left):
        assert (corners @ axis).min() == pytest.approx((points @ axis).min())
        assert (corners @ axis).max() == pytest.approx((points @ axis).max())
    low, high = points.min(axis=0), points.max(axis=0)
    assert radar.bounding_box(points) == (*low, *(high - low))


def command(folder, *arguments):
    """The command line of a small simulation."""
    counts = ["--chips", "2", "1", "--scenes", "3", "1"]
    return [simulate.__file__, "--output_dir", str(folder), *counts, *arguments]


def files(folder):
    """What was written, by name."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_same_seed_writes_the_same_files(tmp_path, monkeypatch):
    """In another process and in this one, whatever was made before."""
    subprocess.run([sys.executable, *command(tmp_path / "a")], check=True, capture_output=True)
    for name, seed in (("c", "1"), ("b", "0")):
        monkeypatch.setattr(sys, "argv", command(tmp_path / name, "--seed", seed))
        simulate.main()
    first, again, other = (files(tmp_path / name) for name in "abc")
    assert first == again
    chips = [name for name in first if name.endswith(".jpeg")]
    assert len(chips) == 30
    assert not {first[name] for name in chips} & set(other.values())

    folders = {str(Path(name).parent) for name in chips}
    assert folders == {f"chips/{part}/{v.name}" for part in ("TRAIN", "TEST") for v in VEHICLES}
    with Image.open(tmp_path / "a" / chips[0]) as chip:
        assert (chip.size, chip.mode) == ((128, 128), "L")
    boxes = json.loads(first["scenes/annotations/train.json"])
    assert [c["name"] for c in boxes["categories"]] == ["vehicle", "ship"]
    assert {i["file_name"] for i in boxes["images"]} == {
        Path(n).name for n in first if n.startswith("scenes/images/train")
    }
    ids = {image["id"] for image in boxes["images"]}
    assert {a["image_id"] for a in boxes["annotations"]} <= ids
    assert {a["type"] for a in boxes["annotations"]} <= {k.name for k in VEHICLES + SHIPS}
    assert "classes.png" in first

    formats = tmp_path / "a/formats"
    chip = np.load(formats / "chip.npy")
    with sar_files.open(formats / "chip.000") as image:
        assert np.allclose(image.read(), chip, rtol=1e-5)
        assert image.metadata["target"] == VEHICLES[0].name
        assert (image.metadata["depression"], image.pixel_spacing) == (17, (Radar().spacing,) * 2)
    with sar_files.open(formats / "scene.tif") as image:
        assert (image.shape, image.dtype, image.geolocation["crs"]) == ((512, 512), np.uint16, "EPSG:32633")
        assert image.warnings == []
