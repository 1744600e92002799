"""The command line of train.py; each part is declared where it is used."""

from collections.abc import Sequence

from hivit_cls.configuration import ConfigOptions
from hivit_cls.running import RunOptions
from hivit_cls.table import TableOptions
from saratrx.command_line import parse
from saratrx.errors import InputError


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
