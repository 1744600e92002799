"""Imaging physics of the simulator, in ground range: rows run away from the radar, columns along its track.

    intensity of one look = | target and buildings + clutter + noise |^2, all complex, all focused by one response

The clutter of a homogeneous area is circular Gaussian, so intensity averaged over L looks is gamma distributed with
shape L: multiplicative speckle. Where the clutter's mean follows a gamma texture, the result is K distributed (Ward,
Electronics Letters 17, 1981).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import signal, stats

from scatterers import Scatterers, Target

Array = NDArray[Any]
NOISE = 0.02  # intensity of receiver noise; grass has 1


@dataclass(frozen=True)
class Radar:
    """A sensor and its grid.

    Args:
        spacing: of the pixels, m.
        resolution: 1 / bandwidth, m, before the weighting broadens it by about a fifth.
        depression: angle under which it looks down, degrees.
        wavelength: m.
        looks: independent images whose intensities are averaged.

    """

    spacing: float = 0.2
    resolution: float = 0.3
    depression: float = 17.0
    wavelength: float = 0.031
    looks: int = 1

    @property
    def slope(self) -> float:
        """Metres of height that a shadow of one metre is worth."""
        return float(np.tan(np.radians(self.depression)))


@lru_cache
def taylor_band(samples: int, spacing: float, resolution: float) -> Array:
    """Taylor weights (-35 dB side lobes) over the band, in the order of numpy's FFT frequencies: [samples]."""
    frequencies = np.fft.fftfreq(samples, spacing)
    fine = np.linspace(-0.5, 0.5, 1025)
    window = signal.windows.taylor(len(fine), nbar=4, sll=35)
    return np.interp(frequencies * resolution, fine, window, left=0.0, right=0.0)


@lru_cache
def impulse_response(resolution: float) -> tuple[Array, Array]:
    """Table of the focused response of a point, 1 at its centre: distances in m and values. A sinc, weighted."""
    samples, step = 4096, resolution / 16
    response = np.fft.fftshift(np.fft.ifft(taylor_band(samples, step, resolution)).real)
    return (np.arange(samples) - samples // 2) * step, response / response.max()


def place(points: Array, azimuth: float) -> Array:
    """Turn body axes [..., 2+] by `azimuth` (rad) into (ground range, cross range) [..., 2]."""
    x, y = points[..., 0], points[..., 1]
    return np.stack([x * np.cos(azimuth) - y * np.sin(azimuth), x * np.sin(azimuth) + y * np.cos(azimuth)], axis=-1)


def target_response(
    scatterers: Scatterers, centre: tuple[float, float], azimuth: float, radar: Radar, shape: tuple[int, int]
) -> Array:
    """Complex image [H, W] of a target at `centre` (row, column) m, turned by `azimuth` rad.

    The radar is far away at negative range, so that a point is seen under the angle between its facing and -range; its
    height brings it nearer (layover), and its slant range turns its phase.
    """
    ground = place(scatterers.position, azimuth)
    height = scatterers.position[:, 2]
    toward_radar = np.cos(scatterers.facing + azimuth - np.pi)
    visible = np.where(scatterers.sharpness > 0, np.clip(toward_radar, 0, None) ** scatterers.sharpness, 1.0)
    depression = np.radians(radar.depression)
    slant_range = ground[:, 0] * np.cos(depression) - height * np.sin(depression)
    reflectivity = scatterers.amplitude * visible * np.exp(-4j * np.pi / radar.wavelength * slant_range)
    rows = centre[0] + ground[:, 0] - height * radar.slope
    columns = centre[1] + ground[:, 1]
    return points_response(rows, columns, reflectivity, radar, shape)


def points_response(rows: Array, columns: Array, reflectivity: Array, radar: Radar, shape: tuple[int, int]) -> Array:
    """Complex image [H, W] of n points at (rows, columns) m with complex `reflectivity`."""
    distances, response = impulse_response(radar.resolution)

    def spread(positions: Array, samples: int) -> Array:  # [samples, n]
        offsets = np.arange(samples)[:, None] * radar.spacing - positions[None, :]
        return np.interp(offsets, distances, response, left=0.0, right=0.0)

    return (spread(rows, shape[0]) * reflectivity) @ spread(columns, shape[1]).T


def target_height(
    target: Target, centre: tuple[float, float], azimuth: float, radar: Radar, shape: tuple[int, int]
) -> Array:
    """Height map [H, W] of a target's parts, m, 0 elsewhere."""
    row, column = np.meshgrid(*(np.arange(n) * radar.spacing for n in shape), indexing="ij")
    body = place(np.stack([row - centre[0], column - centre[1]], axis=-1), -azimuth)
    height = np.zeros(shape)
    for part in target.parts:
        inside = (abs(body[..., 0] - part.x) <= part.length / 2) & (abs(body[..., 1] - part.y) <= part.width / 2)
        height[inside] = np.maximum(height[inside], part.z + part.height)
    return height


def shadow(height: Array, radar: Radar) -> Array:
    """Which cells [H, W] the radar cannot see, for a height map [H, W] in m: rays fall at the depression angle."""
    drop = np.arange(height.shape[0])[:, None] * radar.spacing * radar.slope
    reach = np.maximum.accumulate(height + drop, axis=0) - drop
    return reach > height + 0.05


def target_points(target: Target, centre: tuple[float, float], azimuth: float, radar: Radar) -> Array:
    """Where the corners of a target's parts lie in the image, with their layover: (x, y) [n, 2] in pixels."""
    corners = [
        (p.x + i * p.length / 2, p.y + j * p.width / 2, z)
        for p in target.parts for i in (-1, 1) for j in (-1, 1) for z in (p.z, p.z + p.height)
    ]  # fmt: skip
    if target.barrel:
        start, stop, z = target.barrel
        corners += [(start, 0.0, z), (stop, 0.0, z)]
    points = np.array(corners)
    ground = place(points, azimuth)
    rows = (centre[0] + ground[:, 0] - points[:, 2] * radar.slope) / radar.spacing
    columns = (centre[1] + ground[:, 1]) / radar.spacing
    return np.stack([columns, rows], axis=1)


def bounding_box(points: Array) -> tuple[float, ...]:
    """Upright box (x, y, width, height) around points [n, 2]."""
    columns, rows = points.T
    return columns.min(), rows.min(), np.ptp(columns), np.ptp(rows)


def oriented_box(points: Array, azimuth: float) -> Array:
    """Corners [4, 2] of the smallest box along a target's heading around its points [n, 2]: front left, then clockwise.

    The image shows the ground from above, rows away from the radar: heading 0 points down, and left is then its right.
    """
    axes = np.array([(np.sin(azimuth), np.cos(azimuth)), (np.cos(azimuth), -np.sin(azimuth))])  # ahead and left, (x, y)
    ahead, left = axes @ points.T
    sides = [(ahead.max(), left.max()), (ahead.max(), left.min()), (ahead.min(), left.min()), (ahead.min(), left.max())]
    return np.array(sides) @ axes


def texture(shape: tuple[int, int], order: float, spectrum: Array, rng: np.random.Generator) -> Array:
    """Gamma field [H, W] with mean 1 and shape `order`, whose Gaussian parent has the given spectrum [H, W]."""
    parent = np.fft.ifft2(np.fft.fft2(rng.standard_normal(shape)) * np.sqrt(spectrum)).real
    parent = (parent - parent.mean()) / parent.std()
    levels = np.linspace(-6, 6, 1201)
    return np.interp(parent, levels, stats.gamma.ppf(stats.norm.cdf(levels), order, scale=1 / order))


def frequencies(shape: tuple[int, int], spacing: float) -> tuple[Array, Array]:
    """Spatial frequencies along range and cross range, cycles a metre: 2 x [H, W]."""
    along_range, across = np.meshgrid(*(np.fft.fftfreq(n, spacing) for n in shape), indexing="ij")
    return along_range, across


def grass(shape: tuple[int, int], radar: Radar, rng: np.random.Generator) -> Array:
    """Mean intensity [H, W] of a meadow: mild texture with tufts of 1.5 m over swells of 15 m."""
    fr, fc = frequencies(shape, radar.spacing)
    f = np.hypot(fr, fc)
    return texture(shape, 6.0, np.exp(-((f * 1.5) ** 2)) + 30 * np.exp(-((f * 15) ** 2)), rng)


def sea(shape: tuple[int, int], radar: Radar, rng: np.random.Generator) -> Array:
    """Mean intensity [H, W] of the sea: strong texture (K distributed after speckle), with a swell of 60 m to 120 m."""
    fr, fc = frequencies(shape, radar.spacing)
    f = np.hypot(fr, fc)
    swell, heading = 1 / rng.uniform(60, 120), rng.uniform(0, np.pi)
    along = np.cos(np.arctan2(fc, fr) - heading) ** 8
    spectrum = along * np.exp(-(((f - swell) / (0.3 * swell)) ** 2)) + 0.1 * np.exp(-((f * 20) ** 2))
    return 0.4 * texture(shape, rng.uniform(1.5, 5.0), spectrum, rng)


def urban(shape: tuple[int, int], radar: Radar, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Make a village: mean intensity [H, W], heights [H, W] in m, and the complex response [H, W] of the houses.

    Rows of houses along streets; the wall that faces the radar and the ground make a bright line, the roof is dull.
    """
    ground = grass(shape, radar, rng)
    height, response = np.zeros(shape), np.zeros(shape, complex)
    plot, street = (round(metres / radar.spacing) for metres in (30, 5))  # pixels; a plot includes its street
    for top in range(0, shape[0], plot):
        for left in range(0, shape[1], plot):
            if rng.random() < 0.45:
                continue
            deep, wide = (round(rng.uniform(8, 14) / radar.spacing) for _ in range(2))
            row, column = (start + street + int(rng.integers(0, street)) for start in (top, left))
            block = np.s_[row : row + deep, column : column + wide]
            if row + deep >= shape[0] or column + wide >= shape[1]:
                continue
            height[block] = rng.uniform(3, 6)
            ground[block] *= 0.5
            along_wall = np.arange(column, column + wide, 0.5) * radar.spacing
            phase = np.exp(2j * np.pi * rng.random(len(along_wall)))
            strength = rng.lognormal(1.2, 0.7, len(along_wall))
            along_range = np.full(len(along_wall), row * radar.spacing)
            response += points_response(along_range, along_wall, strength * phase, radar, shape)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    streets = (rows % plot < street) | (columns % plot < street)
    ground[streets & (height == 0)] *= 0.15
    return ground, height, response


def looks(response: Array, clutter: Array, height: Array, radar: Radar, rng: np.random.Generator) -> Iterator[Array]:
    """Give the looks of a scene one by one, complex [H, W].

    Args:
        response: complex [H, W], what scatters coherently.
        clutter: mean intensity [H, W] of the ground.
        height: [H, W] m, casts the shadows.
        radar: what looks, and how often.
        rng: of the speckle.

    """
    lit = np.where(shadow(height, radar), 0.0, clutter) + NOISE
    band = np.outer(*(taylor_band(n, radar.spacing, radar.resolution) for n in clutter.shape))
    band /= np.sqrt((band**2).mean())  # keeps the mean intensity
    for _ in range(radar.looks):
        white = (rng.standard_normal(clutter.shape) + 1j * rng.standard_normal(clutter.shape)) / np.sqrt(2)
        yield response + np.fft.ifft2(np.fft.fft2(np.sqrt(lit) * white) * band)


def image(response: Array, clutter: Array, height: Array, radar: Radar, rng: np.random.Generator) -> Array:
    """Amplitude [H, W] of a scene over all `looks`, whose arguments it has."""
    intensity = np.zeros(clutter.shape)
    for look in looks(response, clutter, height, radar, rng):
        intensity += look.real**2 + look.imag**2
    return np.sqrt(intensity / radar.looks)
