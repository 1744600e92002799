"""Are two experiments to be compared, and do they differ? Nothing here needs PyTorch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hivit_cls.results import RESULTS, read_experiment, read_results
from saratrx.errors import InputError

RESAMPLES = 10_000
OF_A_SEED = "training hash"  # of a protocol: the shots that the seed has drawn
NAMED_AT_MOST = 4  # differing keys that an error names
Interval = tuple[float, float]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """What the finished runs of an experiment have found.

    Args:
        folder: that holds a folder for each seed.
        values: the metric in percent, by seed.
        protocols: by seed, see `hivit_cls.results_file.protocol_of`; empty for runs of earlier versions.

    """

    folder: Path
    values: dict[int, float]
    protocols: dict[int, dict[str, Any]]


@dataclass(frozen=True)
class Pairing:
    """Second minus first, over their common seeds.

    Args:
        seeds: how many.
        difference: mean, in percent points.
        interval: 95 % bootstrap interval of the mean.
        p_t: two-sided p of the paired t-test; NaN for fewer than two seeds.
        p_signs: of the exact test that flips the differences' signs; with n seeds it is 2 / 2^n at least, with one NaN.

    """

    seeds: int
    difference: float
    interval: Interval
    p_t: float
    p_signs: float


def read_measured(folder: Path, keyword: str) -> Measured:
    """Read the finished runs of an experiment from their results.json.

    Raises:
        InputError: if there is none, or two have one seed.

    """
    values: dict[int, float] = {}
    protocols: dict[int, dict[str, Any]] = {}
    for run in read_experiment(folder, keyword).runs:
        results = read_results(run.folder / RESULTS) if run.value is not None else None
        if results is None or run.value is None:
            continue
        seed, protocol = results.get("seed"), results.get("protocol")
        if isinstance(seed, bool) or not isinstance(seed, int) or seed in values:
            raise InputError(f"{run.folder / RESULTS}: seed {seed} is no number, or another run's; give one experiment")
        values[seed] = run.value
        protocols[seed] = protocol if isinstance(protocol, dict) else {}
    if not values:
        raise InputError(
            f"{folder}: no subfolder holds a finished run's results.json with {keyword!r}; give the folder of the seeds"
        )
    return Measured(folder, values, protocols)


def refuse_unlike(experiments: Sequence[Measured]) -> None:
    """Raise an InputError, naming the keys, if runs have not all the protocol of the first.

    The shots may differ from seed to seed, but not between two experiments' runs of a seed.
    """
    first = experiments[0]
    shared = next(iter(first.protocols.values()))
    for experiment in experiments:
        for seed, protocol in experiment.protocols.items():
            run = experiment.folder / f"seed{seed}"
            if not protocol:
                raise InputError(
                    f"{run}: its results.json is of an earlier version, without protocol; --unlike compares it anyway"
                )
            other = shared | {OF_A_SEED: first.protocols.get(seed, protocol).get(OF_A_SEED)}
            keys = [key for key in {**other, **protocol} if other.get(key) != protocol.get(key)]
            if keys:
                named = ", ".join(f"{key} {protocol.get(key)} ({other.get(key)})" for key in keys[:NAMED_AT_MOST])
                raise InputError(
                    f"{run} has another protocol than {first.folder} (in brackets): {named}; --unlike compares them "
                    "anyway"
                )


def bootstrap(values: Floats) -> Interval:
    """Give the 95 % interval of the mean, by the percentiles of resampled means; the same each time."""
    drawn = np.random.default_rng(0).choice(values, (RESAMPLES, len(values)))
    low, high = np.percentile(drawn.mean(axis=1), (2.5, 97.5))
    return float(low), float(high)


def pair(first: Measured, second: Measured) -> Pairing:
    """Compare two experiments over their common seeds.

    Raises:
        InputError: if there is none.

    """
    seeds = sorted(first.values.keys() & second.values.keys())
    if not seeds:
        raise InputError(f"{first.folder} and {second.folder} have no seed in common: run one with the other's seeds")
    differences = np.array([second.values[seed] - first.values[seed] for seed in seeds])
    return Pairing(
        len(seeds), float(differences.mean()), bootstrap(differences), p_of_t(differences), p_of_signs(differences)
    )


def p_of_t(differences: Floats) -> float:
    """Give the two-sided p of a paired t-test: 1 if nothing differs, 0 if all differ by the same."""
    if len(differences) < 2:
        return float("nan")
    if np.ptp(differences) == 0:
        return float(differences[0] == 0)
    return float(stats.ttest_1samp(differences, 0).pvalue)


def p_of_signs(differences: Floats) -> float:
    """Give the share of choices of signs whose mean is at least as far from 0: of all, or of 10,000 drawn ones."""
    if len(differences) < 2:
        return float("nan")
    found = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=RESAMPLES, rng=np.random.default_rng(0)
    )
    return float(found.pvalue)
