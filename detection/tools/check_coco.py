"""Check a detection set in COCO form before training on it: its annotation files, images and classes.

    python tools/check_coco.py data/SSDD
    python tools/check_coco.py data/SSDD --config configs/_hivit_/hivit_base_SSDD.py
Exit code: 0 without problems, 1 with problems, 2 for a set that cannot be checked.
"""

import argparse
import sys
from pathlib import Path

try:
    import hivit_det  # noqa: F401
except ImportError as error:  # its text says what does not fit
    sys.exit(f"error: {error}")

from coco_annotations.coco_check import check, examples, find, table
from hivit_det.running import open_config
from saratrx.errors import InputError, exit_on_input_error


def main() -> int:
    """Check a set as the options say, and return the exit code."""
    parser = argparse.ArgumentParser(description="Check a detection set in COCO form.")
    parser.add_argument("data", type=Path, help="the data set's folder, or one annotation file")
    parser.add_argument("--config", type=Path, help="compare the classes with this config's")
    args = parser.parse_args()

    sys.stdout.reconfigure(errors="backslashreplace")  # JSON can hold names that no terminal can show
    classes = read_classes(args.config) if args.config else None
    files, others = find(args.data)
    if others:
        print(f"left out, as other JSON: {', '.join(others[:5])}{', ...' if len(others) > 5 else ''}")
    check(files, classes)
    print(table(files) + examples(files))
    problems = sum(file.problems() for file in files)
    print(f"\nproblems: {problems or 'none'}")
    return 1 if problems else 0


def read_classes(path: Path) -> set[str]:
    """The classes of a config's data sets.

    Raises:
        InputError: if it cannot be read, or its three data sets do not have the same.

    """
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
