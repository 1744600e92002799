"""A whole table: runs of several seeds and numbers of shots in one process."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter
from yacs.config import CfgNode

from dassl.utils import mkdir_if_missing
from dassl.utils.logger import Logger
from hivit_cls import pictures
from hivit_cls.options import TableOptions, parse_numbers
from hivit_cls.results import Experiment, read_experiment, read_metric
from hivit_cls.running import run
from hivit_cls.settings import claim_folder
from saratrx.files import refused_if_unwritable
from saratrx.output_folder import claimed
from saratrx.reporting import get_logger

log = get_logger(__name__)


def run_table(cfg: CfgNode, data_set: str, name: str, options: TableOptions) -> None:
    """Run what is not finished of a table, and report the whole.

    Results go to `<OUTPUT_DIR>/<data set>/<trainer>/<name>_<shots>shots/seed<seed>`, pictures to the first of these.

    Args:
        cfg: of all runs; their OUTPUT_DIR, SEED, DATASET.NUM_SHOTS and FEATURE_BANK_DIR are set here.
        data_set: what the data set is called.
        name: what the config of the trainer is called.
        options: seeds and shots of the runs; those of the config where they are not given.

    Raises:
        InputError: for anything that the user can fix.
        FloatingPointError: if a loss is infinite or not a number.

    """
    seeds = parse_numbers(options.seeds, "--seeds") if options.seeds else [cfg.SEED]
    all_shots = parse_numbers(options.shots, "--shots") if options.shots else [cfg.DATASET.NUM_SHOTS]
    table = Path(cfg.OUTPUT_DIR, data_set, cfg.TRAINER.NAME)
    experiments = [table / f"{name}_{shots if shots > 0 else 'all'}shots" for shots in all_shots]
    for experiment, shots in zip(experiments, all_shots, strict=True):
        for number, one in enumerate(configs(cfg, experiment, shots, seeds)):
            folder = Path(one.OUTPUT_DIR)
            with claimed(folder, "--output-dir"):
                is_finished = read_metric(folder) is not None
                claim_folder(one)
                if is_finished:
                    log.info("%s: finished before", folder)
                    continue
                with Logger(folder / "log.txt"):
                    run(one, data_set, draws=number == 0)
    report([read_experiment(folder) for folder in experiments])
    draw(table)
    log.info("wrote %s; next: python parse_test_res.py %s --multi-exp --markdown table.md", table, table)


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
    """Draw accuracy against shots of all that lies in a table's folder.

    The picture, `<trainer>_accuracy.png`, and TensorBoard's file lie beside the folder. In it are experiments alone,
    since Dassl's `parse_test_res.py --multi-exp` takes all that it holds for one.
    """
    curves: dict[str, dict[int, list[float]]] = {}
    for folder in sorted(table.glob("*shots")):
        name, _, shots = folder.name.removesuffix("shots").rpartition("_")
        values = read_experiment(folder).values
        if values and shots.isdigit():
            curves.setdefault(f"{table.name} {name}", {})[int(shots)] = values
    if curves:
        mkdir_if_missing(table)
        path = table.with_name(f"{table.name}_accuracy.png")
        pixels = pictures.save(pictures.accuracy_against_shots(curves), path)
        board = table.with_name("tensorboard") / table.name
        with refused_if_unwritable(board), SummaryWriter(str(board)) as writer:
            writer.add_image("accuracy against shots", pixels, dataformats="HWC")
        log.info("%s: accuracy against shots", path)
