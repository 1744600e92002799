"""What training and testing share: reading the config, and looking at the data before anything is started."""

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from mmengine.config import Config, ConfigDict, DictAction

from saratrx.command_line import option
from saratrx.errors import InputError, first_line, raise_problems
from saratrx.files import refused_if_unwritable
from saratrx.reporting import get_logger

log = get_logger(__name__)


@dataclass(frozen=True)
class RunOptions:
    """The run."""

    config: Path = option(positional=True, help="config file, such as configs/_hivit_/hivit_base_SSDD.py")
    work_dir: str | None = option(
        None, help="where logs, checkpoints and results go", default_text="work_dirs/<config>"
    )
    data_root: Path | None = option(None, help="the data set's folder", default_text="the config's")
    launcher: Literal["none", "pytorch", "slurm", "mpi"] = option("none", help="what has started the processes")
    cfg_options: tuple[str, ...] = option((), metavar="KEY=VALUE", help="any key of the config")
    local_rank: int = option(0, names=("--local_rank",), help="set by the launcher", default_text="")

    def __post_init__(self) -> None:
        raise_problems([f"--cfg-options {each}: give KEY=VALUE" for each in self.cfg_options if "=" not in each])


def open_config(path: Path) -> Config:
    """Open a config file as it is.

    Raises:
        InputError: if it cannot be read.

    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; name a config, such as configs/_hivit_/hivit_base_SSDD.py")
    try:
        return Config.fromfile(path)
    except (SyntaxError, NameError, KeyError, TypeError, FileNotFoundError, ImportError) as error:
        raise InputError(f"{path} cannot be read as a config: {error}") from error


def read_config(options: RunOptions) -> Config:
    """Read the config file that the options name, and change it as they say.

    Raises:
        InputError: if it cannot be read or changed so, or more GPUs are asked for than there are.

    """
    check_devices()
    cfg = open_config(options.config)
    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-options", nargs="*", action=DictAction, default={})
    try:
        cfg.merge_from_dict(parser.parse_args(["--cfg-options", *options.cfg_options]).cfg_options)
    except (TypeError, KeyError) as error:
        raise InputError(f"--cfg-options {' '.join(options.cfg_options)}: {error}") from error
    if options.data_root:
        for part in ("train", "val", "test"):
            dataset = cfg[f"{part}_dataloader"].dataset
            dataset.data_root = f"{options.data_root}/"
            if part != "train":
                cfg[f"{part}_evaluator"].ann_file = str(options.data_root / dataset.ann_file)
    cfg.launcher = options.launcher
    cfg.work_dir = options.work_dir or cfg.get("work_dir") or f"work_dirs/{options.config.stem}"
    return cfg


def make_work_dir(path: str) -> None:
    """Make the folder of a run, and see that it can be written to: now, rather than after hours.

    Raises:
        InputError: if it cannot.

    """
    with refused_if_unwritable(f"--work-dir {path}"):
        Path(path).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()


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
        raise InputError(
            f"{path} cannot be read: {first_line(error)}; set data_root to the data set's folder"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no COCO annotation file: it has no categories") from error
    classes = list(dataset.metainfo.classes)
    if set(classes) != set(found):
        raise InputError(f"{path} has the classes {', '.join(found)}, and the config {', '.join(classes)}")
    if classes != found:
        log.info("%s lists its classes in another order than the config; the config's is taken", path)


def check_devices() -> None:
    """Refuse a process without a GPU of its own, where there are GPUs.

    Raises:
        InputError: naming the numbers.

    """
    wanted, there = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if there and wanted > there:
        raise InputError(f"{wanted} GPUs were asked for, and this machine has {there}")
