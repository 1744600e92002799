"""Polygons in degrees, as GeoJSON of 2016 (RFC 7946) has them: counterclockwise, and cut where longitudes jump."""

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.affinity import translate

WORLD = shapely.box(-180, -90, 180, 90)


def geometry(corners: NDArray[np.float64]) -> dict[str, Any]:
    """Give a small polygon as GeoJSON's `geometry`, by RFC 7946, 3.1.6 and 3.1.9.

    Args:
        corners: longitude and latitude [n, 2] of WGS 84, in degrees, one after the other, all different.

    Returns:
        A Polygon, or a MultiPolygon of parts west and east of the antimeridian; longitudes are from -180 to 180. One
        around a pole reaches up to it.

    """
    longitude = np.unwrap([*corners[:, 0], corners[0, 0]], period=360)
    longitude -= 360 * np.floor((longitude.min() + 180) / 360)
    ring = np.stack([longitude, [*corners[:, 1], corners[0, 1]]], axis=1)
    if abs(longitude[-1] - longitude[0]) > 180:
        pole = np.copysign(90, corners[:, 1].mean())
        ring = np.concatenate([ring, [(longitude[-1], pole), (longitude[0], pole)]])
    polygon = shapely.Polygon(ring)
    if longitude.max() > 180:
        sides = [polygon & WORLD, translate(polygon & translate(WORLD, 360), -360)]
        polygon = shapely.union_all([part for side in sides for part in polygons(side)])
    return shapely.geometry.mapping(shapely.orient_polygons(polygon))


def polygons(found: shapely.Geometry) -> list[shapely.Polygon]:
    """Give the polygons of a geometry; where it only touches another there are lines and points in it too."""
    return [part for part in shapely.get_parts(found) if isinstance(part, shapely.Polygon) and part.area]
