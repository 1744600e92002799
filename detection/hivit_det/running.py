"""What training and testing share: reading the config, and looking at it before anything is started."""

import argparse
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction
from mmengine.dist import get_rank

from coco_annotations.run_options import RunOptions, wrong_config
from hivit_det.data_sets import annotation_sets
from saratrx.device import has_cuda
from saratrx.errors import InputError, first_line, raise_problems
from saratrx.reporting import get_logger

log = get_logger(__name__)

PATIENCE = 3.0  # s that the first process has to say for all what is wrong


def open_config(path: Path) -> Config:
    """Open a config file as it is. Configs are Python, and are run: use those that you trust.

    Raises:
        InputError: if it cannot be read, or has no model.

    """
    raise_problems(wrong_config(path))
    try:
        cfg = Config.fromfile(path)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # it is Python, and can fail in any way
        raise InputError(f"{path} cannot be read as a config: {type(error).__name__}, {first_line(error)}") from error
    return cfg


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
    except (TypeError, KeyError, ValueError, AttributeError, AssertionError, IndexError, RecursionError) as error:
        raise InputError(f"--cfg-options {' '.join(options.cfg_options)}: {first_line(error)}") from error
    check_config(cfg)
    if options.data_root:
        set_data_root(cfg, options.data_root)
    cfg.launcher = options.launcher
    cfg.work_dir = str(options.work_dir or cfg.get("work_dir") or f"work_dirs/{options.config.stem}")
    return cfg


def check_config(cfg: Config) -> None:
    """See that a config has a model and numbers that can be meant.

    Raises:
        InputError: that tells all that is wrong.

    """
    problems = []
    for name in ("model", "test_dataloader"):
        if not isinstance(cfg.get(name), dict):
            problems.append(f"{cfg.filename} has no {name}; take a config of configs/_hivit_/ as an example")
    raise_problems(problems)
    if not isinstance(cfg.model.get("backbone", cfg.model.get("detector")), dict):
        problems.append(f"{cfg.filename}: its model has no backbone")
    whole: dict[str, tuple[str, ...]] = {"train_cfg": ("max_epochs", "max_iters", "val_interval")}
    whole |= {f"{part}_dataloader": ("batch_size",) for part in ("train", "val", "test")}
    for part, names in whole.items():
        for name in names:
            value = lookup(cfg, part, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 2**31):
                problems.append(f"{part}.{name} {str(value)[:30]}: must be a whole number from 1")
    for part in ("train", "val", "test"):
        value = lookup(cfg, f"{part}_dataloader", "num_workers")
        if value is not None and (not isinstance(value, int) or not 0 <= value <= 1024):
            problems.append(f"{part}_dataloader.num_workers {str(value)[:30]}: must be a whole number from 0 to 1024")
    optimizer = lookup(cfg, "optim_wrapper", "optimizer") or {}
    for name in ("lr", "weight_decay"):
        value = optimizer.get(name) if isinstance(optimizer, dict) else None
        if value is not None and not (isinstance(value, int | float) and math.isfinite(value) and value >= 0):
            problems.append(f"optim_wrapper.optimizer.{name} {str(value)[:30]}: must be a finite number from 0")
    raise_problems(problems)


def lookup(cfg: Config, part: str, name: str) -> Any:
    """Give a value of a part of a config; None where there is none."""
    found = cfg.get(part)
    return found.get(name) if isinstance(found, dict) else None


def set_data_root(cfg: Config, root: Path) -> None:
    """Make all data sets of a config, and what evaluates them, use another folder."""
    for part in ("train", "val", "test"):
        loader = cfg.get(f"{part}_dataloader")
        sets = list(annotation_sets(loader.dataset)) if loader else []
        for dataset in sets:
            dataset.data_root = f"{root}/"
        evaluator = cfg.get(f"{part}_evaluator")
        if part != "train" and isinstance(evaluator, dict) and len(sets) == 1:
            evaluator["ann_file"] = str(root / sets[0].ann_file)


@contextmanager
def processes(cfg: Config) -> Iterator[None]:
    """Join the processes that the launcher has started and leave them at the end.

    On GPUs MMEngine does it; without, where its way fails, the processes share this machine's CPU. What is wrong for
    all is said by the first.

    Raises:
        InputError: if there are no GPUs, and the launcher is another than torchrun or the model has SyncBN.

    """
    if cfg.launcher != "none" and not has_cuda():
        if cfg.launcher != "pytorch":
            raise InputError(f"--launcher {cfg.launcher} needs GPUs; on a CPU use tools/dist_train.sh")
        if "'type': 'SyncBN'" in str(cfg.model):
            norm = "model.roi_head.bbox_head.norm_cfg.type=BN"
            raise InputError(f"{cfg.filename} has SyncBN, which needs GPUs; on a CPU give --cfg-options {norm}")
        try:
            torch.distributed.init_process_group("gloo")
        except (ValueError, RuntimeError) as error:
            raise InputError(f"--launcher pytorch: {first_line(error)}; start it with tools/dist_train.sh") from error
        cfg.model_wrapper_cfg = {
            "type": "MMDistributedDataParallel",
            "device_ids": None,
            "broadcast_buffers": False,
            "find_unused_parameters": cfg.get("find_unused_parameters", False),
        }
    try:
        yield
    except InputError:
        if get_rank():
            time.sleep(PATIENCE)
        raise
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def is_first_process() -> bool:
    """Whether this process is the one that writes: before the processes are joined, by what the launcher says."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK"))


def check_devices() -> None:
    """Refuse a process without a GPU of its own, where there are GPUs.

    Raises:
        InputError: naming the numbers; if there is a GPU that PyTorch cannot use.

    """
    wanted = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    there = torch.cuda.device_count() if has_cuda() else 0
    if there and wanted > there:
        raise InputError(f"{wanted} GPUs were asked for, and this machine has {there}")
