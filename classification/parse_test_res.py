"""Mean and standard deviation over the seeds of an experiment.

    python parse_test_res.py output/MSTAR_SOC/MIM_linear/vit_b16_5shots
    python parse_test_res.py output/MSTAR_SOC/MIM_linear --multi-exp --markdown table.md --csv table.csv

A run counts once its log.txt says that training has finished; those that failed are named.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from hivit_cls.results import FINISHED, TESTED, Experiment, natural_order, read_experiment
from saratrx.errors import InputError, exit_on_input_error


def main(argv: list[str] | None = None) -> None:
    """Read, print, and write what the command line (or `argv`) asks for."""
    parser = argparse.ArgumentParser(description="Mean and standard deviation over the seeds of an experiment.")
    parser.add_argument("directory", type=Path, help="folder of the runs, one subfolder a seed")
    parser.add_argument("--ci95", action="store_true", help="print the 95 %% interval instead of the deviation")
    parser.add_argument("--test-log", action="store_true", help="logs of --eval-only, without training")
    parser.add_argument("--multi-exp", action="store_true", help="the folder holds several experiments")
    parser.add_argument("--keyword", default="accuracy", help="which metric")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write a table")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a table")
    args = parser.parse_args(argv)

    experiments = find_experiments(args)
    for experiment in experiments:
        report(experiment, args)
    if args.multi_exp:
        print(f"Average over {len(experiments)} experiments")
        print(f"* {args.keyword}: {np.mean([experiment.mean for experiment in experiments]):.2f}%")
    if args.markdown:
        args.markdown.write_text(markdown(experiments, args.keyword), encoding="utf-8")
    if args.csv:
        write_csv(experiments, args.keyword, args.csv)


def find_experiments(args: argparse.Namespace) -> list[Experiment]:
    """The experiments with at least one finished run; says which have none.

    Raises:
        InputError: if nothing is found.

    """
    if not args.directory.is_dir():
        raise InputError(f"{args.directory}: no such folder")
    folders = [args.directory]
    if args.multi_exp:
        folders = sorted((path for path in args.directory.iterdir() if path.is_dir()), key=natural_order)
    experiments = [read_experiment(folder, args.keyword, TESTED if args.test_log else FINISHED) for folder in folders]
    for experiment in experiments:
        if not experiment.values:
            print(f"{experiment.folder}: no run has finished: left out")
    experiments = [experiment for experiment in experiments if experiment.values]
    if not experiments:
        raise InputError(f"{args.directory}: no subfolder holds the log.txt of a finished run with {args.keyword!r}")
    return experiments


def report(experiment: Experiment, args: argparse.Namespace) -> None:
    """Print each run and the summary."""
    print(f"Parsing files in {experiment.folder}")
    for run in experiment.runs:
        if run.value is None:
            reason = "is not finished" if run.log.is_file() else "does not exist"
            print(f"{run.log} {reason}: left out")
        else:
            print(f"file: {run.log}. {args.keyword}: {run.value:.2f}%.")
    spread = experiment.ci95 if args.ci95 else experiment.std
    print("===")
    print(f"Summary of directory: {experiment.folder}, {len(experiment.values)} of {len(experiment.runs)} runs")
    print(f"* {args.keyword}: {experiment.mean:.2f}% +- {spread:.2f}%")
    print("===")


def markdown(experiments: list[Experiment], keyword: str) -> str:
    """A table, a line an experiment."""
    lines = [f"| experiment | runs | {keyword}, % | std | 95 % interval |", "|---|---|---|---|---|"]
    for e in experiments:
        interval = f"{e.mean - e.ci95:.2f} to {e.mean + e.ci95:.2f}"
        lines.append(
            f"| {e.folder.name} | {len(e.values)} of {len(e.runs)} | {e.mean:.2f} | {e.std:.2f} | {interval} |"
        )
    return "\n".join(lines) + "\n"


def write_csv(experiments: list[Experiment], keyword: str, path: Path) -> None:
    """A table, a line an experiment."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["experiment", "finished", "runs", keyword, "std", "ci95"])
        for e in experiments:
            numbers = (f"{value:.4f}" for value in (e.mean, e.std, e.ci95))
            writer.writerow([e.folder.name, len(e.values), len(e.runs), *numbers])


if __name__ == "__main__":
    with exit_on_input_error():
        main()
