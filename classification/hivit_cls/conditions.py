"""Accuracy by what test images were taken under: of each sub-test, and against azimuth and depression."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from dassl.data.datasets import Datum

Hits = NDArray[np.bool_]
STEP, NARROW_STEP = 30, 10  # degrees of azimuth that one point stands for; the second within half a round
HALF_ROUND = 180


def sub_tests(items: Sequence[Datum], hits: Hits) -> dict[str, dict[str, Any]]:
    """Give the accuracy of each condition that images have, numbers in their order; nothing where they have none.

    Args:
        items: test images.
        hits: [N], whether each was classified correctly.

    Returns:
        `measured` by condition.

    """
    groups: defaultdict[str, list[bool]] = defaultdict(list)
    for item, hit in zip(items, hits.tolist(), strict=True):
        if item.condition:
            groups[item.condition].append(hit)
    return {name: measured(groups[name]) for name in sorted(groups, key=in_order)}


def in_order(condition: str) -> tuple[int, str]:
    """Give a key by which 60 comes before 120."""
    return (int(condition) if condition.isdecimal() else 0, condition)


def by_angle(items: Sequence[Datum], hits: Hits) -> dict[str, list[dict[str, Any]]]:
    """Give the accuracy against azimuth and depression, each where images are known to differ in it.

    Args:
        items: test images; those without the angle are left out.
        hits: [N], whether each was classified correctly.

    Returns:
        For `azimuth` and `depression` a list of points: the `degrees` that it stands for, from the first to below the
        last (of depression one value, twice), and what `measured` says. Azimuths are taken together in steps of 30
        degrees, or of 10 where all images lie within half a round.

    """
    known = list(zip(items, hits.tolist(), strict=True))
    azimuths = [(item.azimuth, hit) for item, hit in known if item.azimuth is not None]
    depressions = [(item.depression, hit) for item, hit in known if item.depression is not None]
    every = [azimuth for azimuth, _ in azimuths]
    is_narrow = max(every, default=0) - min(every, default=0) < HALF_ROUND
    width = NARROW_STEP if is_narrow else STEP
    found = {"azimuth": points(azimuths, width), "depression": points(depressions, 0)}
    return {name: several for name, several in found.items() if len(several) > 1}


def points(angles: Sequence[tuple[float, bool]], width: int) -> list[dict[str, Any]]:
    """Give a point for each step of `width` degrees that has images, or with a width of 0 for each angle."""
    groups: defaultdict[float, list[bool]] = defaultdict(list)
    for angle, hit in angles:
        groups[angle // width * width if width else angle].append(hit)
    return [{"degrees": [angle, angle + width], **measured(groups[angle])} for angle in sorted(groups)]


def measured(hits: Sequence[bool]) -> dict[str, Any]:
    """Give the numbers of `images` and `correct` ones, and in percent `accuracy` and its 95 % `interval` (Wilson)."""
    correct, images = sum(hits), len(hits)
    interval = binomtest(correct, images).proportion_ci(0.95, method="wilson")
    percent = [100 * float(end) for end in interval]
    return {"images": images, "correct": correct, "accuracy": 100 * correct / images, "interval": percent}
