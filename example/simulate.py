"""Make SAR-like data: chips of ten vehicles in the layout of MSTAR, and scenes with boxes in COCO form.

    python simulate.py --output_dir simulated

Everything follows from scattering centres, layover, shadow, clutter and speckle (`scatterers.py`, `radar.py`), and a
seed always writes the same files. The data is for trying the code; no figure on it says anything about real radar
images.

    simulated/chips/{TRAIN,TEST}/<class>/*.jpeg        depression angles 17 and 15 degrees
    simulated/scenes/images/{train,test}/*.png         grass and villages with vehicles, sea with ships
    simulated/scenes/annotations/{train,test}.json     COCO; categories vehicle and ship, `type` names the kind, and
                                                       `segmentation` is the oriented box, from the front left clockwise
    simulated/formats/chip.{npy,000}                   a complex chip, also in the form of MSTAR's raw chips
    simulated/formats/scene.tif                        a scene of 16 bits with map coordinates
    simulated/classes.png                              one example a class
"""

import json
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from numpy.typing import NDArray
from PIL import Image

import radar as physics
from radar import Radar
from saratrx.command_line import at_least, between, option, parse
from saratrx.errors import exit_on_input_error, raise_problems
from saratrx.files import refused_if_unwritable, try_writing
from scatterers import SHIPS, VEHICLES, Target, scatterers

CHIP = 128  # px
SCENE = 512  # px
GAIN = 32.0  # grey levels of the amplitude 1, about that of grass; the same for all images
DEPRESSION = {"TRAIN": 17.0, "TEST": 15.0}  # degrees, as in MSTAR's standard operating condition
MSTAR_HEADER = 512  # bytes
CATEGORIES = ("vehicle", "ship")
KINDS = ("grass", "urban", "sea")
Found = list[tuple[Target, tuple[float, ...], NDArray[np.float64]]]  # box (x, y, width, height), oriented box [4, 2]
MOST_LOOKS, MOST_IMAGES = 1000, 100_000


def generator(*parts: int | str) -> np.random.Generator:
    """Random numbers for one image, whatever was made before it."""
    return np.random.default_rng([p if isinstance(p, int) else zlib.crc32(p.encode()) for p in parts])


def to_grey(amplitude: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Amplitude to 8 bits, linear and clipped."""
    return np.rint(np.clip(amplitude * GAIN, 0, 255)).astype(np.uint8)


def place_chip(
    target: Target, azimuth: float, radar: Radar, rng: np.random.Generator
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Place a vehicle in a meadow, near the middle of the chip: what `radar.looks` needs, each [128, 128]."""
    shape, turn = (CHIP, CHIP), np.radians(azimuth)
    centre = tuple(CHIP / 2 * radar.spacing + rng.uniform(-1, 1, 2))
    response = physics.target_response(scatterers(target), centre, turn, radar, shape)
    height = physics.target_height(target, centre, turn, radar, shape)
    clutter = physics.grass(shape, radar, rng)
    clutter[height > 0] *= 0.5
    return response, clutter, height


def make_chip(target: Target, azimuth: float, radar: Radar, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Make a chip of a vehicle: uint8 [128, 128]; `azimuth` in degrees."""
    return to_grey(physics.image(*place_chip(target, azimuth, radar, rng), radar, rng))


def make_scene(kind: str, looks: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], Found]:
    """Make a scene, uint8 [512, 512], and its targets with boxes in pixels."""
    amplitude, found = scene_amplitude(kind, looks, rng)
    return to_grey(amplitude), found


def scene_amplitude(kind: str, looks: int, rng: np.random.Generator) -> tuple[NDArray[np.float64], Found]:
    """Make a scene, amplitude [512, 512], and its targets with boxes."""
    shape = (SCENE, SCENE)
    radar = Radar(looks=looks)
    if kind == "sea":
        radar = replace(radar, spacing=3.0, resolution=4.0, depression=50.0, wavelength=0.055)
    height: NDArray[Any] = np.zeros(shape)
    response: NDArray[Any] = np.zeros(shape, complex)
    if kind == "urban":
        clutter, height, response = physics.urban(shape, radar, rng)
    else:
        clutter = (physics.sea if kind == "sea" else physics.grass)(shape, radar, rng)

    kinds = SHIPS if kind == "sea" else VEHICLES
    found: Found = []
    taken = height > 0
    for _ in range(int(rng.integers(2, 9))):
        target = kinds[rng.integers(len(kinds))]
        margin = target.radius * 1.3
        centre = tuple(rng.uniform(margin, SCENE * radar.spacing - margin, 2))
        near = tuple(slice(int((c - margin) / radar.spacing), int((c + margin) / radar.spacing) + 1) for c in centre)
        if taken[near].any():  # crowded: the scene has a target less
            continue
        taken[near] = True
        azimuth = rng.uniform(0, 2 * np.pi)
        response += physics.target_response(scatterers(target), centre, azimuth, radar, shape)
        solid = physics.target_height(target, centre, azimuth, radar, shape)
        clutter[solid > 0] *= 0.5
        height = np.maximum(height, solid)
        points = physics.target_points(target, centre, azimuth, radar)
        found.append((target, physics.bounding_box(points), physics.oriented_box(points, azimuth)))
    return physics.image(response, clutter, height, radar, rng), found


def write_chips(folder: Path, per_class: dict[str, int], looks: int, seed: int) -> None:
    """Write <part>/<class>/<number>_<azimuth>.jpeg, azimuths spread over the circle."""
    for part, count in per_class.items():
        radar = Radar(depression=DEPRESSION[part], looks=looks)
        for target in VEHICLES:
            (folder / part / target.name).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                rng = generator(seed, part, target.name, number)
                azimuth = (number + rng.random()) * 360 / count
                chip = make_chip(target, azimuth, radar, rng)
                name = f"{number:04d}_{azimuth:05.1f}.jpeg"
                Image.fromarray(chip).save(folder / part / target.name / name, quality=95)


def write_scenes(folder: Path, per_part: dict[str, int], looks: int, seed: int) -> None:
    """Write images and COCO annotations; the three kinds of scene take turns."""
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    for part, count in per_part.items():
        (folder / "images" / part).mkdir(parents=True, exist_ok=True)
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number in range(count):
            kind = KINDS[number % len(KINDS)]
            scene, found = make_scene(kind, looks, generator(seed, part, "scene", number))
            name = f"{number:04d}_{kind}.png"
            Image.fromarray(scene).save(folder / "images" / part / name)
            images.append({"id": number + 1, "file_name": name, "width": SCENE, "height": SCENE})
            for target, box, corners in found:
                x, y, width, height = (round(float(v), 1) for v in box)
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number + 1,
                        "category_id": CATEGORIES.index(target.category) + 1,
                        "bbox": [x, y, width, height],
                        "segmentation": [[round(float(v), 1) for v in corners.flat]],
                        "area": round(width * height, 1),
                        "iscrowd": 0,
                        "type": target.name,
                    }
                )
        categories = [{"id": i, "name": name} for i, name in enumerate(CATEGORIES, start=1)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "annotations" / f"{part}.json").write_text(json.dumps(content, indent=1), encoding="utf-8")


def write_formats(folder: Path, looks: int, seed: int) -> None:
    """Write a complex chip as `.npy` and as MSTAR's raw chips are, and a scene as GeoTIFF of 16 bits."""
    folder.mkdir(parents=True, exist_ok=True)
    radar, target, azimuth = Radar(depression=DEPRESSION["TRAIN"]), VEHICLES[0], 35.0
    rng = generator(seed, "formats", target.name)
    chip = next(physics.looks(*place_chip(target, azimuth, radar, rng), radar, rng)).astype(np.complex64)
    np.save(folder / "chip.npy", chip)
    fields = {
        "PhoenixHeaderLength": f"{MSTAR_HEADER:05d}",
        "NumberOfColumns": CHIP,
        "NumberOfRows": CHIP,
        "TargetType": target.name,
        "TargetAz": azimuth,
        "DesiredDepression": radar.depression,
        "RangePixelSpacing": radar.spacing,
        "CrossRangePixelSpacing": radar.spacing,
    }
    lines = ["[PhoenixHeaderVer01.04]", *(f"{key}= {value}" for key, value in fields.items()), "[EndofPhoenixHeader]"]
    values = np.stack([np.abs(chip), np.angle(chip)]).astype(">f4")
    (folder / "chip.000").write_bytes("\n".join([*lines, ""]).encode().ljust(MSTAR_HEADER) + values.tobytes())
    amplitude, _ = scene_amplitude("grass", looks, generator(seed, "formats", "grass"))
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(radar.spacing, 0, 5e5, 0, -radar.spacing, 5e6)}
    how = {"width": SCENE, "height": SCENE, "count": 1, "dtype": "uint16", "compress": "deflate"}
    with rasterio.open(folder / "scene.tif", "w", driver="GTiff", **how, **place) as file:
        file.write(np.rint(np.clip(amplitude * 100 * GAIN, 0, 65535)).astype(np.uint16), 1)


def draw_classes(path: Path, looks: int, seed: int) -> None:
    """Draw a chip of each vehicle and a scene of each kind, with its boxes, as one figure."""
    figure = Figure(figsize=(15, 11), layout="constrained")
    grid = figure.add_gridspec(2, 1, height_ratios=[1.15, 1])
    chips, scenes = (figure.add_subfigure(grid[row]) for row in (0, 1))
    for axis, target in zip(chips.subplots(2, 5).flat, VEHICLES, strict=True):
        radar = Radar(depression=DEPRESSION["TRAIN"], looks=looks)
        chip = make_chip(target, 35.0, radar, generator(seed, "figure", target.name))
        axis.imshow(chip, cmap="gray", vmin=0, vmax=255)
        axis.set(title=target.name, xticks=[], yticks=[])
    for axis, kind in zip(scenes.subplots(1, 3), KINDS, strict=True):
        scene, found = make_scene(kind, looks, generator(seed, "figure", kind))
        axis.imshow(scene, cmap="gray", vmin=0, vmax=255)
        for target, (x, y, width, height), corners in found:
            axis.add_patch(Rectangle((x, y), width, height, fill=False, color="tab:orange"))
            axis.add_patch(Polygon(corners, fill=False, color="tab:blue"))
            axis.text(x, y - 4, target.name, color="tab:orange", fontsize=8)
        axis.set(title=f"{kind}, {len(found)} targets", xticks=[], yticks=[])
    figure.savefig(path, dpi=80)


@dataclass(frozen=True)
class Options:
    """What is made."""

    output_dir: Path = option(help="where to", metavar="DIR")
    chips: tuple[int, int] = option((40, 20), help="of each class, for training and for testing", metavar="N")
    scenes: tuple[int, int] = option((24, 9), help="for training and for testing", metavar="N")
    looks: int = option(1, help="of the speckle; more looks, less speckle")
    seed: int = option(0, help="of everything random")

    def __post_init__(self) -> None:
        problems = between(1, MOST_LOOKS, looks=self.looks) + at_least(0, seed=self.seed)
        for number in self.chips:
            problems += between(0, MOST_IMAGES, chips=number)
        for number in self.scenes:
            problems += between(0, MOST_IMAGES, scenes=number)
        raise_problems(problems)


def main() -> None:
    """Write chips, scenes and the figure."""
    (options,) = parse([Options], "Make SAR-like chips and scenes.")
    folder, looks, seed = options.output_dir, options.looks, options.seed
    try_writing(folder, "--output_dir")
    with refused_if_unwritable(folder):
        write_chips(folder / "chips", dict(zip(DEPRESSION, options.chips, strict=True)), looks, seed)
        write_scenes(folder / "scenes", dict(zip(("train", "test"), options.scenes, strict=True)), looks, seed)
        write_formats(folder / "formats", looks, seed)
        draw_classes(folder / "classes.png", looks, seed)
    print(f"{10 * sum(options.chips)} chips and {sum(options.scenes)} scenes in {folder}")


if __name__ == "__main__":
    with exit_on_input_error():
        main()
