r"""Train and test a classifier, or a whole table of them.

One run:
    python train.py --root DATA --dataset-config-file configs/datasets/MSTAR_SOC.yaml --trainer MIM_linear \
        --config-file configs/trainers/MIM_linear/vit_b16.yaml --output-dir DIR --seed 0 \
        DATASET.NUM_SHOTS 5 MODEL.INIT_WEIGHTS checkpoint.pth
A table, into DIR/MSTAR_SOC/MIM_linear/vit_b16_<shots>shots/seed<seed>; what is finished there is not run again:
    ... --output-dir DIR --seeds 0-9 --shots 1,2,5 MODEL.INIT_WEIGHTS checkpoint.pth
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter
from yacs.config import CfgNode

from dassl.engine import build_trainer
from dassl.utils import collect_env_info, mkdir_if_missing, set_random_seed
from dassl.utils.logger import Logger
from hivit_cls import pictures
from hivit_cls.configuration import check_settings, setup_cfg
from hivit_cls.results import Experiment, read_experiment, read_metric
from saratrx.errors import InputError, exit_on_input_error


def main(args: argparse.Namespace) -> None:
    """Run what the options ask for."""
    cfg = setup_cfg(args)
    if not args.seeds and not args.shots:
        cfg.freeze()
        if not args.eval_only:
            check_settings(cfg)
        with Logger(Path(cfg.OUTPUT_DIR, "log.txt")):
            run(cfg, args)
        return
    if args.eval_only or args.no_train:
        raise InputError("--eval-only and --no-train are for one run: leave out --seeds and --shots")
    table, folders = Path(cfg.OUTPUT_DIR, dataset_name(cfg, args), cfg.TRAINER.NAME), []
    for folder, one in table_runs(cfg, args, table):
        if folder.parent not in folders:
            folders.append(folder.parent)
        is_finished = read_metric(folder / "log.txt") is not None
        check_settings(one)
        if is_finished:
            print(f"{folder}: finished before")
            continue
        with Logger(folder / "log.txt"):
            run(one, args)
    report([read_experiment(folder) for folder in folders], table)


def run(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Train and test once, as Dassl does."""
    if cfg.SEED >= 0:
        print(f"seed {cfg.SEED}")
        set_random_seed(cfg.SEED)
    print(collect_env_info())
    trainer = build_trainer(cfg)
    if args.eval_only:
        trainer.load_model(args.model_dir, epoch=args.load_epoch)
        trainer.test()
    elif not args.no_train:
        trainer.train()


def table_runs(cfg: CfgNode, args: argparse.Namespace, table: Path) -> Iterator[tuple[Path, CfgNode]]:
    """The folder and the config of each run of a table."""
    name = Path(args.config_file).stem if args.config_file else cfg.MODEL.BACKBONE.NAME
    for shots in parse_numbers(args.shots, "--shots") if args.shots else [cfg.DATASET.NUM_SHOTS]:
        for seed in parse_numbers(args.seeds, "--seeds") if args.seeds else [cfg.SEED]:
            one = cfg.clone()
            one.SEED, one.DATASET.NUM_SHOTS = seed, shots
            folder = table / f"{name}_{shots if shots > 0 else 'all'}shots" / f"seed{seed}"
            one.FEATURE_BANK_DIR = cfg.FEATURE_BANK_DIR or str(Path(cfg.OUTPUT_DIR, "feature_bank"))
            one.OUTPUT_DIR = str(folder)
            one.freeze()
            yield folder, one


def dataset_name(cfg: CfgNode, args: argparse.Namespace) -> str:
    """What a data set's results are filed under: its config file's name, since one class can serve several sets."""
    return Path(args.dataset_config_file).stem if args.dataset_config_file else cfg.DATASET.NAME


def report(experiments: list[Experiment], table: Path) -> None:
    """Print the mean of each number of shots, and draw all that lies in the table's folder."""
    for experiment in filter(lambda experiment: experiment.values, experiments):
        print(
            f"{experiment.folder}: accuracy {experiment.mean:.2f}% +- {experiment.std:.2f}% over "
            f"{len(experiment.values)} seeds"
        )
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
        print(f"{table / 'accuracy.png'}: accuracy against shots")


def parse_numbers(text: str, option: str) -> list[int]:
    """Read numbers: "0-2,5" is [0, 1, 2, 5], "all" is [-1].

    Raises:
        InputError: for anything else.

    """
    numbers = []
    try:
        for part in text.split(","):
            first, dash, last = part.partition("-")
            numbers += [-1] if part == "all" else range(int(first), int(last if dash else first) + 1)
    except ValueError as error:
        raise InputError(f"{option} {text}: give numbers and ranges, such as 0-9 or 1,2,5") from error
    if not numbers or len(set(numbers)) < len(numbers):
        raise InputError(f"{option} {text}: names no number, or one twice")
    return numbers


def parse_options(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line (or `argv`)."""
    parser = argparse.ArgumentParser(description="Train and test a classifier, or a whole table of them.")
    parser.add_argument("--root", help="folder that holds the data set's folder")
    parser.add_argument("--output-dir", help="where results go")
    parser.add_argument("--resume", help="output folder of a run to continue; its own is continued anyway")
    parser.add_argument("--seed", type=int, help="of everything random, 0 included; negative: another one each time")
    parser.add_argument("--seeds", default="", help="several, for a table: 0-9 or 0,3,5")
    parser.add_argument("--shots", default="", help="training images a class, for a table: 1,2,5 or all")
    parser.add_argument("--source-domains", nargs="+", help="for data sets with several domains")
    parser.add_argument("--target-domains", nargs="+", help="for data sets with several domains")
    parser.add_argument("--transforms", nargs="+", help="augmentation")
    parser.add_argument("--config-file", default="", help="config of the trainer")
    parser.add_argument("--dataset-config-file", default="", help="config of the data set")
    parser.add_argument("--trainer", help="its name")
    parser.add_argument("--backbone", help="its name")
    parser.add_argument("--head", help="its name")
    parser.add_argument("--eval-only", action="store_true", help="test the model in --model-dir")
    parser.add_argument("--model-dir", default="", help="output folder of the run to test")
    parser.add_argument("--load-epoch", type=int, help="which of its epochs (default: the best, else the last)")
    parser.add_argument("--no-train", action="store_true", help="build everything and stop")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="any key of the config")
    return parser.parse_args(argv)


if __name__ == "__main__":
    with exit_on_input_error():
        try:
            main(parse_options())
        except FloatingPointError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
