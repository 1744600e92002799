"""DOTA's annotations: a text file per image, with the four corners of each target in pixels."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from coco_annotations.targets import Annotated, Images, Target, lines_of, number, pairs
from saratrx.errors import InputError

FACTS = ("imagesource", "gsd", "acquisition dates")  # of the image, in lines of their own before the targets
NO_FACT = ("", "null", "none", "nan")
DIFFICULT = ("0", "1", "2")


def read(paths: Sequence[Path], images: Images) -> Iterator[Annotated]:
    """Read DOTA's files: a line is x1 y1 x2 y2 x3 y3 x4 y4, a class, and how difficult it is, which may be left out.

    Lines such as `imagesource:GoogleEarth` and `gsd:0.15` come first; they are kept beside the image's size.

    Raises:
        InputError: naming the line that is neither, or the file without its image.

    """
    for path in paths:
        facts: dict[str, Any] = {}
        targets: list[Target] = []
        for where, words in lines_of(path):
            name, colon, value = " ".join(words).partition(":")
            if colon and name.lower() in FACTS and not targets:
                if value.strip().lower() not in NO_FACT:
                    is_text = name.lower() != "gsd"
                    facts[name.lower()] = value.strip() if is_text else number(where, value.strip())
                continue
            targets.append(target_in(where, words))
        file_name = images.named(path)
        yield Annotated(path, file_name, images.size(file_name), targets, facts=facts)


def target_in(where: str, words: Sequence[str]) -> Target:
    """Read a line.

    Raises:
        InputError: if it cannot be meant.

    """
    if len(words) not in (9, 10):
        raise InputError(
            f"{where} has {len(words)} words, not 9 or 10: x1 y1 x2 y2 x3 y3 x4 y4, a class without spaces, and 0 or 1 "
            "for how difficult it is"
        )
    corners = pairs([number(where, word) for word in words[:8]])
    difficult = words[9] if len(words) == 10 else "0"
    if difficult not in DIFFICULT:
        raise InputError(f"{where}: {difficult[:30]!r} does not say how difficult the target is, by 0, 1 or 2")
    return Target(words[8], corners, where, is_upright=False, is_difficult=difficult != "0")
