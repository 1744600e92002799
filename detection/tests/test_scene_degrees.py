"""GeoJSON in longitude and latitude, by RFC 7946: against the projections' own formulas."""

import json

import numpy as np
import pytest
import rasterio
import shapely
import torch
from rasterio.transform import Affine

from hivit_det.scenes import detection_files
from hivit_det.scenes.scene import open_scene
from hivit_det.scenes.wgs84 import geometry
from hivit_det.scenes.windows import Detections
from saratrx.errors import InputError

RADIUS, FLATTENING = 6378137.0, 1 / 298.257223563
ECCENTRICITY = np.sqrt(FLATTENING * (2 - FLATTENING))


def utm(longitude, latitude, middle):
    """Easting and northing: Karney, "Transverse Mercator with an accuracy of a few nanometers", 2011, (7) to (11)."""
    n = FLATTENING / (2 - FLATTENING)
    longitude, latitude = np.radians(longitude - middle), np.radians(latitude)
    tangent, e = np.tan(latitude), ECCENTRICITY
    sigma = np.sinh(e * np.arctanh(e * tangent / np.sqrt(1 + tangent**2)))
    conformal = tangent * np.sqrt(1 + sigma**2) - sigma * np.sqrt(1 + tangent**2)
    xi = np.arctan2(conformal, np.cos(longitude))
    eta = np.arcsinh(np.sin(longitude) / np.hypot(conformal, np.cos(longitude)))
    factors = (
        n / 2 - 2 / 3 * n**2 + 5 / 16 * n**3 + 41 / 180 * n**4,
        13 / 48 * n**2 - 3 / 5 * n**3 + 557 / 1440 * n**4,
        61 / 240 * n**3 - 103 / 140 * n**4,
        49561 / 161280 * n**4,
    )
    north = xi + sum(f * np.sin(2 * k * xi) * np.cosh(2 * k * eta) for k, f in enumerate(factors, 1))
    east = eta + sum(f * np.cos(2 * k * xi) * np.sinh(2 * k * eta) for k, f in enumerate(factors, 1))
    scale = 0.9996 * RADIUS / (1 + n) * (1 + n**2 / 4 + n**4 / 64)
    return 500_000 + scale * east, scale * north


def polar(longitude, latitude):
    """EPSG:3413, NSIDC's north: Snyder, "Map Projections", 1987, (15-9), (14-15), (21-33) and (21-34)."""

    def t(degrees):
        sine = np.sin(np.radians(degrees))
        part = ((1 - ECCENTRICITY * sine) / (1 + ECCENTRICITY * sine)) ** (ECCENTRICITY / 2)
        return np.tan(np.pi / 4 - np.radians(degrees) / 2) / part

    true = np.radians(70)
    m = np.cos(true) / np.sqrt(1 - (ECCENTRICITY * np.sin(true)) ** 2)
    rho = RADIUS * m * t(latitude) / t(70)
    return rho * np.sin(np.radians(longitude + 45)), -rho * np.cos(np.radians(longitude + 45))


CASES = [  # the file's system, its transform, and what makes its coordinates of longitude and latitude
    ("EPSG:32633", Affine(10, 0, 420_000, 0, -10, 5_900_000), lambda x, y: utm(x, y, 15)),
    ("EPSG:32633", Affine(10, 0, 420_000, 0, 10, 5_900_000), lambda x, y: utm(x, y, 15)),  # rows go north
    ("EPSG:3413", Affine(40, 0, -1_200_000, 0, -40, 900_000), polar),
    ("EPSG:4326", Affine(1e-3, 0, 10, 0, -1e-3, -30), lambda x, y: (x, y)),
    ("EPSG:4326", Affine(1e-3, 0, 200, 0, -1e-3, 30), lambda x, y: (x + 360, y)),  # degrees from 0 to 360
]


def write_scene(path, crs, transform):
    values = np.random.default_rng(0).integers(1, 255, (70, 90), dtype=np.uint8)
    about = {"width": 90, "height": 70, "count": 1, "dtype": "uint8", "crs": crs, "transform": transform}
    with rasterio.open(path, "w", driver="GTiff", **about) as file:
        file.write(values, 1)
    return path


def found_in(folder, crs, transform, *boxes, wgs84=True):
    scene = open_scene(write_scene(folder / "scene.tif", crs, transform))
    count = len(boxes)
    found = Detections(torch.tensor(boxes), torch.full((count,), 0.9), torch.zeros(count, dtype=torch.int64), ("a",))
    detection_files.write_geojson(folder / "a.geojson", scene, found, wgs84=wgs84)
    return json.loads((folder / "a.geojson").read_text())


def area(ring):
    """Twice the signed area: above 0 counterclockwise."""
    x, y = np.array(ring).T
    return (x[:-1] * y[1:] - x[1:] * y[:-1]).sum()


@pytest.mark.parametrize(("crs", "transform", "project"), CASES)
@pytest.mark.parametrize("boxes", [[(3.0, 5, 20, 11), (40.5, 30.25, 60, 69)], [(45.0, 35, 40, 8, 0.3)]])
def test_degrees_lead_back_to_the_pixels(tmp_path, crs, transform, project, boxes):
    content = found_in(tmp_path, crs, transform, *boxes)
    assert content.keys() == {"type", "features"}
    own = found_in(tmp_path, crs, transform, *boxes, wgs84=False)
    assert own["crs"]["properties"]["name"] == crs
    for feature, same in zip(content["features"], own["features"], strict=True):
        assert feature["geometry"]["type"] == "Polygon"
        (ring,), (expected,) = feature["geometry"]["coordinates"], same["geometry"]["coordinates"]
        assert ring[0] == ring[-1]
        assert len(ring) == 5
        assert area(ring) > 0
        assert np.abs(ring).max() <= 180
        x, y = project(*np.array(ring).T)
        pixels, corners = (np.array(~transform @ each) for each in ((x, y), np.array(expected).T))
        for corner in corners.T:
            assert np.abs(pixels.T - corner).max(axis=1).min() < 1e-4
        assert feature["properties"] == same["properties"]


def test_a_box_across_the_date_line_is_cut_there(tmp_path):
    transform = Affine(1e-3, 0, 179.97, 0, -1e-3, 10)  # column 30 is at 180 degrees
    across, west, touching = (20.0, 10, 45, 30), (2.0, 10, 20, 30), (10.0, 40, 30, 50)
    content = found_in(tmp_path, "EPSG:4326", transform, across, west, touching, (40.0, 10, 50, 20))
    cut, *whole = [feature["geometry"] for feature in content["features"]]
    assert cut["type"] == "MultiPolygon"
    expected = [(179.99, 9.97, 180, 9.99), (-180, 9.97, -179.985, 9.99)]
    for (ring,), box in zip(sorted(cut["coordinates"], reverse=True), expected, strict=True):
        assert area(ring) > 0
        assert shapely.Polygon(ring).bounds == pytest.approx(box)
        assert shapely.Polygon(ring).area == pytest.approx((box[2] - box[0]) * 0.02)
    assert [each["type"] for each in whole] == ["Polygon"] * 3
    assert max(x for x, _ in whole[2]["coordinates"][0]) == pytest.approx(-179.98)


def test_heading_and_size_at_the_date_line(tmp_path):
    transform = Affine(1e-3, 0, 179.955, 0, -1e-3, 0.035)
    (found,) = found_in(tmp_path, "EPSG:4326", transform, (45.0, 35, 40, 8, 0))["features"]
    (far,) = found_in(tmp_path, "EPSG:4326", Affine(1e-3, 0, 9.955, 0, -1e-3, 0.035), (45.0, 35, 40, 8, 0))["features"]
    assert found["geometry"]["type"] == "MultiPolygon"
    assert found["properties"] == far["properties"]
    utm_1 = Affine(10, 0, 166_021 - 450, 0, -10, 350)  # 180 degrees east is in the middle
    (found,) = found_in(tmp_path, "EPSG:32601", utm_1, (45.0, 35, 40, 8, 0))["features"]
    assert found["properties"]["heading"] == pytest.approx(90, abs=0.1)
    assert found["properties"]["length"] == pytest.approx(400, rel=2e-3)


def test_a_box_around_a_pole_reaches_up_to_it(tmp_path):
    (found,) = found_in(tmp_path, "EPSG:3413", Affine(40, 0, -1800, 0, -40, 1400), (30.0, 25, 60, 45))["features"]
    around = shapely.geometry.shape(found["geometry"])
    assert around.is_valid
    assert around.geom_type == "Polygon"
    assert around.bounds[0] == -180
    assert around.bounds[2:] == (180, 90)
    for longitude in (-179, -100, 0, 78.69, 179):
        assert around.contains(shapely.Point(longitude, 89.999))
    south = geometry(np.array([(0.0, -89), (90, -89), (180, -89), (270, -89)]))
    assert shapely.geometry.shape(south).area == pytest.approx(360)
    assert shapely.geometry.shape(south).bounds == (-180, -90, 180, -89)


def test_a_map_that_is_not_of_the_earth_is_refused(tmp_path):
    local = 'LOCAL_CS["a harbour",UNIT["metre",1]]'
    with pytest.raises(InputError, match=r"scene.tif: its map coordinates are none of the Earth: "):
        found_in(tmp_path, local, Affine(2, 0, 100, 0, -2, 100), (3.0, 5, 20, 11))


def test_nothing_found_is_an_empty_collection(tmp_path):
    scene = open_scene(write_scene(tmp_path / "scene.tif", *CASES[0][:2]))
    nothing = Detections(torch.empty(0, 4), torch.empty(0), torch.empty(0, dtype=torch.int64), ("a",))
    for wgs84 in (False, True):
        detection_files.write_geojson(tmp_path / "a.geojson", scene, nothing, wgs84=wgs84)
        assert json.loads((tmp_path / "a.geojson").read_text())["features"] == []
