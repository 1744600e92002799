"""Sets that were merged from several sources, each of which annotates some of the classes alone."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from saratrx.errors import InputError, first_line, raise_problems
from saratrx.reporting import get_logger

log = get_logger(__name__)


def check_table(table: Any, classes: Sequence[str]) -> None:
    """See that a config's `annotated` says which of its classes each source annotates.

    Raises:
        InputError: telling all that is wrong.

    """
    example = 'write annotated={"ssdd_": ["ship"]}, with the classes of each source'
    if not isinstance(table, Mapping) or not table:
        raise InputError(f"annotated {str(table)[:60]} of the data set: {example}")
    problems = []
    for source, names in table.items():
        try:
            re.compile(source)
        except (re.error, TypeError) as error:
            problems.append(f"annotated: {str(source)[:60]!r} is no regular expression ({first_line(error)})")
        if not isinstance(names, list | tuple) or not names:
            problems.append(f"annotated: {source!r} has no list of classes: {example}")
            continue
        unknown = [str(name) for name in names if name not in classes]
        if unknown:
            problems.append(f"annotated: {source!r} has {', '.join(unknown)}, and the config {', '.join(classes)}")
    raise_problems(problems)


def source_of(image: Mapping[str, Any], table: Mapping[str, Any]) -> str:
    """Give the source of an image: its field `source`, or the regular expression that its file name begins with.

    Raises:
        InputError: if the table has none of its, or several.

    """
    name = image["file_name"]
    if image.get("source") is not None:
        found = [source for source in table if source == image["source"]]
        named = f"{name}, whose source is {image['source']}"
    else:
        found = [source for source in table if re.match(source, name)]
        named = name
    if len(found) != 1:
        several = f"{len(found)} of them, {' and '.join(found)}" if found else "none"
        raise InputError(f"annotated has {several} for {named}; give each image one source")
    return found[0]


def check_sources(path: str | Path, content: dict[str, Any], table: Mapping[str, Any], classes: Sequence[str]) -> None:
    """Compare a table of sources with an annotation file, and say how many images each has.

    Args:
        path: of the file, for what is said.
        content: of the file, as `read_coco` gives it.
        table: from sources to the classes that they annotate, see `source_of`.
        classes: of the config.

    Raises:
        InputError: if an image has no source or several, or a box is of a class that its source does not annotate.

    """
    check_table(table, classes)
    sources = {image["id"]: source_of(image, table) for image in content["images"]}
    names = {category["id"]: category["name"] for category in content["categories"]}
    for box in content["annotations"]:
        source, name = sources[box["image_id"]], names[box["category_id"]]
        if name in classes and name not in table[source]:
            raise InputError(
                f"{path} has a box of {name} in an image of {source!r}, which does not annotate that by the config's "
                "annotated; name the class there, or take its boxes out"
            )
    for source, count in sorted(Counter(sources.values()).items()):
        missing = ", ".join(name for name in classes if name not in table[source]) or "nothing"
        log.info("%s: %d images of %r, in which %s is not annotated", path, count, source, missing)
