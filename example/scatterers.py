"""Targets for the simulator: vehicles and ships as boxes, and the scattering centres that a radar sees on them.

A target is what a scattering centre model (Gerry et al., IEEE TAP 47, 1999) makes of it: points on a rigid body, each
with an amplitude that depends on the aspect it is seen under. Dimensions are rounded from public data sheets; nothing
here is a measured signature.
"""

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Box:
    """A part of a target in metres; x forward, y to the left, z up; (x, y) its centre, z its base."""

    x: float
    y: float
    z: float
    length: float
    width: float
    height: float


@dataclass(frozen=True)
class Target:
    """A kind of target: solid parts, and thin ones that scatter but cast no shadow worth the name."""

    name: str
    category: str
    parts: tuple[Box, ...]
    wheels: tuple[float, ...] = ()  # x of the road wheels, on both sides
    barrel: tuple[float, float, float] | None = None  # from x, to x, at height z
    detail: int = 60  # small scatterers: hatches, lamps, tools

    @property
    def radius(self) -> float:
        """Largest distance of a part from the origin on the ground, m."""
        reach = [np.hypot(abs(p.x) + p.length / 2, abs(p.y) + p.width / 2) for p in self.parts]
        return float(max(*reach, abs(self.barrel[1]) if self.barrel else 0.0))


@dataclass(frozen=True)
class Scatterers:
    """Scattering centres of a target in body axes, n of them."""

    position: Floats  # [n, 3] m
    amplitude: Floats  # [n], relative to a clutter amplitude of 1
    facing: Floats  # [n] rad, the direction of the strongest return in the ground plane
    sharpness: Floats  # [n], exponent of the cosine of the angle off `facing`; 0 shines all round


def wheels(first: float, last: float, count: int) -> tuple[float, ...]:
    """Evenly spaced x of road wheels, m."""
    return tuple(np.linspace(first, last, count).tolist())


VEHICLES = (
    Target(
        "BMP2",
        "vehicle",
        (Box(0, 0, 0.4, 6.7, 3.1, 1.3), Box(-0.3, 0, 1.7, 1.9, 1.9, 0.7), Box(-2.6, 0.9, 1.7, 1.1, 0.9, 0.15)),
        wheels(-2.3, 2.2, 6),
        (0.6, 2.9, 2.0),
    ),
    Target(
        "BTR70",
        "vehicle",
        (Box(0, 0, 0.5, 7.5, 2.8, 1.5), Box(1.6, 0, 2.0, 1.1, 1.1, 0.4), Box(-2.9, 0, 2.0, 1.2, 2.0, 0.15)),
        (-2.7, -1.1, 0.9, 2.4),
        (2.1, 3.3, 2.2),
    ),
    Target(
        "T72",
        "vehicle",
        (Box(0, 0, 0.5, 6.9, 3.6, 1.0), Box(-0.2, 0, 1.5, 3.0, 2.8, 0.8), Box(-3.5, 0, 1.0, 0.4, 2.6, 0.4)),
        wheels(-2.5, 2.5, 6),
        (1.3, 6.1, 1.8),
    ),
    Target(
        "BTR60",
        "vehicle",
        (Box(0, 0, 0.5, 7.2, 2.8, 1.4), Box(0.9, 0, 1.9, 1.0, 1.0, 0.4), Box(2.6, 0, 1.9, 1.0, 2.3, 0.3)),
        (-2.3, -0.8, 0.8, 2.3),
        (1.4, 2.6, 2.1),
    ),
    Target(
        "2S1",
        "vehicle",
        (Box(0, 0, 0.4, 7.3, 2.9, 1.2), Box(-1.1, 0, 1.6, 2.9, 2.6, 1.0)),
        wheels(-2.6, 2.7, 7),
        (0.3, 3.7, 2.1),
    ),
    Target(
        "BRDM2",
        "vehicle",
        (Box(0, 0, 0.5, 5.7, 2.3, 1.4), Box(0.4, 0, 1.9, 1.1, 1.1, 0.4)),
        (-1.6, 1.5),
        (0.9, 2.0, 2.1),
    ),
    Target(
        "D7",
        "vehicle",
        (Box(-0.3, 0, 0.3, 4.2, 2.5, 1.2), Box(-0.9, 0, 1.5, 1.6, 1.7, 1.6), Box(2.5, 0, 0.1, 0.3, 3.9, 1.3)),
        wheels(-1.7, 1.3, 5),
    ),
    Target(
        "T62",
        "vehicle",
        (Box(0, 0, 0.4, 6.6, 3.3, 1.0), Box(0.1, 0, 1.4, 2.5, 2.5, 0.9), Box(-3.0, 0, 1.4, 0.5, 3.0, 0.35)),
        (-2.4, -1.2, 0.1, 1.2, 2.1),
        (1.3, 5.9, 1.8),
    ),
    Target(
        "ZIL131",
        "vehicle",
        (Box(2.6, 0, 0.7, 1.7, 1.6, 0.9), Box(1.2, 0, 0.8, 1.3, 2.3, 1.6), Box(-1.6, 0, 1.2, 3.7, 2.5, 1.6)),
        (-2.3, -1.1, 2.4),
    ),
    Target(
        "ZSU234",
        "vehicle",
        (Box(0, 0, 0.4, 6.5, 3.1, 0.9), Box(-0.5, 0, 1.3, 3.1, 2.8, 0.9), Box(-1.9, 0, 2.2, 0.4, 1.3, 1.2)),
        wheels(-2.4, 2.3, 6),
        (1.0, 2.7, 1.8),
    ),
)

SHIPS = (
    Target(
        "cargo", "ship",
        (Box(0, 0, 0, 110, 17, 6), Box(-44, 0, 6, 12, 15, 14), Box(0, 0, 6, 3, 3, 12), Box(28, 0, 6, 3, 3, 12)),
        detail=160,
    ),
    Target(
        "tanker", "ship",
        (Box(0, 0, 0, 140, 22, 5), Box(-58, 0, 5, 14, 20, 16), Box(0, 0, 5, 90, 2, 2)),
        detail=140,
    ),
    Target("fishing", "ship", (Box(0, 0, 0, 42, 9, 4), Box(8, 0, 4, 9, 7, 6), Box(-14, 0, 4, 2, 2, 9)), detail=90),
)  # fmt: skip


def scatterers(target: Target) -> Scatterers:
    """Scattering centres of a target: always the same ones, since a type's details are drawn by its name.

    - the upright edges of every part and the corners where its walls meet the ground or the part below: broad returns;
    - the walls: many small plates that flash when the radar looks along their normal;
    - wheels and gun barrel: seen from the side;
    - small details all over, each facing its own way.
    """
    rng = np.random.default_rng(zlib.crc32(target.name.encode()))
    size = 2.5 * float(np.sqrt(target.parts[0].length))  # a longer wall has the same number of points, so stronger ones
    rows: list[tuple[float, float, float, float, float, float]] = []  # x, y, z, amplitude, facing, sharpness
    for part in target.parts:
        ends = {0.0: (1, 0), np.pi / 2: (0, 1), np.pi: (-1, 0), -np.pi / 2: (0, -1)}
        for side in (-1, 1):
            for end in (-1, 1):
                x, y = part.x + end * part.length / 2, part.y + side * part.width / 2
                outward = float(np.arctan2(side, end))
                rows.append((x, y, part.z, 2.0 * size, outward, 2.0))
                rows.append((x, y, part.z + part.height, 0.8 * size, outward, 1.0))
        for facing, (nx, ny) in ends.items():
            wall = part.width if nx else part.length
            for offset in np.arange(-wall / 2, wall / 2, max(0.5, wall / 30)).tolist():
                x = part.x + nx * part.length / 2 + (0 if nx else offset)
                y = part.y + ny * part.width / 2 + (0 if ny else offset)
                height = part.z + part.height * rng.uniform(0, 1)
                tilt = facing + rng.normal(0, np.radians(4))
                rows.append((x, y, height, size * rng.uniform(1.0, 3.0), tilt, 20.0))
                rows.append((x, y, part.z, size * rng.uniform(0.3, 0.9), tilt, 3.0))
    for x in target.wheels:
        for side in (-1, 1):
            rows.append((x, side * target.parts[0].width / 2, 0.4, 2.2 * size, side * np.pi / 2, 4.0))
    if target.barrel:
        start, stop, z = target.barrel
        for x in np.arange(start, stop, 0.25).tolist():
            rows += [(x, 0, z, 0.9 * size, side * np.pi / 2, 30.0) for side in (-1, 1)]
        rows.append((stop, 0, z, 1.2 * size, 0.0, 0.5))
    for _ in range(target.detail):
        part = target.parts[rng.integers(len(target.parts))]
        x, y = part.x + part.length * rng.uniform(-0.5, 0.5), part.y + part.width * rng.uniform(-0.5, 0.5)
        strength = 0.6 * size * rng.lognormal(0, 0.6)
        rows.append((x, y, part.z + part.height, strength, rng.uniform(-np.pi, np.pi), rng.uniform(0.5, 4.0)))
    table = np.array(rows)
    return Scatterers(table[:, :3], table[:, 3], table[:, 4], table[:, 5])
