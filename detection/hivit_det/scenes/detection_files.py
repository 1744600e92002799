"""What a detector has found, as files: COCO JSON, CSV, GeoJSON, and a picture."""

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

from hivit_det.scenes.scene import Scene
from hivit_det.scenes.wgs84 import geometry as geometry_in_degrees
from hivit_det.scenes.windows import Detections
from saratrx.errors import InputError
from saratrx.files import content_hash, is_folder, refused_if_unwritable, write_bytes, write_json, write_text

PICTURE_SIDE = 2048  # px
FONT_SIZE = 13
BOXES_ALONE = "Last Resort High-Efficiency"  # Matplotlib's font that has a box for every sign
KEPT = ".part"  # of an unfinished scene, see `hivit_det.scenes.resuming`
SUFFIXES = (".json", ".csv", ".jpg", ".geojson", KEPT)


def target_path(folder: Path, scene_path: Path, suffix: str) -> Path:
    """Where a form of what is found in a scene goes."""
    return folder / f"{scene_path.stem}_targets{suffix}"


def refuse_folders(folder: Path, scene_path: Path) -> None:
    """See that no folder stands where `write_all` will write.

    Raises:
        InputError: naming it.

    """
    for suffix in SUFFIXES:
        path = target_path(folder, scene_path, suffix)
        if is_folder(path):
            raise InputError(f"{path} is a folder, and would be written to: move it, or give another --output_dir")


def write_all(
    folder: Path, scene: Scene, found: Detections, wgs84: bool = False, run: dict[str, Any] | None = None
) -> list[Path]:
    """Write all forms to a folder, `<scene>_targets.*`; GeoJSON only for scenes with map coordinates.

    COCO's comes last: it says what the others are, so that a run that was stopped between them is not taken for
    finished.

    Args:
        folder: made if it is not there.
        scene: that was looked at.
        found: what was found in it.
        wgs84: write GeoJSON in longitude and latitude, see `write_geojson`.
        run: what it was found by, see `hivit_det.scenes.resuming`.

    Returns:
        The files, COCO's first.

    Raises:
        InputError: naming the file that cannot be written.

    """
    writers: dict[str, Callable[[Path, Scene, Detections], None]] = {".csv": write_csv, ".jpg": write_picture}
    if scene.crs:
        writers[".geojson"] = partial(write_geojson, wgs84=wgs84)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for suffix, write in writers.items():
        written.append(target_path(folder, scene.path, suffix))
        with refused_if_unwritable(written[-1]):
            write(written[-1], scene, found)
    info = {"run": run or {}, "files": {path.name: content_hash(path) for path in written}}
    coco = target_path(folder, scene.path, ".json")
    with refused_if_unwritable(coco):
        write_coco(coco, scene, found, info)
    return [coco, *written]


@dataclass(frozen=True)
class Row:
    """A target: its class, its score, its corners (x, y), one after the other, and its numbers as a file has them."""

    name: str
    score: float
    corners: list[tuple[float, float]]
    numbers: list[float]

    @property
    def hull(self) -> tuple[float, float, float, float]:
        """The upright box around it: x1, y1, x2, y2."""
        x, y = zip(*self.corners, strict=True)
        return min(x), min(y), max(x), max(y)


def rows(found: Detections) -> list[Row]:
    """List the targets. Their numbers are those of `columns`, and the area of an oriented box is w * h of them."""
    boxes = found.boxes.double()
    if found.are_oriented:
        boxes[:, 4] = boxes[:, 4].rad2deg()
    names = [found.classes[label] for label in found.labels.tolist()]
    corners = [[(x, y) for x, y in each] for each in found.corners.tolist()]
    return [Row(*each) for each in zip(names, found.scores.tolist(), corners, boxes.tolist(), strict=True)]


def columns(found: Detections) -> list[str]:
    """Name the numbers of a target: in pixels, and the angle of the side w in degrees, clockwise from the x axis."""
    return ["x", "y", "w", "h", "angle"] if found.are_oriented else ["x1", "y1", "x2", "y2"]


def write_coco(path: Path, scene: Scene, found: Detections, info: dict[str, Any]) -> None:
    """Write COCO's form: an annotation file with a `score` per box; category k + 1 is the config's class k.

    An oriented box is the polygon in `segmentation`, and `bbox` the upright one around it. `info` is the member of that
    name: the run, and the SHA-256 of the files beside it.
    """
    ids = {name: i for i, name in enumerate(found.classes, start=1)}
    annotations = []
    for number, row in enumerate(rows(found), start=1):
        x1, y1, x2, y2 = row.hull
        box = [round(value, 2) for value in (x1, y1, x2 - x1, y2 - y1)]
        about: dict[str, Any] = {"id": number, "image_id": 1, "category_id": ids[row.name], "iscrowd": 0}
        about |= {"bbox": box, "area": round(box[2] * box[3], 2), "score": round(row.score, 4)}
        if found.are_oriented:
            about["area"] = round(row.numbers[2] * row.numbers[3], 2)
            about["segmentation"] = [[round(value, 2) for corner in row.corners for value in corner]]
        annotations.append(about)
    image = {"id": 1, "file_name": scene.path.name, "width": scene.width, "height": scene.height}
    categories = [{"id": number, "name": name} for name, number in ids.items()]
    content = {"info": info, "images": [image], "annotations": annotations, "categories": categories}
    write_json(path, content)


def write_csv(path: Path, scene: Scene, found: Detections) -> None:
    """Write a line per target: class, score, and the numbers of its box."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["class", "score", *columns(found)])
    for row in rows(found):
        table.writerow([row.name, f"{row.score:.4f}", *(f"{value:.2f}" for value in row.numbers)])
    write_text(path, text.getvalue())


def write_geojson(path: Path, scene: Scene, found: Detections, wgs84: bool = False) -> None:
    """Write polygons in the scene's own map coordinates, which the member `crs` names (GeoJSON of 2008).

    With `wgs84` they are in longitude and latitude, as RFC 7946 (GeoJSON of 2016) wants, and nothing names them.

    Oriented boxes have `heading`, of the longer side, in degrees clockwise from north, from 0 to 180 (a box does not
    tell the bow from the stern), and `length` and `width` in metres.
    """
    features, targets = [], rows(found)
    points = [corner for row in targets for corner in row.corners]
    place = scene.degrees if wgs84 else scene.map_coordinates
    places = np.reshape(place(points) if points else [], (-1, 4, 2))
    for row, corners in zip(targets, places, strict=True):
        properties: dict[str, Any] = {
            "class": row.name,
            "score": round(row.score, 4),
            "pixels": [round(value, 2) for value in row.numbers],
        }
        if found.are_oriented:
            properties |= lie_of(scene, row.corners)
        ring = [*corners.tolist(), corners[0].tolist()]
        geometry = geometry_in_degrees(corners) if wgs84 else {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "properties": properties, "geometry": geometry})
    crs = {} if wgs84 else {"crs": {"type": "name", "properties": {"name": scene.crs}}}
    write_json(path, {"type": "FeatureCollection", **crs, "features": features})


def lie_of(scene: Scene, corners: list[tuple[float, float]]) -> dict[str, float]:
    """Give heading, length and width of an oriented box on the ground; nothing where the map is not of the Earth."""
    first, second, third, _ = scene.metres(corners)
    width, length = sorted([second - first, third - second], key=np.linalg.norm)
    figures = {
        "heading": round(float(np.degrees(np.arctan2(*length)) % 180), 1),
        "length": round(float(np.linalg.norm(length)), 2),
        "width": round(float(np.linalg.norm(width)), 2),
    }
    return figures if np.isfinite(list(figures.values())).all() else {}


def write_picture(path: Path, scene: Scene, found: Detections) -> None:
    """Draw the scene with boxes, classes and scores, at most 2,048 px a side."""
    grey = scene.overview(PICTURE_SIDE)
    scale = grey.shape[1] / scene.width
    picture = Image.fromarray(grey).convert("RGB")
    pen = ImageDraw.Draw(picture)
    colours = [tuple(int(255 * value) for value in colour) for colour in mpl.color_sequences["tab10"]]
    font = font_for("".join(found.classes))
    for label, row in zip(found.labels.tolist(), rows(found), strict=True):
        colour = colours[label % len(colours)]
        x1, y1, x2, y2 = (value * scale for value in row.hull)
        if found.are_oriented:
            pen.polygon([(x * scale, y * scale) for x, y in row.corners], outline=colour, width=2)
        else:
            pen.rectangle((x1, y1, x2, y2), outline=colour, width=2)
        text, place = f"{drawable(row.name, font)} {row.score:.2f}", (x1, max(0, y1 - 15))
        pen.rectangle(pen.textbbox(place, text, font=font), fill=(0, 0, 0))
        pen.text(place, text, fill=colour, font=font)
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=90)
    write_bytes(path, content.getvalue())


def font_for(text: str) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Choose a font: Pillow's own for ASCII, else an installed one that has all signs of a text, if there is one."""
    if not text.isascii():
        for font in font_manager.fontManager.ttflist:
            if font.name != BOXES_ALONE and set(map(ord, text)) <= signs_of(font.fname):
                return ImageFont.truetype(font.fname, FONT_SIZE)
    return ImageFont.load_default(size=FONT_SIZE)


def drawable(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    r"""Give a text as a font can draw it: in Pillow's own, which knows few other signs, these are escaped (\u8230)."""
    has_all = isinstance(font, ImageFont.FreeTypeFont) and isinstance(font.path, str)
    return text if has_all else text.encode("ascii", "backslashreplace").decode()


@cache
def signs_of(path: str) -> frozenset[int]:
    """Give the code points that a font file has; none if it cannot be read."""
    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()
