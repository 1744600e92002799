"""Check a detection set in COCO form before training on it: its annotation files, images and classes.

    python tools/check_coco.py data/SSDD
    python tools/check_coco.py data/SSDD --config configs/_hivit_/hivit_base_SSDD.py --figure sizes.png
Exit code: 0 without problems, 1 with problems, 2 for a set that cannot be checked.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

try:
    import coco_annotations  # noqa: F401
except ModuleNotFoundError as error:
    sys.exit(
        f"error: {error.name} is not installed: pip install -r requirements_detection.txt, from the top of the project"
    )
except ImportError as error:  # its text says what does not fit
    sys.exit(f"error: {error}")

from coco_annotations.coco_check import check, examples, find, table
from coco_annotations.installation import import_or_exit
from coco_annotations.reading import channel_option, given, remap_option
from coco_annotations.run_options import wrong_config
from saratrx.command_line import option, parse
from saratrx.errors import InputError, exit_on_input_error, first_line, raise_problems
from saratrx.files import is_file, is_folder, refused_if_unwritable, try_writing
from saratrx.grey_scale import Remap
from saratrx.reporting import print_any_name


@dataclass(frozen=True)
class CheckOptions:
    """What is checked."""

    data: Path = option(positional=True, help="the data set's folder, or one annotation file")
    config: Path | None = option(None, help="compare the classes with this config's, and with what its heads expect")
    remap: Remap | None = remap_option()  # noqa: RUF009 -- makes a field
    channel: str | None = channel_option()
    figure: Path | None = option(None, help="draw sizes and shapes of boxes and images there (.png)")

    def __post_init__(self) -> None:
        problems = wrong_config(self.config) if self.config else []
        if not is_file(self.data) and not is_folder(self.data):
            problems.append(f"{self.data}: no such file or folder; give a data set's folder or an annotation file")
        if self.figure is not None and (self.figure.suffix != ".png" or is_folder(self.figure)):
            problems.append(f"--figure {self.figure}: must be a file that ends in .png")
        raise_problems(problems)


def main() -> int:
    """Check a set as the options say, and return the exit code."""
    (options,) = parse([CheckOptions], "Check a detection set in COCO form.", hyphens=True)
    print_any_name()
    if options.figure:
        try_writing(options.figure.parent, "--figure")
    files, others = find(options.data)
    classes, wrong_heads, about = read_config(options.config) if options.config else (None, [], {})
    if others:
        print(f"left out, as other JSON: {', '.join(others[:5])}{', ...' if len(others) > 5 else ''}")
    check(files, classes, **about | given(options))
    print(table(files) + examples(files))
    if wrong_heads:
        print(f"\nheads of {options.config} for other classes")
    for head in wrong_heads:
        print(f"  model.{head}")
    if options.figure:
        from coco_annotations.histograms import draw  # noqa: PLC0415 -- with matplotlib, which takes a moment

        with refused_if_unwritable(options.figure):
            draw(files, options.figure)
        print(f"\nwrote {options.figure}")
    problems = sum(file.problems() for file in files) + len(wrong_heads)
    print(f"\nproblems: {problems or 'none'}")
    return 1 if problems else 0


def read_config(path: Path) -> tuple[set[str], list[str], dict[str, Any]]:
    """Read the classes of a config's data sets, which heads do not fit them, and how it reads and normalises images.

    Only this needs MMDetection.

    Raises:
        InputError: if it cannot be read or built, has no classes, or others in another of its data sets.

    """
    running, data_sets, loading = (import_or_exit(f"hivit_det.{name}") for name in ("running", "data_sets", "loading"))
    cfg = running.open_config(path)
    raise_problems(loading.wrong_reading(cfg))
    loaders = [cfg.get(f"{part}_dataloader") for part in ("train", "val", "test")]
    datasets = [loader["dataset"] for loader in loaders if isinstance(loader, dict) and loader.get("dataset")]
    if not datasets:
        raise InputError(f"{path} has no classes for training, validation and test: it has no data set")
    classes, *others = (data_sets.classes_of(dataset) for dataset in datasets)
    if any(other != classes for other in others):
        raise InputError(
            f"{path} has not the same classes for training, validation and test, in the same order; give them the same"
        )
    heads = data_sets.wrong_heads(build(cfg), classes) if cfg.get("model") else []
    preprocessor = (cfg.get("model") or {}).get("data_preprocessor") or {}
    mean, std = preprocessor.get("mean"), preprocessor.get("std")
    normalisation = (sum(mean) / len(mean), sum(std) / len(std)) if mean and std else None
    return set(classes), heads, loading.reading_of(datasets) | {"normalisation": normalisation}


def build(cfg: Any) -> Any:
    """Build the model of a config, without weights.

    Raises:
        InputError: if that fails.

    """
    registry = import_or_exit("mmdet.registry")
    import_or_exit("mmengine.registry").init_default_scope("mmdet")
    try:
        return registry.MODELS.build(cfg.model)
    except Exception as error:  # a config can name anything
        raise InputError(f"the model of {cfg.filename} cannot be built: {first_line(error)}") from error


if __name__ == "__main__":
    with exit_on_input_error():
        sys.exit(main())
