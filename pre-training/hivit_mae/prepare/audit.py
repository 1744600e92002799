"""What is wrong with a set: copies, labels, images that show nothing, and what tells the class but should not."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from hivit_mae.prepare.likeness import Indices, near_duplicates, perceptual_hash, pixel_hash, thumb
from hivit_mae.prepare.options import AuditOptions
from hivit_mae.prepare.sources import class_of, names_in, part_of
from hivit_mae.prepare.workers import each
from saratrx.errors import InputError
from saratrx.grey_scale import Grey
from saratrx.reporting import get_logger
from saratrx.sar_image import ImageError

log = get_logger(__name__)

EXAMPLES = 3  # of each fault
LAG = 4  # px, beyond which speckle is not correlated
NOISE = 0.05  # correlation at that lag, in either direction, below which an image is noise alone
SATURATED = 0.01  # of pixels at 255; the remap of 16-bit images saturates 0.005
TRAP = 0.05  # of accuracy above chance from which on the size tells the class


@dataclass(frozen=True)
class Seen:
    """What is known of an image; `fault` says why it could not be read."""

    name: str
    height: int = 0
    width: int = 0
    pixel_hash: str = ""
    perceptual_hash: int = 0
    is_constant: bool = False
    is_noise: bool = False
    saturated: float = 0.0
    fault: str = ""

    @property
    def label(self) -> str:
        """The class, or "" if no folder tells it."""
        return class_of(self.name)

    @property
    def part(self) -> str:
        """The part, such as train, or ""."""
        return part_of(self.name)


def audit(options: AuditOptions) -> None:
    """Tell all about a folder of images.

    Raises:
        InputError: if there is no such folder, or no image in it that can be read.

    """
    names = names_in(options.folder, "DIR")
    images = list(each(look, options, names, options.workers, "looking"))
    read = [image for image in images if not image.fault]
    if not read:
        raise InputError(f"{options.folder}: no image can be read; the first: {images[0].fault}")
    exact, near = find_copies(read, options)
    copies = {other for _, other in (*exact, *near)}
    for text in (
        counts_report(read),
        sizes_report(read),
        faults_report(images),
        copies_report(read, exact, near),
        size_report([image for index, image in enumerate(read) if index not in copies]),
    ):
        log.info("%s\n", text)


def look(options: AuditOptions, name: str) -> Seen:
    """Read an image and note what is known of it."""
    try:
        image = options.reading.read(Path(options.folder, name))
    except ImageError as error:
        return Seen(name, fault=str(error))
    height, width = image.shape
    return Seen(
        name,
        height,
        width,
        pixel_hash(image),
        perceptual_hash(image),
        is_constant=bool(image.min() == image.max()),
        is_noise=is_noise(image),
        saturated=float((image == 255).mean()),
    )


def is_noise(image: Grey) -> bool:
    """Whether pixels some way apart have nothing in common, and the image is large enough to tell."""
    if min(image.shape) < 4 * LAG:
        return False
    values = image.astype(np.float32)
    pairs = ((values[LAG:], values[:-LAG]), (values[:, LAG:], values[:, :-LAG]))
    deviations = [left.std() * right.std() for left, right in pairs]
    if min(deviations) == 0:
        return False
    return all(
        abs(((left - left.mean()) * (right - right.mean())).mean()) < NOISE * deviation
        for (left, right), deviation in zip(pairs, deviations, strict=True)
    )


def counts_report(images: list[Seen]) -> str:
    """Table the images of each class and part."""
    parts = sorted({image.part for image in images})
    counts = Counter((image.label, image.part) for image in images)
    labels = sorted({image.label for image in images})
    rows: list[list[Any]] = [[label or "(none)", *(counts[label, part] for part in parts)] for label in labels]
    if len(rows) > 1:
        rows.append(["all", *(sum(row[column] for row in rows) for column in range(1, len(parts) + 1))])
    return tabulate(rows, ["class", *(part or "images" for part in parts)], intfmt=",")


def sizes_report(images: list[Seen]) -> str:
    """Table the most frequent sizes."""
    sizes = Counter((image.height, image.width) for image in images)
    rows = [(f"{height} x {width}", count) for (height, width), count in sizes.most_common(10)]
    if len(sizes) > len(rows):
        rows.append((f"{len(sizes) - len(rows):,} others", sum(sizes.values()) - sum(count for _, count in rows)))
    return tabulate(rows, ["height x width, px", "images"], intfmt=",")


def faults_report(images: list[Seen]) -> str:
    """Table the images that cannot be read, or show nothing."""
    kinds = {
        "unreadable": [image for image in images if image.fault],
        "constant": [image for image in images if image.is_constant],
        f"noise alone (correlation at {LAG} px below {NOISE:g})": [image for image in images if image.is_noise],
        f"saturated (more than {SATURATED:.0%} of pixels)": [
            image for image in images if image.saturated > SATURATED and not image.is_constant
        ],
    }
    rows = [
        (kind, len(found), ", ".join(image.fault or image.name for image in found[:EXAMPLES]))
        for kind, found in kinds.items()
    ]
    return tabulate(rows, ["images that are", "count", "such as"], intfmt=",")


def find_copies(images: list[Seen], options: AuditOptions) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Find the pairs of images of equal pixels, each with the first of its kind, and of others that nearly equal."""

    def thumbs_of(indices: Indices) -> NDArray[np.float16]:
        names = [images[varied[index]].name for index in indices]
        return np.array(list(each(read_thumb, options, names, options.workers, "comparing")))

    by_pixels = defaultdict(list)
    for index, image in enumerate(images):
        by_pixels[image.pixel_hash].append(index)
    exact = [(group[0], other) for group in by_pixels.values() for other in group[1:]]
    varied = [index for index, image in enumerate(images) if not image.is_constant]
    hashes = np.array([images[index].perceptual_hash for index in varied], np.uint64)
    earlier, later, _ = near_duplicates(hashes, options.radius, thumbs_of)
    pairs = [(varied[one], varied[other]) for one, other in zip(earlier.tolist(), later.tolist(), strict=True)]
    return exact, [pair for pair in pairs if images[pair[0]].pixel_hash != images[pair[1]].pixel_hash]


def copies_report(images: list[Seen], exact: list[tuple[int, int]], near: list[tuple[int, int]]) -> str:
    """Table exact and near duplicates, and those across classes and parts."""
    rows = copies_rows(images, "exact", exact) + copies_rows(images, "near", near)
    return tabulate(rows, ["duplicates", "pairs", "images with an earlier copy", "such as"], intfmt=",")


def copies_rows(images: list[Seen], kind: str, pairs: list[tuple[int, int]]) -> list[tuple[str, int, int, str]]:
    """Count pairs of copies: all, those of two classes, and those of two parts."""
    chosen = {
        kind: pairs,
        f"{kind}, in two classes": [pair for pair in pairs if images[pair[0]].label != images[pair[1]].label],
        f"{kind}, in two parts": [pair for pair in pairs if images[pair[0]].part != images[pair[1]].part],
    }
    return [
        (
            name,
            len(some),
            len({other for _, other in some}),
            ", ".join(f"{images[one].name} = {images[other].name}" for one, other in some[:1]),
        )
        for name, some in chosen.items()
    ]


def read_thumb(options: AuditOptions, name: str) -> NDArray[np.float16]:
    """Read what is correlated of an image."""
    return thumb(options.reading.read(Path(options.folder, name)))


def size_report(images: list[Seen]) -> str:
    """Say whether the size of an image tells its class; of images without copies, which share both."""
    labels = [image.label for image in images]
    if len(set(labels)) < 2:
        return "size and class: there is only one class."
    guessed, chance = guess_by_size([(image.height, image.width) for image in images], labels)
    figures = f"the class most frequent among other images of the same size is right for {guessed:.1%}"
    chances = f"the largest class has {chance:.1%}"
    if guessed < chance + TRAP:
        return f"size and class: the size tells little of the class: {figures}; {chances}."
    return (
        f"size and class: a trap, the size alone tells much of the class: {figures}; {chances}. "
        "Cut all images to one size from their middle, before they are resized: `build` does with --middle."
    )


def guess_by_size(sizes: list[tuple[int, int]], labels: list[str]) -> tuple[float, float]:
    """Guess each image's class by its size alone.

    The guess is the most frequent class among all other images of that size, or among all others if there is none.

    Returns:
        The share of right guesses, and the share of the largest class, which is what guessing without the size gets.

    """
    of_size: dict[tuple[int, int], Counter[str]] = defaultdict(Counter)
    for size, label in zip(sizes, labels, strict=True):
        of_size[size][label] += 1
    overall = Counter(labels)
    right = 0
    for size, label in zip(sizes, labels, strict=True):
        others = of_size[size] if of_size[size].total() > 1 else overall
        # of others: the image itself does not count
        counts = {name: count - (name == label) for name, count in sorted(others.items())}
        right += max(counts, key=lambda name: counts[name]) == label
    return right / len(labels), max(overall.values()) / len(labels)
