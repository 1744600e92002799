"""What finished runs have found, read from their log.txt."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FINISHED = "Finish training"  # results before it are of validation
TESTED = "=> result"


@dataclass(frozen=True)
class Run:
    """One run.

    Args:
        log: its log.txt.
        value: the metric in percent, None if the run did not get so far.

    """

    log: Path
    value: float | None


@dataclass(frozen=True)
class Experiment:
    """The runs of one setting with several seeds; those that failed count for nothing."""

    folder: Path
    runs: list[Run]

    @property
    def values(self) -> list[float]:
        """The metric of each run that has one, in percent."""
        return [run.value for run in self.runs if run.value is not None]

    @property
    def mean(self) -> float:
        """Mean over the runs."""
        return float(np.mean(self.values))

    @property
    def std(self) -> float:
        """Population standard deviation over the runs."""
        return float(np.std(self.values))

    @property
    def ci95(self) -> float:
        """Half of the 95 % interval of the mean."""
        return 1.96 * self.std / float(np.sqrt(len(self.values)))


def read_metric(log: Path, keyword: str = "accuracy", after: str = FINISHED) -> float | None:
    """The last value of a metric in a log, in percent; None without one after the line that must come before it.

    Where training went on after that line, for a run was interrupted in its test, what was said before does not count.
    """
    if not log.is_file():
        return None
    begun, value = False, None
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("epoch ["):
            begun, value = False, None
        begun = begun or line.strip() == after
        found = re.match(rf"\* {re.escape(keyword)}: ([\d.]+)%", line.strip())
        if begun and found:
            value = float(found[1])
    return value


def read_experiment(folder: Path, keyword: str = "accuracy", after: str = FINISHED) -> Experiment:
    """The runs in the subfolders of a folder, in the order of their numbers."""
    folders = sorted((path for path in folder.iterdir() if path.is_dir() and path.name[0] != "."), key=natural_order)
    return Experiment(folder, [Run(f / "log.txt", read_metric(f / "log.txt", keyword, after)) for f in folders])


def natural_order(path: Path) -> list[tuple[int, str]]:
    """A key by which seed2 comes before seed10."""
    return [(int(part or 0), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]
