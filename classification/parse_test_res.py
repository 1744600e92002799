"""Mean and standard deviation over the seeds of an experiment.

    python parse_test_res.py output/MSTAR_SOC/MIM_linear/vit_b16_5shots
    python parse_test_res.py output/MSTAR_SOC/MIM_linear --multi-exp --markdown table.md --csv table.csv

A run counts once its results.json is there, or, without one, its log.txt says that training has finished; those that
failed are named.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hivit_cls.results import Experiment, experiments_in, read_experiment
from saratrx.command_line import option, parse
from saratrx.errors import InputError, exit_on_input_error
from saratrx.files import refused_if_unwritable, write_text
from saratrx.reporting import print_any_name


@dataclass(frozen=True)
class Selection:
    """Which results."""

    directory: Path = option(help="folder of the runs, one subfolder per seed", positional=True)
    multi_exp: bool = option(False, help="the folder holds several experiments")
    test_log: bool = option(False, help="also count tests of --eval-only, without training")
    keyword: str = option("accuracy", help="which metric: accuracy, error, macro_f1 or another that runs have reported")

    def __post_init__(self) -> None:
        if not self.directory.is_dir():
            raise InputError(f"{self.directory}: no such folder")


@dataclass(frozen=True)
class Output:
    """How they are shown."""

    ci95: bool = option(False, help="print the 95 % interval instead of the deviation")
    markdown: Path | None = option(None, metavar="FILE", help="write a table")
    csv: Path | None = option(None, metavar="FILE", help="write a table")


def main(argv: Sequence[str] | None = None) -> None:
    """Read, print, and write what the command line (or `argv`) asks for."""
    selection, output = parse([Selection, Output], (__doc__ or "").splitlines()[0], argv, hyphens=True)
    for path in (output.markdown, output.csv):
        if path and path.is_dir():
            raise InputError(f"{path} is a folder: name a file for the table")
    folders = experiments_in(selection.directory) if selection.multi_exp else [selection.directory]
    experiments = [read_experiment(each, selection.keyword, trained=not selection.test_log) for each in folders]
    for experiment in experiments:
        if not experiment.values:
            print(f"{experiment.folder}: no run has finished: left out")
    experiments = [experiment for experiment in experiments if experiment.values]
    if not experiments:
        wanted = f"results.json or log.txt with {selection.keyword!r}"
        remedy = (
            "give the folder of the seeds" if selection.multi_exp else "add --multi-exp for a folder of experiments"
        )
        raise InputError(f"{selection.directory}: no subfolder holds a finished run's {wanted}; {remedy}")

    for experiment in experiments:
        report(experiment, selection.keyword, experiment.ci95 if output.ci95 else experiment.std)
    if selection.multi_exp:
        print(f"Average over {len(experiments)} experiments")
        print(f"* {selection.keyword}: {np.mean([experiment.mean for experiment in experiments]):.2f}%")
    for path, table in ((output.markdown, as_markdown), (output.csv, as_csv)):
        if path:
            with refused_if_unwritable(path):
                write_text(path, table(experiments, selection.keyword))
            print(f"wrote {path}")
    if not (output.markdown or output.csv):
        print("next: add --markdown FILE or --csv FILE to keep this as a table")


def report(experiment: Experiment, keyword: str, spread: float) -> None:
    """Print each run, and the mean with its deviation or interval."""
    print(f"Parsing files in {experiment.folder}")
    for run in experiment.runs:
        if run.value is None:
            log = run.folder / "log.txt"
            print(f"{log} {'is not finished' if log.is_file() else 'does not exist'}: left out")
        else:
            print(f"file: {run.source}. {keyword}: {run.value:.2f}%.")
    print("===")
    print(f"Summary of directory: {experiment.folder}, {len(experiment.values)} of {len(experiment.runs)} runs")
    print(f"* {keyword}: {experiment.mean:.2f}% +- {spread:.2f}%")
    print("===")


def as_markdown(experiments: Sequence[Experiment], keyword: str) -> str:
    """Make a table in Markdown, a line per experiment."""
    lines = [f"| experiment | runs | {keyword}, % | std | 95 % interval |", "|---|---|---|---|---|"]
    for e in experiments:
        interval = f"{e.mean - e.ci95:.2f} to {e.mean + e.ci95:.2f}"
        lines.append(
            f"| {e.folder.name} | {len(e.values)} of {len(e.runs)} | {e.mean:.2f} | {e.std:.2f} | {interval} |"
        )
    return "\n".join(lines) + "\n"


def as_csv(experiments: Sequence[Experiment], keyword: str) -> str:
    """Make a table in CSV, a line per experiment."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["experiment", "finished", "runs", keyword, "std", "ci95"])
    for e in experiments:
        numbers = (f"{value:.4f}" for value in (e.mean, e.std, e.ci95))
        writer.writerow([e.folder.name, len(e.values), len(e.runs), *numbers])
    return text.getvalue()


if __name__ == "__main__":
    print_any_name()
    with exit_on_input_error():
        main()
