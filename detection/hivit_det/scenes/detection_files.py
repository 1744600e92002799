"""What a detector has found, as files: COCO JSON, CSV, GeoJSON, and a picture."""

import csv
import io
from functools import cache
from pathlib import Path

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

from hivit_det.scenes.scene import Scene
from hivit_det.scenes.windows import Detections
from saratrx.errors import InputError
from saratrx.files import is_folder, refused_if_unwritable, write_bytes, write_json, write_text

PICTURE_SIDE = 2048  # px
FONT_SIZE = 13
BOXES_ALONE = "Last Resort High-Efficiency"  # Matplotlib's font that has a box for every sign
SUFFIXES = (".json", ".csv", ".jpg", ".geojson")


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


def write_all(folder: Path, scene: Scene, found: Detections) -> list[Path]:
    """Write all forms to a folder, `<scene>_targets.*`; GeoJSON only for scenes with map coordinates.

    Returns:
        The files.

    Raises:
        InputError: naming the file that cannot be written.

    """
    writers = {".json": write_coco, ".csv": write_csv, ".jpg": write_picture}
    if scene.crs:
        writers[".geojson"] = write_geojson
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for suffix, write in writers.items():
        written.append(target_path(folder, scene.path, suffix))
        with refused_if_unwritable(written[-1]):
            write(written[-1], scene, found)
    return written


def rows(found: Detections) -> list[tuple[str, float, list[float]]]:
    """List class, score and box [x1, y1, x2, y2] of each target."""
    names = [found.classes[label] for label in found.labels.tolist()]
    return list(zip(names, found.scores.tolist(), found.boxes.tolist(), strict=True))


def write_coco(path: Path, scene: Scene, found: Detections) -> None:
    """Write COCO's form: an annotation file with a `score` per box; category k + 1 is the config's class k."""
    ids = {name: i for i, name in enumerate(found.classes, start=1)}
    annotations = []
    for number, (name, score, (x1, y1, x2, y2)) in enumerate(rows(found), start=1):
        box = [round(value, 2) for value in (x1, y1, x2 - x1, y2 - y1)]
        about = {"id": number, "image_id": 1, "category_id": ids[name], "iscrowd": 0}
        annotations.append(about | {"bbox": box, "area": round(box[2] * box[3], 2), "score": round(score, 4)})
    image = {"id": 1, "file_name": scene.path.name, "width": scene.width, "height": scene.height}
    categories = [{"id": number, "name": name} for name, number in ids.items()]
    content = {"images": [image], "annotations": annotations, "categories": categories}
    write_json(path, content)


def write_csv(path: Path, scene: Scene, found: Detections) -> None:
    """Write a line per target: class, score, and the box in pixels."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["class", "score", "x1", "y1", "x2", "y2"])
    for name, score, box in rows(found):
        table.writerow([name, f"{score:.4f}", *(f"{value:.2f}" for value in box)])
    write_text(path, text.getvalue())


def write_geojson(path: Path, scene: Scene, found: Detections) -> None:
    """Write polygons in the scene's own map coordinates, which the member `crs` names (GeoJSON of 2008)."""
    features = []
    for name, score, (x1, y1, x2, y2) in rows(found):
        ring = scene.map_coordinates([(x1, y1), (x1, y2), (x2, y2), (x2, y1), (x1, y1)])
        properties = {
            "class": name,
            "score": round(score, 4),
            "pixels": [round(value, 2) for value in (x1, y1, x2, y2)],
        }
        geometry = {"type": "Polygon", "coordinates": [[list(point) for point in ring]]}
        features.append({"type": "Feature", "properties": properties, "geometry": geometry})
    crs = {"type": "name", "properties": {"name": scene.crs}}
    content = {"type": "FeatureCollection", "crs": crs, "features": features}
    write_json(path, content)


def write_picture(path: Path, scene: Scene, found: Detections) -> None:
    """Draw the scene with boxes, classes and scores, at most 2,048 px a side."""
    grey = scene.overview(PICTURE_SIDE)
    scale = grey.shape[1] / scene.width
    picture = Image.fromarray(grey).convert("RGB")
    pen = ImageDraw.Draw(picture)
    colours = [tuple(int(255 * value) for value in colour) for colour in mpl.color_sequences["tab10"]]
    font = font_for("".join(found.classes))
    for label, (name, score, box) in zip(found.labels.tolist(), rows(found), strict=True):
        colour = colours[label % len(colours)]
        x1, y1, x2, y2 = (value * scale for value in box)
        pen.rectangle((x1, y1, x2, y2), outline=colour, width=2)
        text, place = f"{drawable(name, font)} {score:.2f}", (x1, max(0, y1 - 15))
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
