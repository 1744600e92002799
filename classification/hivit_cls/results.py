"""What finished runs have found: read from results.json, and from log.txt where that is missing.

Runs of the original Dassl, and those made before there was results.json, have left a log.txt alone. Nothing here needs
PyTorch, so that tables are made at once.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saratrx.errors import InputError, first_line
from saratrx.files import visible
from saratrx.reporting import get_logger

log = get_logger(__name__)

RESULTS = "results.json"
UNFINISHED = ".unfinished"  # a file that is there from the beginning of a run until all of it is written
FINISHED = "Finish training"  # a line of log.txt; results before it are of validation
TESTED = "=> result"  # a line of log.txt; results follow
LARGEST = 1e300  # of what is a number and no sign of damage
KEYS = {"error": "error_rate", "average": "perclass_accuracy"}  # of results.json, by names of the same in log.txt


@dataclass(frozen=True)
class Run:
    """One run.

    Args:
        folder: of its output.
        value: the metric in percent, None if the run did not get so far.
        source: the file that says so, None without a value.

    """

    folder: Path
    value: float | None = None
    source: Path | None = None


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


def read_run(folder: Path, keyword: str = "accuracy", *, trained: bool = True) -> Run:
    """Read the metric that a run ended with.

    Args:
        folder: of the run's output.
        keyword: `accuracy`, `error`, `macro_f1`, or another that the evaluator gives or prints.
        trained: only a test after training counts, not one of --eval-only.

    """
    if trained and (folder / UNFINISHED).exists():
        return Run(folder)
    path = folder / RESULTS
    results = read_results(path)
    if results is not None:
        if trained and not results["trained"]:
            return Run(folder)
        value = results["results"].get(KEYS.get(keyword, keyword))
        if value is not None:
            return Run(folder, float(value), path)
    path = folder / "log.txt"
    value = read_log(path, keyword, after=FINISHED if trained else TESTED)
    return Run(folder) if value is None else Run(folder, value, path)


def read_metric(folder: Path, keyword: str = "accuracy", *, trained: bool = True) -> float | None:
    """Read the metric that a run ended with, in percent, as `read_run` does; None if it did not get so far."""
    return read_run(folder, keyword, trained=trained).value


def read_results(path: Path) -> dict[str, Any] | None:
    """Read a results.json; None if it is missing, or damaged, of which a warning tells."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content["trained"], bool):
            raise ValueError("'trained' must be true or false")
        for name, value in content["results"].items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not -LARGEST < value < LARGEST:
                raise ValueError(f"{name!r} must be a finite number")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        log.warning("%s cannot be used (%s): log.txt is read instead", path, first_line(error))
        return None
    return dict(content)


def read_log(path: Path, keyword: str = "accuracy", after: str = FINISHED) -> float | None:
    """Read the last value of a metric in a log.txt, in percent; None without one after the line `after`.

    Where training went on after that line, for a run was interrupted in its test, what was said before does not count.
    """
    if not path.is_file():
        return None
    begun, value = False, None
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("epoch ["):
            begun, value = False, None
        begun = begun or line.strip() == after
        found = re.match(rf"\* {re.escape(keyword)}: (\d{{1,9}}(\.\d*)?)%", line.strip())
        if begun and found:
            value = float(found[1])
    return value


def read_experiment(folder: Path, keyword: str = "accuracy", *, trained: bool = True) -> Experiment:
    """Read the runs in the subfolders of a folder, in the order of their numbers, as `read_run` does."""
    return Experiment(folder, [read_run(each, keyword, trained=trained) for each in subfolders(folder) if is_run(each)])


def is_run(folder: Path) -> bool:
    """Tell a run's folder from others: it is called seed0, seed1, ..., or holds a run's files."""
    is_seed = re.fullmatch(r"seed-?\d+", folder.name) is not None
    return is_seed or any((folder / name).exists() for name in (RESULTS, "log.txt", "settings.yaml"))


def experiments_in(folder: Path) -> list[Path]:
    """List the subfolders that hold runs, in the order of their numbers; whatever else lies there is left out."""
    return [each for each in subfolders(folder) if any(is_run(below) for below in subfolders(each))]


def subfolders(folder: Path) -> list[Path]:
    """List the folders in a folder, seed2 before seed10; hidden ones are left out."""
    try:
        paths = [folder / name for name in visible([path.name for path in folder.iterdir()])]
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {first_line(error)}") from error
    return sorted((path for path in paths if path.is_dir()), key=natural_order)


def natural_order(path: Path) -> list[tuple[int, str]]:
    """Give a key by which seed2 comes before seed10."""
    return [(int(part or 0), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]
