"""The life cycle of training: what a trainer written for Dassl inherits.

For example:
    @TRAINER_REGISTRY.register()
    class MyTrainer(TrainerX):
        def build_model(self):
            self.model = ...
            self.optim = build_optimizer(self.model, self.cfg.OPTIM)
            self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
            self.register_model("model", self.model, self.optim, self.sched)

        def forward_backward(self, batch):
            images, labels = self.parse_batch_train(batch)
            loss = F.cross_entropy(self.model(images), labels)
            self.model_backward_and_update(loss)
            if self.batch_idx + 1 == self.num_batches:
                self.update_lr()
            return {"loss": loss.item()}
"""

import math
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from yacs.config import CfgNode

from dassl.data import DataManager
from dassl.evaluation import build_evaluator
from dassl.modeling import build_backbone, build_head
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import (
    AverageMeter,
    MetricMeter,
    count_num_param,
    load_checkpoint,
    mkdir_if_missing,
    resume_from_checkpoint,
    save_checkpoint,
    set_random_seed,
)
from dassl.utils.checkpoints import BEST, newest_checkpoint
from dassl.utils.progress import Occasional, Progress
from saratrx.checkpoint import load_all
from saratrx.device import choose_device
from saratrx.errors import InputError
from saratrx.reporting import get_logger
from saratrx.seeds import derived_seed

log = get_logger(__name__)


class SimpleNet(nn.Module):
    """Backbone, head if one is named, and a linear classifier.

    Args:
        cfg: the whole config.
        model_cfg: its MODEL section.
        num_classes: width of the classifier; 0 leaves the features.
        **kwargs: passed on to the backbone.

    """

    def __init__(self, cfg: CfgNode, model_cfg: CfgNode, num_classes: int, **kwargs: Any) -> None:
        super().__init__()
        backbone = build_backbone(
            model_cfg.BACKBONE.NAME, verbose=cfg.VERBOSE, pretrained=model_cfg.BACKBONE.PRETRAINED, **kwargs
        )
        self.backbone, width = backbone, backbone.out_features
        self.head: nn.Module | None = None
        if model_cfg.HEAD.NAME and model_cfg.HEAD.HIDDEN_LAYERS:
            head = build_head(
                model_cfg.HEAD.NAME,
                verbose=cfg.VERBOSE,
                in_features=width,
                hidden_layers=model_cfg.HEAD.HIDDEN_LAYERS,
                activation=model_cfg.HEAD.ACTIVATION,
                bn=model_cfg.HEAD.BN,
                dropout=model_cfg.HEAD.DROPOUT,
            )
            self.head, width = head, head.out_features
        self.classifier = nn.Linear(width, num_classes) if num_classes else None

    def forward(self, x: torch.Tensor, return_feature: bool = False) -> Any:
        feature = self.backbone(x)
        if self.head is not None:
            feature = self.head(feature)
        if self.classifier is None:
            return feature
        logits = self.classifier(feature)
        return (logits, feature) if return_feature else logits


class Record(Protocol):
    """What follows a run from outside, such as a file of its results."""

    def train(self, epoch: int, max_epoch: int) -> None:
        """Hear that training begins or goes on, after `epoch` of `max_epoch` epochs."""

    def test(self, split: str, results: Mapping[str, float], is_trained: bool) -> None:
        """Hear what a test, not a validation, has found: the evaluator's results, after all epochs if `is_trained`."""


class TrainerBase:
    """Models with their optimizers under names, their files, and the loop over epochs."""

    def __init__(self) -> None:
        self._models: OrderedDict[str, nn.Module] = OrderedDict()
        self._optims: OrderedDict[str, torch.optim.Optimizer | None] = OrderedDict()
        self._scheds: OrderedDict[str, Any] = OrderedDict()
        self._writer: SummaryWriter | None = None
        self.start_epoch = self.epoch = 0
        self.max_epoch = 0
        self.is_trained = False  # set by `after_train`
        self.record: Record | None = None
        self.seed = -1
        self.told = Occasional()

    def register_model(
        self,
        name: str = "model",
        model: nn.Module | None = None,
        optim: torch.optim.Optimizer | None = None,
        sched: Any = None,
    ) -> None:
        """Have a model trained, saved and loaded under a name; without optimizer it is only saved."""
        if name in self._models:
            raise KeyError(f"a model named {name} is registered already")
        if model is None:
            raise ValueError(f"register_model({name!r}) was given no model")
        self._models[name], self._optims[name], self._scheds[name] = model, optim, sched

    def get_model_names(self, names: str | list[str] | None = None) -> list[str]:
        """List all names, or those given, which must exist."""
        if names is None:
            return list(self._models)
        names = [names] if isinstance(names, str) else list(names)
        unknown = [name for name in names if name not in self._models]
        if unknown:
            raise KeyError(f"no model is registered as {', '.join(unknown)}")
        return names

    def save_model(
        self, epoch: int, directory: str, is_best: bool = False, val_result: float | None = None, model_name: str = ""
    ) -> None:
        """Write each model with its optimizer to `<directory>/<name>/model.pth.tar-<epoch + 1>`, `epoch` from 0."""
        for name, model in self._models.items():
            optim, sched = self._optims[name], self._scheds[name]
            state = {
                "state_dict": model.state_dict(),
                "epoch": epoch + 1,
                "optimizer": None if optim is None else optim.state_dict(),
                "scheduler": None if sched is None else sched.state_dict(),
                "val_result": val_result,
            }
            save_checkpoint(state, Path(directory, name), is_best=is_best, model_name=model_name)

    def resume_model_if_exist(self, directory: str) -> int:
        """Continue what a folder holds; return the epochs done, 0 if it holds nothing."""
        if not all(Path(directory, name, "checkpoint").is_file() for name in self._models):
            return 0
        start_epoch = 0
        for name, model in self._models.items():
            start_epoch = resume_from_checkpoint(Path(directory, name), model, self._optims[name], self._scheds[name])
        return start_epoch

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load each model from `<directory>/<name>`: that of an epoch (counted from 1), else the best, else the last.

        Without a directory nothing is loaded, and a line says so: models that need no training are tested that way.

        Raises:
            CheckpointError: if it is not there, or another model's.

        """
        if not directory:
            log.info("note: no --model-dir was given: the model is tested as it was built, without anything loaded")
            return
        for name, model in self._models.items():
            folder = Path(directory, name)
            path = folder / BEST
            if epoch is not None:
                path = folder / f"model.pth.tar-{epoch}"
            elif not path.is_file() and (folder / "checkpoint").is_file():
                path = newest_checkpoint(folder)
            checkpoint = load_checkpoint(path)
            load_all(model, checkpoint["state_dict"], path)
            log.info("Loaded %s, after epoch %s", path, checkpoint["epoch"])

    def set_model_mode(self, mode: str = "train", names: str | list[str] | None = None) -> None:
        """Put models into "train" mode, or any other: evaluation."""
        for name in self.get_model_names(names):
            self._models[name].train(mode == "train")

    def update_lr(self, names: str | list[str] | None = None) -> None:
        """Go on by an epoch in the schedules; `forward_backward` calls it after the last batch of an epoch."""
        for name in self.get_model_names(names):
            if self._scheds[name] is not None:
                self._scheds[name].step()

    def get_current_lr(self, names: str | list[str] | None = None) -> float:
        """Give the learning rate of the first model that has an optimizer; of several groups, the last one's."""
        rates = [optim.param_groups[-1]["lr"] for optim in self.optimizers(names)]
        return rates[0] if rates else 0.0

    def optimizers(self, names: str | list[str] | None = None) -> list[torch.optim.Optimizer]:
        """List the optimizers of all models, or of those named."""
        found = (self._optims[name] for name in self.get_model_names(names))
        return [optim for optim in found if optim is not None]

    def init_writer(self, log_dir: str) -> None:
        """Open TensorBoard's file, once."""
        if self._writer is None:
            self._writer = SummaryWriter(log_dir)

    def close_writer(self) -> None:
        """Close it."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def write_scalar(self, tag: str, scalar_value: float, global_step: int | None = None) -> None:
        """Write a number to TensorBoard, if it is open."""
        if self._writer is not None:
            self._writer.add_scalar(tag, scalar_value, global_step)

    def train(self, start_epoch: int, max_epoch: int) -> None:
        """Run all epochs.

        What is random in an epoch follows from the seed and its number, so that a resumed run goes on exactly. Seeds
        have 32 bits, as our published figures were made with.
        """
        self.start_epoch, self.max_epoch = start_epoch, max_epoch
        self.before_train()
        if self.record is not None and self.start_epoch < self.max_epoch:
            self.record.train(self.start_epoch, self.max_epoch)
        for epoch in range(self.start_epoch, self.max_epoch):
            self.epoch = epoch
            if self.seed >= 0:
                set_random_seed(derived_seed(self.seed, self.epoch) % 2**32)
            self.before_epoch()
            self.run_epoch()
            self.after_epoch()
        self.after_train()

    def before_train(self) -> None:
        """Prepare for training; left to subclasses, like all that follows."""

    def after_train(self) -> None:
        """Do what comes after the last epoch."""

    def before_epoch(self) -> None:
        """Prepare for an epoch."""

    def after_epoch(self) -> None:
        """Do what comes after an epoch."""

    def run_epoch(self) -> None:
        """Run one epoch."""
        raise NotImplementedError

    def test(self) -> float:
        """Evaluate."""
        raise NotImplementedError

    def parse_batch_train(self, batch: dict[str, Any]) -> Any:
        """Take what training needs out of a batch."""
        raise NotImplementedError

    def parse_batch_test(self, batch: dict[str, Any]) -> Any:
        """Take what the test needs out of a batch."""
        raise NotImplementedError

    def forward_backward(self, *batch: Any) -> dict[str, float]:
        """Do one optimizer step on a batch, or one of each loader; return what is to be reported."""
        raise NotImplementedError

    def model_inference(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 -- Dassl's name
        """Compute scores from images."""
        raise NotImplementedError

    def detect_anomaly(self, loss: torch.Tensor) -> None:
        """Stop where the loss is infinite or not a number."""
        if not torch.isfinite(loss).all():
            raise FloatingPointError(f"the loss is {loss.item()} in epoch {self.epoch + 1}: try a lower OPTIM.LR")

    def model_zero_grad(self, names: str | list[str] | None = None) -> None:
        """Forget the gradients."""
        for optim in self.optimizers(names):
            optim.zero_grad()

    def model_backward(self, loss: torch.Tensor) -> None:
        """Compute the gradients."""
        self.detect_anomaly(loss)
        loss.backward()

    def model_update(self, names: str | list[str] | None = None) -> None:
        """Step the optimizers."""
        for optim in self.optimizers(names):
            optim.step()

    def model_backward_and_update(self, loss: torch.Tensor, names: str | list[str] | None = None) -> None:
        """Do one optimizer step on a loss."""
        self.model_zero_grad(names)
        self.model_backward(loss)
        self.model_update(names)


class SimpleTrainer(TrainerBase):
    """Builds data, model and evaluator from a config; trains, validates, saves and tests as it says.

    Attributes:
        cfg: the config.
        device: "cuda" if it is there and USE_CUDA, else "cpu".
        dm: the `DataManager`; train_loader_x, train_loader_u, val_loader, test_loader, num_classes and lab2cname are
            its.
        best_result: best accuracy on the validation part so far, with TEST.FINAL_MODEL best_val.

    """

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.check_cfg(cfg)
        self.cfg = cfg
        self.device = choose_device("auto" if cfg.USE_CUDA else "cpu")
        self.start_epoch, self.max_epoch = self.epoch, cfg.OPTIM.MAX_EPOCH
        self.output_dir, self.seed = cfg.OUTPUT_DIR, cfg.SEED
        self.build_data_loader()
        self.build_model()
        self.evaluator = build_evaluator(cfg, lab2cname=self.lab2cname)
        self.best_result = -math.inf

    def check_cfg(self, cfg: CfgNode) -> None:
        """Refuse a config that cannot work; left to subclasses."""

    def build_data_loader(self) -> None:
        """Make the loaders."""
        self.take_loaders(DataManager(self.cfg))

    def take_loaders(self, dm: DataManager) -> None:
        """Use a data manager's loaders."""
        self.dm = dm
        self.train_loader_x, self.train_loader_u = dm.train_loader_x, dm.train_loader_u
        self.val_loader, self.test_loader = dm.val_loader, dm.test_loader
        self.num_classes, self.lab2cname = dm.num_classes, dm.lab2cname

    def build_model(self) -> None:
        """Make a `SimpleNet`; most trainers make their own model and register it."""
        self.model: Any = SimpleNet(self.cfg, self.cfg.MODEL, self.num_classes).to(self.device)
        log.info(f"# params: {count_num_param(self.model):,}")
        self.optim = build_optimizer(self.model, self.cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
        self.register_model("model", self.model, self.optim, self.sched)

    def train(self) -> None:  # type: ignore[override]  # Dassl's signature
        """Run all epochs, then the test."""
        super().train(self.start_epoch, self.max_epoch)

    def before_train(self) -> None:
        """Continue what RESUME or the output folder holds; open TensorBoard.

        Raises:
            InputError: if the data set lacks a part that will be tested.

        """
        if not self.cfg.TEST.NO_TEST:
            self.loader_of(self.cfg.TEST.SPLIT)
            if self.cfg.TEST.FINAL_MODEL == "best_val":
                self.loader_of("val")
        directory = self.cfg.RESUME or self.output_dir
        self.start_epoch = self.resume_model_if_exist(directory)
        if self.start_epoch and self.cfg.TEST.FINAL_MODEL == "best_val":
            best = [load_checkpoint(path) for name in self._models if (path := Path(directory, name, BEST)).is_file()]
            results = [each.get("val_result") for each in best]
            self.best_result = max((value for value in results if isinstance(value, int | float)), default=-1)
        mkdir_if_missing(self.output_dir)
        self.init_writer(str(Path(self.output_dir, "tensorboard")))
        self.time_start = time.perf_counter()

    def after_train(self) -> None:
        """Test the model that TEST.FINAL_MODEL asks for."""
        log.info("Finish training")
        self.is_trained = True
        if not self.cfg.TEST.NO_TEST:
            if self.cfg.TEST.FINAL_MODEL == "best_val":
                log.info("Deploy the model with the best validation accuracy")
                self.load_model(self.output_dir)
            else:
                log.info("Deploy the last-epoch model")
            self.test()
        log.info("Elapsed: %s", timedelta(seconds=round(time.perf_counter() - self.time_start)))
        self.close_writer()

    def after_epoch(self) -> None:
        """Validate if the best model is asked for; save every CHECKPOINT_FREQ epochs, and the last."""
        is_last = self.epoch + 1 == self.max_epoch
        every = self.cfg.TRAIN.CHECKPOINT_FREQ
        if not self.cfg.TEST.NO_TEST and self.cfg.TEST.FINAL_MODEL == "best_val":
            result = self.test(split="val")
            if result > self.best_result:
                self.best_result = result
                self.save_model(self.epoch, self.output_dir, val_result=result, model_name=BEST)
        if is_last or (every > 0 and (self.epoch + 1) % every == 0):
            self.save_model(self.epoch, self.output_dir)

    @torch.no_grad()
    def test(self, split: str | None = None) -> float:
        """Evaluate on a part ("test" or "val"; None: TEST.SPLIT); return the evaluator's first result."""
        self.set_model_mode("eval")
        self.evaluator.reset()
        is_validation = split is not None
        split = split or str(self.cfg.TEST.SPLIT)
        loader = self.loader_of(split)
        log.info("Evaluate on the *%s* set", split)
        for batch in Progress(loader, "test", len(loader.dataset)):  # type: ignore[arg-type]  # all have a length
            images, labels = self.parse_batch_test(batch)
            self.evaluator.process(self.model_inference(images), labels)
        results: Mapping[str, float] = self.evaluator.evaluate()
        if self.record is not None and not is_validation:
            self.record.test(split, results, self.is_trained)
        for name, value in results.items():
            self.write_scalar(f"{split}/{name}", value, self.epoch)
        return next(iter(results.values()))

    def loader_of(self, split: str) -> DataLoader[Any]:
        """Give the loader of "test" or "val".

        Raises:
            InputError: if the data set has no such part.

        """
        loader = {"test": self.test_loader, "val": self.val_loader}.get(split)
        if loader is None:
            raise InputError(f"data set {self.cfg.DATASET.NAME} has no part {split!r}, which TEST asks for")
        return loader

    def model_inference(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 -- Dassl's name
        """Compute scores from images."""
        return self.model(input)

    def parse_batch_test(self, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Take images and labels, on the device."""
        return batch["img"].to(self.device), batch["label"].to(self.device)


class TrainerX(SimpleTrainer):
    """Trains on labelled images."""

    def run_epoch(self) -> None:
        """Do one pass over `train_loader_x`, with a `forward_backward` per batch."""
        loader = self.training_loader(self.train_loader_x, "training image")
        self.run_batches(((batch,) for batch in loader), len(loader))

    def training_loader(self, loader: DataLoader[Any] | None, what: str) -> DataLoader[Any]:
        """Give a loader of the training part.

        Raises:
            InputError: if the data set has no such part.

        """
        if loader is None:
            raise InputError(f"data set {self.cfg.DATASET.NAME} has no {what}")
        return loader

    def run_batches(self, batches: Iterable[tuple[Any, ...]], number: int) -> None:
        """Call `forward_backward` with each of a number of batches, and report."""
        self.set_model_mode("train")
        losses, batch_time, data_time = MetricMeter(), AverageMeter(), AverageMeter()
        self.num_batches = number
        every = self.cfg.TRAIN.PRINT_FREQ
        end = time.perf_counter()
        for batch_idx, batch in enumerate(batches):
            self.batch_idx = batch_idx
            data_time.update(time.perf_counter() - end)
            lr = self.get_current_lr()
            reported = self.forward_backward(*batch)
            losses.update(reported)
            batch_time.update(time.perf_counter() - end)
            if (self.batch_idx + 1) % every == 0 or self.num_batches < every:
                left = self.num_batches * (self.max_epoch - self.epoch) - self.batch_idx - 1
                self.told.info(
                    f"epoch [{self.epoch + 1}/{self.max_epoch}] batch [{self.batch_idx + 1}/{self.num_batches}] "
                    f"time {batch_time.val:.3f} ({batch_time.avg:.3f}) data {data_time.val:.3f} ({data_time.avg:.3f}) "
                    f"{losses} lr {lr:.4e} eta {timedelta(seconds=int(batch_time.avg * left))}",
                    is_last=left == 0,
                )
            step = self.epoch * self.num_batches + self.batch_idx
            for name, meter in losses.meters.items():
                self.write_scalar(f"train/{name}", meter.avg, step)
            self.write_scalar("train/lr", lr, step)
            end = time.perf_counter()

    def parse_batch_train(self, batch: dict[str, Any]) -> Any:
        """Take images and labels, on the device."""
        return batch["img"].to(self.device), batch["label"].to(self.device)


class TrainerXU(TrainerX):
    """Trains on labelled and unlabelled images: `forward_backward` gets a batch of each."""

    def run_epoch(self) -> None:
        """Do as many batches as TRAIN.COUNT_ITER has: "train_x", "train_u" or the "smaller_one"; the other repeats."""
        labelled = self.training_loader(self.train_loader_x, "training image")
        unlabelled = self.training_loader(self.train_loader_u, "unlabelled training image")
        sizes = {"train_x": len(labelled), "train_u": len(unlabelled)}
        sizes["smaller_one"] = min(sizes.values())
        if self.cfg.TRAIN.COUNT_ITER not in sizes:
            raise InputError(f"TRAIN.COUNT_ITER {self.cfg.TRAIN.COUNT_ITER}: unknown; choose one of {', '.join(sizes)}")
        number = sizes[self.cfg.TRAIN.COUNT_ITER]
        batches = zip(endless(labelled), islice(endless(unlabelled), number), strict=False)  # the first has no end
        self.run_batches(batches, number)

    def parse_batch_train(  # type: ignore[override]  # Dassl's signature: two batches in place of one
        self, batch_x: dict[str, Any], batch_u: dict[str, Any]
    ) -> Any:
        """Take labelled images, their labels, and unlabelled images, on the device."""
        return *super().parse_batch_train(batch_x), batch_u["img"].to(self.device)


def endless(loader: DataLoader[Any]) -> Iterator[Any]:
    """Give a loader's batches again and again, in a new order each time."""
    while True:
        yield from loader
