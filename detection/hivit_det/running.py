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

from coco_annotations.installation import InstallationError
from coco_annotations.reading import given
from coco_annotations.run_options import RunOptions, wrong_config
from hivit_det.data_sets import annotation_file, annotation_sets
from hivit_det.loading import set_reading, wrong_reading
from hivit_det.temporary_folder import temporary_folder_named
from saratrx.device import has_cuda
from saratrx.errors import InputError, first_line, raise_problems
from saratrx.process_groups import end_groups
from saratrx.reporting import get_logger

log = get_logger(__name__)

PARTS = ("train", "val", "test")
MANY = 2**31 - 1
PATIENCE = 3.0  # s that the first process has to say for all what is wrong


def open_config(path: Path) -> Config:
    """Open a config file as it is. Configs are Python, and are run: use those that you trust.

    Raises:
        InputError: if it cannot be read, or has no model.

    """
    raise_problems(wrong_config(path))
    try:
        with temporary_folder_named():
            cfg = Config.fromfile(path)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # it is Python, and can fail in any way
        reason: BaseException | None = error
        while reason and not isinstance(reason, InstallationError):  # MMEngine says what did not import, but not why
            reason = reason.__context__
        if reason:
            raise InputError(f"{path} cannot be read as a config: {reason}") from error
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
    set_reading(cfg, given(options))
    check_config(cfg)
    if options.data_root:
        set_data_root(cfg, options.data_root)
    cfg.launcher = options.launcher
    cfg.work_dir = str(options.work_dir or cfg.get("work_dir") or f"work_dirs/{options.config.stem}")
    return cfg


def check_config(cfg: Config) -> None:
    """See that a config has a model and data sets, and numbers that can be meant.

    Raises:
        InputError: that tells all that is wrong.

    """
    problems = []
    for name in ("model", "test_dataloader"):
        if not isinstance(cfg.get(name), dict):
            problems.append(f"{cfg.filename} has no {name}; take a config of configs/_hivit_/ as an example")
    for part in PARTS:
        loader = cfg.get(f"{part}_dataloader")
        if loader is not None and not isinstance(lookup(cfg, f"{part}_dataloader", "dataset"), dict):
            problems.append(f"{cfg.filename}: its {part}_dataloader has no dataset; write dataset=dict(type=...)")
        problems += [
            f"{cfg.filename}: its {part}_evaluator is no dict(type=...), nor a list of these"
            for each in evaluators(cfg, part)
            if not isinstance(each, dict)
        ]
    raise_problems(problems)
    if not isinstance(cfg.model.get("backbone"), dict):
        problems.append(f"{cfg.filename}: its model has no backbone")
    if cfg.get("load_from") is not None and not isinstance(cfg.load_from, str):
        problems.append(f"load_from {str(cfg.load_from)[:30]}: must be the path of a checkpoint")
    raise_problems(problems + wrong_numbers(cfg) + wrong_names(cfg) + wrong_reading(cfg))


def evaluators(cfg: Config, part: str) -> list[Any]:
    """List the evaluators of a part of a config, which may be one or several."""
    found = cfg.get(f"{part}_evaluator")
    if found is None:
        return []
    return list(found) if isinstance(found, list | tuple) else [found]


def wrong_numbers(cfg: Config) -> list[str]:
    """Say which numbers of a config cannot be meant."""
    hook = lookup(cfg, "default_hooks", "checkpoint") or {}
    optimizer = lookup(cfg, "optim_wrapper", "optimizer") or {}
    whole: list[tuple[str, Any, int, int]] = [
        (f"train_cfg.{name}", lookup(cfg, "train_cfg", name), 1, MANY)
        for name in ("max_epochs", "max_iters", "val_interval")
    ]
    for part in PARTS:
        loader = f"{part}_dataloader"
        whole.append((f"{loader}.batch_size", lookup(cfg, loader, "batch_size"), 1, MANY))
        whole.append((f"{loader}.num_workers", lookup(cfg, loader, "num_workers"), 0, 1024))
    whole += [
        (f"default_hooks.checkpoint.{name}", value_of(hook, name), -1, MANY) for name in ("interval", "max_keep_ckpts")
    ]
    problems = [
        f"{name} {str(value)[:30]}: must be a whole number from {low}" + (f" to {high}" if high < MANY else "")
        for name, value, low, high in whole
        if value is not None and (type(value) is not int or not low <= value <= high)
    ]
    for name in ("lr", "weight_decay"):
        value = value_of(optimizer, name)
        if value is not None and (type(value) not in (int, float) or not math.isfinite(value) or value < 0):
            problems.append(f"optim_wrapper.optimizer.{name} {str(value)[:30]}: must be a finite number from 0")
    return problems


def wrong_names(cfg: Config) -> list[str]:
    """Say which names of files in a config cannot be meant."""
    template = value_of(lookup(cfg, "default_hooks", "checkpoint") or {}, "filename_tmpl")
    problems = []
    if template is not None and (not isinstance(template, str) or template.count("{}") != 1):
        problems.append(f"default_hooks.checkpoint.filename_tmpl {template}: must have {{}} once, as in epoch_{{}}.pth")
    for part in ("val", "test"):
        for each in evaluators(cfg, part):
            if "ann_file" in each and not isinstance(each["ann_file"], str):
                problems.append(f"{part}_evaluator.ann_file {each['ann_file']}: must be the path of a file")
    return problems


def value_of(found: Any, name: str) -> Any:
    """Give a value of a dict; None where there is none, or no dict."""
    return found.get(name) if isinstance(found, dict) else None


def lookup(cfg: Config, part: str, name: str) -> Any:
    """Give a value of a part of a config; None where there is none."""
    return value_of(cfg.get(part), name)


def has_oriented_boxes(cfg: Config) -> bool:
    """Whether a config is of oriented boxes (`hivit_det.rotated`)."""
    return any(each.get("type") == "RotatedCocoByName" for each in annotation_sets(cfg.test_dataloader.dataset))


def set_data_root(cfg: Config, root: Path) -> None:
    """Make all data sets of a config, and what evaluates them, use another folder.

    Raises:
        InputError: if an evaluator reads one file for several data sets, whose place is not known.

    """
    for part in PARTS:
        loader = cfg.get(f"{part}_dataloader")
        sets = list(annotation_sets(loader.dataset)) if loader else []
        for dataset in sets:
            dataset.data_root = f"{root}/"
        if part != "train":
            set_evaluated_file(cfg, part, str(annotation_file(sets[0])) if len(sets) == 1 else None)


def set_evaluated_file(cfg: Config, part: str, path: str | None) -> None:
    """Make the evaluators of a part read an annotation file, where they read one; None where none is known.

    Raises:
        InputError: if they read one, and none is known.

    """
    for each in evaluators(cfg, part):
        if "ann_file" in each:
            if path is None:
                raise InputError(
                    f"--data-root: the {part}_evaluator of {cfg.filename} reads one file for several data sets; set "
                    f"both by --cfg-options, such as {part}_evaluator.ann_file=FILE"
                )
            each["ann_file"] = path


def check_evaluator(cfg: Config, part: str) -> None:
    """See that a data set and what evaluates it read the same annotation file.

    Raises:
        InputError: naming the two.

    """
    sets = list(annotation_sets(cfg[f"{part}_dataloader"].dataset))
    for each in evaluators(cfg, part):
        read = each.get("ann_file")
        if read and len(sets) == 1 and Path(read).absolute() != annotation_file(sets[0]).absolute():
            raise InputError(
                f"the {part}_evaluator reads {read}, and the data set {annotation_file(sets[0])}: give both the same, "
                f"such as --cfg-options {part}_evaluator.ann_file={annotation_file(sets[0])}"
            )


@contextmanager
def processes(cfg: Config) -> Iterator[None]:
    """Join the processes that the launcher has started and leave them at the end.

    On GPUs MMEngine does it; without, where its way fails, the processes share this machine's CPU. What is wrong for
    all is said by the first. The runner must be gone at the end, as `end_groups` says.

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
        end_groups()


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
