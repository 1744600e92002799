"""A whole table: runs of several seeds and numbers of shots in one process."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter
from yacs.config import CfgNode

from dassl.utils import mkdir_if_missing
from dassl.utils.logger import Logger
from hivit_cls import pictures
from hivit_cls.results import Experiment, read_experiment, read_metric
from hivit_cls.running import run
from hivit_cls.settings import claim_folder
from saratrx.command_line import option
from saratrx.errors import InputError, raise_problems
from saratrx.reporting import get_logger

log = get_logger(__name__)


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


def run_table(cfg: CfgNode, data_set: str, name: str, seeds: Sequence[int], all_shots: Sequence[int]) -> None:
    """Run what is not finished of a table, and report the whole.

    Results go to `<OUTPUT_DIR>/<data set>/<trainer>/<name>_<shots>shots/seed<seed>`.

    Args:
        cfg: of all runs; their OUTPUT_DIR, SEED, DATASET.NUM_SHOTS and FEATURE_BANK_DIR are set here.
        data_set: what the data set is called.
        name: what the config of the trainer is called.
        seeds: of the runs.
        all_shots: numbers of training images per class, -1 for all.

    Raises:
        InputError: for anything that the user can fix.
        FloatingPointError: if a loss is infinite or not a number.

    """
    table = Path(cfg.OUTPUT_DIR, data_set, cfg.TRAINER.NAME)
    experiments = [table / f"{name}_{shots if shots > 0 else 'all'}shots" for shots in all_shots]
    for experiment, shots in zip(experiments, all_shots, strict=True):
        for one in configs(cfg, experiment, shots, seeds):
            folder = Path(one.OUTPUT_DIR)
            is_finished = read_metric(folder) is not None
            claim_folder(one)
            if is_finished:
                log.info("%s: finished before", folder)
                continue
            with Logger(folder / "log.txt"):
                run(one, data_set)
    report([read_experiment(folder) for folder in experiments])
    draw(table)


def configs(cfg: CfgNode, experiment: Path, shots: int, seeds: Sequence[int]) -> Iterator[CfgNode]:
    """Give the config of each run of an experiment; all runs of a table share a feature bank."""
    for seed in seeds:
        one = cfg.clone()
        one.SEED, one.DATASET.NUM_SHOTS = seed, shots
        one.FEATURE_BANK_DIR = cfg.FEATURE_BANK_DIR or str(Path(cfg.OUTPUT_DIR, "feature_bank"))
        one.OUTPUT_DIR = str(experiment / f"seed{seed}")
        one.freeze()
        yield one


def report(experiments: Sequence[Experiment]) -> None:
    """Print the mean of each number of shots."""
    for experiment in filter(lambda experiment: experiment.values, experiments):
        log.info(
            f"{experiment.folder}: accuracy {experiment.mean:.2f}% +- {experiment.std:.2f}% over "
            f"{len(experiment.values)} seeds"
        )


def draw(table: Path) -> None:
    """Draw accuracy against shots of all that lies in a table's folder: accuracy.png, and for TensorBoard."""
    curves: dict[str, dict[int, list[float]]] = {}
    for folder in sorted(table.glob("*shots")):
        name, _, shots = folder.name.removesuffix("shots").rpartition("_")
        values = read_experiment(folder).values
        if values and shots.isdigit():
            curves.setdefault(f"{table.name} {name}", {})[int(shots)] = values
    if curves:
        mkdir_if_missing(table)
        pixels = pictures.save(pictures.accuracy_against_shots(curves), table / "accuracy.png")
        with SummaryWriter(str(table / "tensorboard")) as writer:
            writer.add_image("accuracy against shots", pixels, dataformats="HWC")
        log.info("%s: accuracy against shots", table / "accuracy.png")


def parse_numbers(text: str, option: str) -> list[int]:
    """Read numbers: "0-2,5" is [0, 1, 2, 5], "all" is [-1].

    Raises:
        InputError: for anything else.

    """
    numbers: list[int] = []
    try:
        for part in text.split(","):
            first, dash, last = part.partition("-")
            numbers += [-1] if part == "all" else range(int(first), int(last if dash else first) + 1)
    except ValueError as error:
        raise InputError(f"{option} {text}: give numbers and ranges, such as 0-9 or 1,2,5") from error
    if not numbers or len(set(numbers)) < len(numbers):
        raise InputError(f"{option} {text}: names no number, or one twice")
    return numbers
