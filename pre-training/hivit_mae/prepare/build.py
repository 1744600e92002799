"""The set to pre-train on: cut, compared with itself and with what it is kept apart from, and listed."""

import csv
import io
import json
import os
import shutil
from collections import Counter
from dataclasses import asdict, astuple, dataclass, fields, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from hivit_mae.prepare.contact_sheet import write_sheet
from hivit_mae.prepare.cutting import (
    EACH,
    Picture,
    Window,
    is_background,
    is_kept_all_the_same,
    readings,
    windows,
)
from hivit_mae.prepare.likeness import Hashes, Indices, near_duplicates, perceptual_hash, pixel_hash, thumb
from hivit_mae.prepare.options import BuildOptions
from hivit_mae.prepare.overlap import Landmarks, Piece, landmarks
from hivit_mae.prepare.recipes import read_recipes
from hivit_mae.prepare.sources import SourceFile, identity, part_of, source_files
from hivit_mae.prepare.workers import each, each_kept
from saratrx import sar_files
from saratrx.errors import InputError
from saratrx.files import is_folder, refused_if_unwritable, visible, write_json, write_text
from saratrx.output_folder import claimed
from saratrx.reading import Reading
from saratrx.reporting import get_logger
from saratrx.sar_files import SarImage
from saratrx.sar_image import ImageError

log = get_logger(__name__)

MANIFEST, SETTINGS, CHIPS, SHEETS = "manifest.csv", "settings.json", "chips", "contact_sheets"
SET_BY = ("remap", "channel", "middle", "window", "overlap", "empty", "radius")  # options that the chips follow from
UNFINISHED = ".unfinished"  # holds what a killed build goes on from
KINDS = ("leak", "duplicate", "near duplicate", "background", "constant", "unreadable", "kept out")  # of dropped chips


@dataclass
class Chip:
    """A row of the manifest: a chip that is kept, or why there is none.

    Attributes:
        path: of the chip, in the folder of chips.
        source: the set that it is from.
        file: its image, in the folder of that set.
        part: that the image's folders name, such as train.
        channel: of the image, where there are several and each is a chip.
        top: row of the image at which the chip begins.
        left: column.
        height: in pixels.
        width: in pixels.
        remap: how amplitudes became 8 bits.
        pixel_hash: see `likeness`.
        perceptual_hash: 16 hexadecimal digits.
        dropped: one of KINDS; "" if it is kept.
        reason: in words.
        doubt: what makes it doubtful that the image holds amplitudes, see `cutting.Picture`.

    """

    path: str
    source: str
    file: str
    part: str
    channel: str = ""
    top: int = 0
    left: int = 0
    height: int = 0
    width: int = 0
    remap: str = ""
    pixel_hash: str = ""
    perceptual_hash: str = ""
    dropped: str = ""
    reason: str = ""
    doubt: str = ""

    def drop(self, kind: str, reason: str = "") -> None:
        """Note why it is left out."""
        self.dropped, self.reason = kind, reason


@dataclass(frozen=True)
class Cutting:
    """How images are read and cut, and where chips are written."""

    folder: Path
    reading: Reading
    middle: int
    window: int
    overlap: int
    empty: float

    def windows_of(self, picture: Picture) -> list[Window]:
        """Cut an image, or its middle."""
        return windows(picture.height, picture.width, self.window, self.overlap, self.middle)


def build(options: BuildOptions) -> None:
    """Build a set, or go on with one that was interrupted.

    Raises:
        InputError: for a source that is not there, a folder that holds something else, or images none of which is read.

    """
    folders, outside = resolved(options)
    output = Path(options.output_dir)
    for folder in (*folders, *outside):
        if is_within(output, folder) or is_within(folder, output):
            raise InputError(f"--output_dir {output}: and {folder} lie in each other; choose another folder")
    files = source_files(folders, "SOURCE", outside)
    kept_out = source_files(outside, "--keep_out", [])
    if all(file.is_kept_out for file in files):
        raise InputError("SOURCE: all images lie in folders that are kept out; give some that do not")
    settings = {name: getattr(options, name) for name in SET_BY}
    settings |= {"sources": identity(files), "keep_out": identity(kept_out)}
    with claimed(output, "--output_dir"), refused_if_unwritable(output):
        check_settings(output, settings)
        if not (output / MANIFEST).exists():
            if not (output / UNFINISHED / MANIFEST).exists():
                chips = make(output / UNFINISHED, files, kept_out, options)
                write_text(output / UNFINISHED / MANIFEST, as_csv(chips))
            finish(output)
        shutil.rmtree(output / UNFINISHED, ignore_errors=True)
        summarise(output, read_manifest(output / MANIFEST))


def resolved(options: BuildOptions) -> tuple[list[Path], list[Path]]:
    """Give the folders of the sources, and those whose images are kept out.

    Raises:
        InputError: for a source that is no folder, and no set under --root.

    """
    folders, outside = [], [Path(folder) for folder in options.keep_out]
    for source in options.sources:
        recipe = None if is_folder(source) else read_recipes().get(source.lower())
        if recipe is None:
            if not is_folder(source):
                raise InputError(f"SOURCE {source}: no such folder, and no set of that name; `list` shows those known")
            folders.append(Path(source))
            continue
        found = recipe.find(options.root) if options.root else None
        if found is None:
            names = " or ".join(recipe.folders)
            where = f"under --root {options.root}" if options.root else "can be looked for without --root"
            raise InputError(f"SOURCE {source}: no folder {names} {where}; say where it is, or give the folder itself")
        folders.append(found)
        kept_out = recipe.find_kept_out(found)
        outside += kept_out
        if not kept_out:
            log.warning("%s: nothing in it is known to be for tests only; %s", source, recipe.keep_out_why)
    return folders, outside


def is_within(folder: Path, parent: Path) -> bool:
    """Whether a folder is another, or in it."""
    return Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(parent))


def check_settings(output: Path, settings: dict[str, Any]) -> None:
    """Note the settings in a new folder; compare them in one that is used.

    Raises:
        InputError: if the folder holds something else.

    """
    path = output / SETTINGS
    if not path.exists():
        if visible(os.listdir(output)):
            raise InputError(f"--output_dir {output}: is not empty, and holds no set of this command; choose another")
        write_json(path, settings, indent=2)
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        before = dict(before.items())
    except (ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: choose another --output_dir") from error
    words = {"sources": "other images, or changed ones", "keep_out": "other images to keep out, or changed ones"}
    for name, value in settings.items():
        if before.get(name) != value:
            what = words.get(name, f"{said(name, before.get(name))}, not {said(name, value)}")
            raise InputError(f"--output_dir {output}: was begun with {what}; choose another folder")


def said(name: str, value: Any) -> str:
    """Say an option and its value, or that it was not given."""
    return f"no --{name}" if value in ("", None) else f"--{name} {value}"


def make(folder: Path, files: list[SourceFile], kept_out: list[SourceFile], options: BuildOptions) -> list[Chip]:
    """Cut all images into chips under a folder, and note which are to be dropped."""
    folder.mkdir(exist_ok=True)
    cutting = Cutting(folder / CHIPS, options.reading, options.middle, options.window, options.overlap, options.empty)
    cutting.folder.mkdir(exist_ok=True)
    rows = each_kept(folder / "cut.jsonl", cut, cutting, files, options.workers, "cutting")
    chips = [Chip(**row) for image in rows for row in image]
    check_read(files, chips)
    described = list(each(describe, cutting, kept_out, options.workers, "kept out"))
    for _, reason in described:
        if reason:
            log.warning("--keep_out: %s; nothing can be compared with it", reason)
    drop_alike(folder, chips, [known for found, _ in described for known in found], options)
    return chips


def check_read(files: list[SourceFile], chips: list[Chip]) -> None:
    """Refuse a set of which nothing can be read, or two images with chips of one name."""
    unread = [chip for chip in chips if chip.dropped == "unreadable"]
    if len(unread) == len(chips):
        raise InputError(f"SOURCE: none of {len(files):,} images can be read; the first: {unread[0].reason}")
    names = Counter(chip.path for chip in chips)
    name, count = names.most_common(1)[0]
    if count > 1:
        both = " and ".join(chip.file for chip in chips if chip.path == name)
        raise InputError(f"SOURCE: {both} would both become {name}; rename one")


def cut(cutting: Cutting, file: SourceFile) -> list[dict[str, Any]]:
    """Cut an image into chips, and write those that show something; rows of the manifest."""
    whole = Chip(f"{file.stem}.png", file.source, file.name, part_of(file.name))
    if file.is_kept_out:
        whole.drop("kept out")
        return [asdict(whole)]
    try:
        with sar_files.open(file.path) as image:
            found = readings(image, cutting.reading)
            if len(found) == 1:
                chips = cut_channel(cutting, file, image, found[0], whole)
            else:
                chips = []
                for number, reading in enumerate(found):
                    chip = replace(whole, path=f"{file.stem}.c{number}.png", channel=image.channels[number])
                    chips += cut_channel(cutting, file, image, reading, chip)
    except ImageError as error:
        whole.drop("unreadable", reason_of(error, file))
        chips = [whole]
    return [asdict(chip) for chip in chips]


def cut_channel(cutting: Cutting, file: SourceFile, image: SarImage, reading: Reading, whole: Chip) -> list[Chip]:
    """Cut one channel of an image into chips."""
    try:
        picture = Picture(image, reading)
    except ImageError as error:
        whole.drop("unreadable", reason_of(error, file))
        return [whole]
    whole.remap, whole.doubt = picture.remap, picture.doubt
    chosen = cutting.windows_of(picture)
    return [cut_window(cutting, file, picture, whole, window, len(chosen) > 1) for window in chosen]


def cut_window(
    cutting: Cutting, file: SourceFile, picture: Picture, whole: Chip, window: Window, is_part: bool
) -> Chip:
    """Cut one window out of an image, and write it if it shows something."""
    place = f".y{window.top}.x{window.left}.png" if is_part else ".png"
    name = whole.path.removesuffix(".png") + place
    chip = replace(whole, path=name, **asdict(window))
    try:
        image = picture.read(window)
    except ImageError as error:
        chip.drop("unreadable", reason_of(error, file))
        return chip
    chip.pixel_hash, chip.perceptual_hash = pixel_hash(image), f"{perceptual_hash(image):016x}"
    if image.min() == image.max():
        chip.drop("constant")
    elif is_part and is_background(image) and not is_kept_all_the_same(name, cutting.empty):
        chip.drop("background")
    else:
        path = cutting.folder / name
        with refused_if_unwritable(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    return chip


def reason_of(error: ImageError, file: SourceFile) -> str:
    """Say why a file cannot be read, without where it lies."""
    return str(error).replace(str(file.path), file.name)


@dataclass(frozen=True)
class KeptOut:
    """An image to keep out, or a window of it, and what it is known by."""

    piece: Piece
    pixel_hash: str
    perceptual_hash: int
    landmarks: tuple[Indices, Hashes]


def describe(cutting: Cutting, file: SourceFile) -> tuple[list[KeptOut], str]:
    """Describe an image to keep out, all its channels, window by window, and its middle; or why it cannot be read."""
    found = []
    try:
        with sar_files.open(file.path) as opened:
            ways = readings(opened, replace(cutting.reading, channel=EACH))
            if opened.takes_all(cutting.reading.channel):
                ways.append(cutting.reading)
            for reading in ways:
                picture = Picture(opened, reading)
                whole = windows(picture.height, picture.width, cutting.window, cutting.overlap)
                for window in dict.fromkeys([*whole, *cutting.windows_of(picture)]):
                    image = picture.read(window)
                    piece = Piece(f"{file.source}/{file.name}", file.path, window, reading)
                    found.append(KeptOut(piece, pixel_hash(image), perceptual_hash(image), landmarks(image)))
    except ImageError as error:
        return found, str(error)
    return found, ""


def drop_alike(folder: Path, chips: list[Chip], outside: list[KeptOut], options: BuildOptions) -> None:
    """Drop the chips that are like an image to keep out or share a part with it, and those like an earlier chip."""
    first = {known.pixel_hash: known.piece.name for known in reversed(outside)}
    seen: dict[str, str] = {}
    for chip in kept(chips):
        if chip.pixel_hash in first:
            chip.drop("leak", f"equals {first[chip.pixel_hash]}")
        elif seen.setdefault(chip.pixel_hash, chip.path) != chip.path:
            chip.drop("duplicate", f"equals {seen[chip.pixel_hash]}")

    compared = kept(chips)
    pieces = [known.piece for known in outside]
    pieces += [piece_of(folder, chip) for chip in compared]
    hashes = [known.perceptual_hash for known in outside]
    hashes += [int(chip.perceptual_hash, 16) for chip in compared]

    def thumbs_of(indices: Indices) -> NDArray[np.float16]:
        chosen = [pieces[index] for index in indices]
        return np.array(list(each(read_thumb, None, chosen, options.workers, "comparing")))

    earlier, later, correlation = near_duplicates(np.array(hashes, np.uint64), options.radius, thumbs_of)
    near = [
        (one - len(outside), compared[other - len(outside)], f"nearly equals {pieces[one].name} ({value:.3f})")
        for one, other, value in zip(earlier.tolist(), later.tolist(), correlation.tolist(), strict=True)
        if other >= len(outside)
    ]
    for one, chip, reason in near:
        if one < 0 and not chip.dropped:
            chip.drop("leak", reason)
    drop_overlapping(folder, kept(chips), outside, options.workers)
    for one, chip, reason in near:
        if one >= 0 and not chip.dropped and not compared[one].dropped:
            chip.drop("near duplicate", reason)


def drop_overlapping(folder: Path, chips: list[Chip], outside: list[KeptOut], workers: int) -> None:
    """Drop the chips that share a part with an image to keep out."""
    if not outside:
        return
    bright = Landmarks([known.piece for known in outside], [known.landmarks for known in outside])
    pieces = [piece_of(folder, chip) for chip in chips]
    found = each_kept(folder / "overlap.jsonl", find_overlap, bright, pieces, workers, "looking for overlaps")
    for chip, where in zip(chips, found, strict=True):
        if where:
            chip.drop("leak", f"overlaps {where}")


def piece_of(folder: Path, chip: Chip) -> Piece:
    """Say where the pixels of a chip are while the set is not finished."""
    return Piece(chip.path, folder / CHIPS / chip.path, Window(0, 0, chip.height, chip.width))


def kept(chips: list[Chip]) -> list[Chip]:
    """Those that are not dropped."""
    return [chip for chip in chips if not chip.dropped]


def read_thumb(_: None, piece: Piece) -> NDArray[np.float16]:
    """Read what is correlated of an image."""
    return thumb(piece.read())


def find_overlap(bright: Landmarks, piece: Piece) -> str | None:
    """Find what a chip overlaps, see `Landmarks.overlap`."""
    return bright.overlap(piece.read())


def as_csv(chips: list[Chip]) -> str:
    """Write the manifest."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([each_field.name for each_field in fields(Chip)])
    writer.writerows(astuple(chip) for chip in chips)
    return text.getvalue()


def read_manifest(path: Path) -> list[Chip]:
    """Read the manifest; sizes and places as numbers."""
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = list(csv.DictReader(file))
    chips = []
    for row in rows:
        values: dict[str, Any] = row | {name: int(row[name]) for name in ("top", "left", "height", "width")}
        chips.append(Chip(**values))
    return chips


def finish(output: Path) -> None:
    """Remove dropped chips, draw the contact sheets, and move all to its place; may be interrupted and done again."""
    unfinished = output / UNFINISHED
    chips = read_manifest(unfinished / MANIFEST)
    if (unfinished / CHIPS).exists():
        for chip in chips:
            if chip.dropped:
                (unfinished / CHIPS / chip.path).unlink(missing_ok=True)
        (unfinished / CHIPS).rename(output / CHIPS)
    (output / SHEETS).mkdir(exist_ok=True)
    for source in sorted({chip.source for chip in chips}):
        paths = [output / CHIPS / chip.path for chip in kept(chips) if chip.source == source]
        if paths:
            write_sheet(output / SHEETS / f"{source}.png", f"{source}: {len(paths):,} chips", paths)
    if find_spec("pyarrow") is not None:
        write_parquet(output / "manifest.parquet", chips)
    (unfinished / MANIFEST).rename(output / MANIFEST)


def write_parquet(path: Path, chips: list[Chip]) -> None:
    """Write the manifest as Parquet, for who has pyarrow; bytes of names that are not UTF-8 are escaped."""

    def as_utf8(value: Any) -> Any:
        return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value

    rows = [{name: as_utf8(value) for name, value in asdict(chip).items()} for chip in chips]
    table = import_module("pyarrow").Table.from_pylist(rows)
    import_module("pyarrow.parquet").write_table(table, path)


def summarise(output: Path, chips: list[Chip]) -> None:
    """Tell how many chips of each source were kept, and why others were not."""
    rows: list[list[Any]] = []
    for source in dict.fromkeys(chip.source for chip in chips):
        own = [chip for chip in chips if chip.source == source]
        counts = Counter(chip.dropped for chip in own)
        files = len({chip.file for chip in own})
        rows.append([source, files, len(own), counts[""], *(counts[kind] for kind in KINDS)])
    rows.append(["all", *(sum(row[column] for row in rows) for column in range(1, len(KINDS) + 4))])
    log.info(tabulate(rows, ["source", "images", "windows", "kept", *KINDS], intfmt=","))
    for source, files, *_ in rows[:-1]:
        doubts = {chip.file: chip.doubt for chip in chips if chip.source == source and chip.doubt}
        for name, doubt in list(doubts.items())[:1]:
            log.warning("%s: %d of %d images are doubtful, such as %s: %s", source, len(doubts), files, name, doubt)
    log.info("%s says why each was left out; pre-train with --data_path %s", output / MANIFEST, output / CHIPS)
