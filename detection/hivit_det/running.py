"""What training and testing share: reading the config, and looking at the data before anything is started."""

import argparse
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict, DictAction

from saratrx.errors import InputError


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that training and testing have in common."""
    parser.add_argument("--work-dir", help="where logs and checkpoints go (default: work_dirs/<config>)")
    parser.add_argument("--data-root", type=Path, help="the data set's folder (default: the config's)")
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm", "mpi"), default="none")
    parser.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="any key of the config")
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help="set by the launcher")


def open_config(path: Path) -> Config:
    """A config file as it is.

    Raises:
        InputError: if it cannot be read.

    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; name a config, such as configs/_hivit_/hivit_base_SSDD.py")
    try:
        return Config.fromfile(path)
    except (SyntaxError, NameError, KeyError, TypeError, FileNotFoundError, ImportError) as error:
        raise InputError(f"{path} cannot be read as a config: {error}") from error


def read_config(args: argparse.Namespace) -> Config:
    """The config file that the options name, changed as they say.

    Raises:
        InputError: if it cannot be read, an option has no value, or more GPUs are asked for than there are.

    """
    check_devices()
    cfg = open_config(args.config)
    without_value = [option for option in args.cfg_options if "=" not in option]
    if without_value:
        raise InputError(f"--cfg-options {without_value[0]}: give KEY=VALUE")
    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-options", nargs="*", action=DictAction, default={})
    try:
        cfg.merge_from_dict(parser.parse_args(["--cfg-options", *args.cfg_options]).cfg_options)
    except (TypeError, KeyError) as error:
        raise InputError(f"--cfg-options {' '.join(args.cfg_options)}: {error}") from error
    if args.data_root:
        for part in ("train", "val", "test"):
            dataset = cfg[f"{part}_dataloader"].dataset
            dataset.data_root = f"{args.data_root}/"
            if part != "train":
                cfg[f"{part}_evaluator"].ann_file = str(args.data_root / dataset.ann_file)
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get("work_dir") or f"work_dirs/{args.config.stem}"
    return cfg


@contextmanager
def processes(cfg: Config) -> Iterator[None]:
    """Join the processes that the launcher has started and leave them at the end.

    On GPUs MMEngine does it; without, where its way fails, the processes share this machine's CPU.

    Raises:
        InputError: if there are no GPUs, and the launcher is another than torchrun or the model has SyncBN.

    """
    if cfg.launcher != "none" and not torch.cuda.is_available():
        if cfg.launcher != "pytorch":
            raise InputError(f"--launcher {cfg.launcher} needs GPUs; on a CPU use tools/dist_train.sh")
        if "'type': 'SyncBN'" in str(cfg.model):
            norm = "model.roi_head.bbox_head.norm_cfg.type=BN"
            raise InputError(f"{cfg.filename} has SyncBN, which needs GPUs; on a CPU give --cfg-options {norm}")
        torch.distributed.init_process_group("gloo")
        cfg.model_wrapper_cfg = {
            "type": "MMDistributedDataParallel",
            "device_ids": None,
            "broadcast_buffers": False,
            "find_unused_parameters": cfg.get("find_unused_parameters", False),
        }
    try:
        yield
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def check_data(dataset: ConfigDict) -> None:
    """Compare the classes of a config with those of its annotation file, by name.

    Raises:
        InputError: if the file is missing or has other classes.

    """
    path = Path(dataset.get("data_root", ""), dataset.ann_file)
    try:
        found = [category["name"] for category in json.loads(path.read_text(encoding="utf-8"))["categories"]]
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; set data_root to the data set's folder") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no COCO annotation file: it has no categories") from error
    classes = list(dataset.metainfo.classes)
    if set(classes) != set(found):
        raise InputError(f"{path} has the classes {', '.join(found)}, and the config {', '.join(classes)}")
    if classes != found:
        print(f"{path} lists its classes in another order than the config; the config's is taken", flush=True)


def check_devices() -> None:
    """Refuse a process without a GPU of its own, where there are GPUs.

    Raises:
        InputError: naming the numbers.

    """
    wanted, there = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if there and wanted > there:
        raise InputError(f"{wanted} GPUs were asked for, and this machine has {there}")
