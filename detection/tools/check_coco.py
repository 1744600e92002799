"""Check a detection set in COCO form before training on it: its annotation files, images and classes.

    python tools/check_coco.py data/SSDD
    python tools/check_coco.py data/SSDD --config configs/_hivit_/hivit_base_SSDD.py
Exit code: 0 without problems, 1 with problems, 2 for a set that cannot be checked.
"""

import io
import sys
from dataclasses import dataclass
from pathlib import Path

try:
    import coco_annotations  # noqa: F401
except ModuleNotFoundError as error:
    sys.exit(
        f"error: {error.name} is not installed: pip install -r requirements_detection.txt, from the top of the project"
    )
except ImportError as error:  # its text says what does not fit
    sys.exit(f"error: {error}")

from coco_annotations.coco_check import check, examples, find, table
from saratrx.command_line import option, parse
from saratrx.errors import InputError, exit_on_input_error


@dataclass(frozen=True)
class CheckOptions:
    """What is checked."""

    data: Path = option(positional=True, help="the data set's folder, or one annotation file")
    config: Path | None = option(None, help="compare the classes with this config's")


def main() -> int:
    """Check a set as the options say, and return the exit code."""
    (options,) = parse([CheckOptions], "Check a detection set in COCO form.", hyphens=True)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # JSON can hold names that no terminal can show
    classes = read_classes(options.config) if options.config else None
    files, others = find(options.data)
    if others:
        print(f"left out, as other JSON: {', '.join(others[:5])}{', ...' if len(others) > 5 else ''}")
    check(files, classes)
    print(table(files) + examples(files))
    problems = sum(file.problems() for file in files)
    print(f"\nproblems: {problems or 'none'}")
    return 1 if problems else 0


def read_classes(path: Path) -> set[str]:
    """Read the classes of a config's data sets; only this needs MMDetection.

    Raises:
        InputError: if it cannot be read, or its three data sets do not have the same.

    """
    try:
        from hivit_det.running import open_config  # noqa: PLC0415 -- brings PyTorch, which no other check needs
    except ImportError as error:  # its text says what does not fit
        sys.exit(f"error: {error}")

    cfg = open_config(path)
    try:
        train, *others = (set(cfg[f"{part}_dataloader"].dataset.metainfo.classes) for part in ("train", "val", "test"))
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{path} has no classes for training, validation and test: {error}") from error
    if others != [train, train]:
        raise InputError(f"{path} has not the same classes for training, validation and test; give them the same")
    return train


if __name__ == "__main__":
    with exit_on_input_error():
        sys.exit(main())
