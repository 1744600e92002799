"""Where the images of a build come from: folders, or published sets by name; and where none may come from."""

import hashlib
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from saratrx import sar_image
from saratrx.errors import InputError
from saratrx.files import is_folder, visible_files
from saratrx.output_folder import is_output_folder

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


def find_images(folder: str | Path) -> list[str]:
    """Find all images in a folder at any depth, but in output folders of runs: paths from there, sorted."""
    return sorted(
        os.path.relpath(os.path.join(parent, name), folder)
        for parent, names in visible_files(folder)
        if not is_output_folder(parent, names)
        for name in names
        if Path(name).suffix.lower() in sar_image.EXTENSIONS
    )


def find_some(folder: str | Path, what: str) -> list[str]:
    """Find all images in a folder, as `find_images`; `what` names it in errors.

    Raises:
        InputError: if there is no such folder, or no image in it.

    """
    if not is_folder(folder):
        raise InputError(f"{what}: no such folder")
    found = find_images(folder)
    if not found:
        raise InputError(f"{what}: no image in it ({' '.join(sorted(sar_image.EXTENSIONS))})")
    return found


def source_files(folders: list[Path], option: str, kept_out: list[Path]) -> list[SourceFile]:
    """List the images of several folders.

    Args:
        folders: one or more.
        option: names them in errors.
        kept_out: folders of images to test on.

    Raises:
        InputError: if one has no image.

    """
    outside = [os.path.join(os.path.realpath(folder), "") for folder in kept_out]
    names = unique_names([folder.resolve().name for folder in folders])
    files = []
    for source, folder in zip(names, folders, strict=True):
        found = find_some(folder, f"{option} {folder}")
        stems = Counter(str(Path(name).with_suffix("")) for name in found)
        for name in found:
            stem = str(Path(name).with_suffix(""))
            path = folder / name
            files.append(
                SourceFile(
                    source,
                    name,
                    path,
                    os.path.join(source, stem if stems[stem] == 1 else name),
                    os.path.realpath(path).startswith(tuple(outside)),
                )
            )
    return files


def unique_names(names: list[str]) -> list[str]:
    """Give names, those that come again with a number: a, b, a-2."""
    found: list[str] = []
    for name in names:
        number = 2
        unique = name
        while unique in found:
            unique = f"{name}-{number}"
            number += 1
        found.append(unique)
    return found


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
        status = file.path.stat()
        line = f"{file.source}\0{file.name}\0{status.st_size}\0{status.st_mtime_ns}\0{file.is_kept_out}\n"
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]
