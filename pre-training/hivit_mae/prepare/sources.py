"""Where the images of a build come from: folders, or published sets by name; and where none may come from."""

import hashlib
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from saratrx.files import find_images

LONGEST_NAME = 200  # bytes; what a chip's name has behind it must fit into the 255 of a file system
PLACED = re.compile(r"\.(?:c\d+|y\d+\.x\d+)$")  # ends the names of windows and channels
PARTS = ("train", "val", "valid", "validation", "trainval", "test")  # names of folders, in any case of letters


@dataclass(frozen=True)
class SourceFile:
    """An image file.

    Attributes:
        source: name of the set that it is from.
        name: its path in the folder of that set.
        path: where it is.
        stem: begins the names of its chips; no two files have the same.
        is_kept_out: whether it is one of those to test on.

    """

    source: str
    name: str
    path: Path
    stem: str
    is_kept_out: bool = False


def names_in(folder: str | Path, option: str) -> list[str]:
    """Find all images in a folder, as `find_images`: their paths from there, sorted."""
    return [os.path.relpath(path, folder) for path in find_images(folder, option)]


def source_files(folders: list[Path], option: str, kept_out: list[Path]) -> list[SourceFile]:
    """List the images of several folders.

    Args:
        folders: one or more.
        option: names them in errors.
        kept_out: folders of images to test on.

    Raises:
        InputError: if one has no image.

    """
    outside = tuple(os.path.join(os.path.realpath(folder), "") for folder in kept_out)
    files = []
    for source, folder in zip(source_names(folders), folders, strict=True):
        names = names_in(folder, option)
        for name, stem in zip(names, stems_of(names), strict=True):
            path = folder / name
            is_kept_out = os.path.realpath(path).startswith(outside)
            files.append(SourceFile(source, name, path, os.path.join(source, stem), is_kept_out))
    return files


def source_names(folders: list[Path]) -> list[str]:
    """Call each folder by its own name, never hidden; those that come again in any case of letters get a number."""
    found: dict[str, str] = {}
    for folder in folders:
        name = shortened(folder.resolve().name.lstrip(".")) or "images"
        unique, number = name, 2
        while unique.casefold() in found:
            unique, number = f"{name}-{number}", number + 1
        found[unique.casefold()] = unique
    return list(found.values())


def stems_of(names: list[str]) -> list[str]:
    """Give each image a name for its chips, from the names of all in a folder.

    That is its own without the extension; with it, where another one, in any case of letters, or a folder would have
    the same, or where it ends like that of a window. Long names are cut, and end in a hash.
    """
    short = [str(Path(name).with_suffix("")) for name in names]
    folders = {str(folder).removesuffix(".png") for name in names for folder in Path(name).parents}
    taken = Counter(stem.casefold() for stem in (*short, *names, *folders))
    return [
        shortened(stem if taken[stem.casefold()] == 1 and not PLACED.search(stem) else name)
        for stem, name in zip(short, names, strict=True)
    ]


def shortened(path: str) -> str:
    """Shorten the last part of a path to LONGEST_NAME bytes, by a hash of it."""
    folder, name = os.path.split(path)
    encoded = os.fsencode(name)
    if len(encoded) <= LONGEST_NAME:
        return path
    digest = hashlib.sha256(encoded).hexdigest()[:16]
    return os.path.join(folder, f"{os.fsdecode(encoded[: LONGEST_NAME - 17])}-{digest}")


def part_of(name: str) -> str:
    """Tell the part that a path of folders names, such as train; "" if none."""
    return next((folder.lower() for folder in Path(name).parent.parts if folder.lower() in PARTS), "")


def class_of(name: str) -> str:
    """Tell the class: the innermost folder that is no part; "" if there is none."""
    return next((folder for folder in reversed(Path(name).parent.parts) if folder.lower() not in PARTS), "")


def identity(files: list[SourceFile]) -> str:
    """Name these files as they are now: 32 hexadecimal digits."""
    digest = hashlib.sha256()
    for file in files:
        try:
            status = file.path.stat()
            state = f"{status.st_size}\0{status.st_mtime_ns}"
        except OSError:  # a link to nothing
            state = "unreadable"
        line = f"{file.source}\0{file.name}\0{state}\0{file.is_kept_out}\n"
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]
