"""The command line of train.py. Nothing here imports PyTorch, so that a wrong call is told at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from saratrx.command_line import option, parse
from saratrx.errors import InputError, raise_problems

MOST_NUMBERS = 10_000  # seeds or shots of one table
LARGEST_NUMBER = 2**32 - 1  # what every generator takes as its seed


@dataclass(frozen=True)
class ConfigOptions:
    """The config."""

    root: str | None = option(None, help="folder that holds the data set's folder")
    output_dir: str | None = option(None, help="where results go")
    resume: str | None = option(None, help="output folder of a run to continue; its own is continued anyway")
    seed: int | None = option(None, help="of everything random, 0 included; negative: another one each time")
    source_domains: tuple[str, ...] | None = option(None, help="for data sets with several domains")
    target_domains: tuple[str, ...] | None = option(None, help="for data sets with several domains")
    transforms: tuple[str, ...] | None = option(None, help="augmentation")
    config_file: str = option("", help="config of the trainer; one that ends in .py is run, so trust it")
    dataset_config_file: str = option("", help="config of the data set; likewise")
    trainer: str | None = option(None, help="its name")
    backbone: str | None = option(None, help="its name")
    head: str | None = option(None, help="its name")
    opts: tuple[str, ...] = option((), help="any key of the config", metavar="KEY VALUE", positional=True)

    def __post_init__(self) -> None:
        problems = [f"{word}: no such option, see --help" for word in self.opts[::2] if word.startswith("--")]
        if len(self.opts) % 2 and not problems:
            problems.append(f"{' '.join(self.opts)[:200]}: keys and values must come in pairs")
        raise_problems(problems)

    def pairs(self) -> list[tuple[str, Any]]:
        """List the keys that options set, with their values, in the order in which they are set."""
        named = [
            ("DATASET.ROOT", self.root),
            ("OUTPUT_DIR", self.output_dir),
            ("RESUME", self.resume),
            ("SEED", self.seed),
            ("DATASET.SOURCE_DOMAINS", self.source_domains),
            ("DATASET.TARGET_DOMAINS", self.target_domains),
            ("INPUT.TRANSFORMS", self.transforms),
            ("TRAINER.NAME", self.trainer),
            ("MODEL.BACKBONE.NAME", self.backbone),
            ("MODEL.HEAD.NAME", self.head),
        ]
        given = [(key, value) for key, value in named if value is not None]
        return given + list(zip(self.opts[::2], self.opts[1::2], strict=True))


@dataclass(frozen=True)
class RunOptions:
    """One run."""

    eval_only: bool = option(False, help="test the model in --model-dir, with the settings of its run for the rest")
    model_dir: str = option("", help="output folder of the run to test", default_text="the model as it is built")
    load_epoch: int | None = option(None, help="which of its epochs", default_text="the best, else the last")
    no_train: bool = option(False, help="build everything and stop")


@dataclass(frozen=True)
class TableOptions:
    """A whole table."""

    seeds: str = option("", help="several seeds: 0-9 or 0,3,5")
    shots: str = option("", help="training images per class: 1,2,5 or all")

    def __post_init__(self) -> None:
        problems = []
        for name, text in (("--seeds", self.seeds), ("--shots", self.shots)):
            try:
                parse_numbers(text or "0", name)
            except InputError as error:
                problems.append(str(error))
        raise_problems(problems)


def parse_options(argv: Sequence[str] | None = None) -> tuple[ConfigOptions, RunOptions, TableOptions]:
    """Read the command line (or `argv`).

    Raises:
        InputError: that tells all mistakes in it.

    """
    config, run, table = parse(
        [ConfigOptions, RunOptions, TableOptions],
        "Train and test a classifier, or a whole table of them.",
        argv,
        hyphens=True,
    )
    if (table.seeds or table.shots) and (run.eval_only or run.no_train):
        raise InputError("--eval-only and --no-train are for one run: leave out --seeds and --shots")
    return config, run, table


def parse_numbers(text: str, option: str) -> list[int]:
    """Read numbers: "0-2,5" is [0, 1, 2, 5], "all" is [-1].

    Raises:
        InputError: for anything else.

    """
    numbers: list[int] = []
    try:
        for part in text.split(","):
            first, dash, last = part.partition("-")
            more = range(-1, 0) if part == "all" else range(int(first), int(last if dash else first) + 1)
            if more.stop - 1 > LARGEST_NUMBER or len(numbers) + more.stop - more.start > MOST_NUMBERS:
                raise InputError(
                    f"{option} {text[:60]}: too many or too large; at most {MOST_NUMBERS:,} numbers below 2^32"
                )
            numbers += more
    except ValueError as error:
        raise InputError(f"{option} {text[:60]}: give numbers and ranges, such as 0-9 or 1,2,5") from error
    if not numbers or len(set(numbers)) < len(numbers):
        raise InputError(f"{option} {text[:60]}: names no number, or one twice")
    return numbers
