"""MMEngine's runner, which loads strictly, says what a config has wrong, and keeps the terminal to what is new."""

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from torch import nn
from yapf.yapflib import yapf_api

from hivit_det.weights import bare, read_detector
from saratrx.checkpoint import load_all
from saratrx.errors import InputError, first_line, interrupt_ends_at_once
from saratrx.loader_workers import SIGNS

TRACE = "Traceback:"
STEPS = {"train_iter": "a training step", "val_iter": "a validation step", "test_iter": "a test step"}  # as hooks say
# What the log has in full, below work_dir, and the terminal does not: the machine, the config, the hooks, each layer
FOR_THE_FILE = (
    *("\n---", "Config:\n", "Hooks will be executed", "Exp name:", "Checkpoints will be saved to", "load model from"),
    *("Saving checkpoint at", "Evaluating bbox", "Distributed training is not used", '"FileClient" will be'),
    *('"HardDiskBackend" is', "Name of parameter", "paramwise_options", "Load checkpoint from", "Auto resumed"),
    *("COCO's table", "bbox_mAP_copypaste", TRACE),
)


def is_for_the_terminal(record: logging.LogRecord) -> bool:
    """Filter of the terminal's log."""
    return not str(record.msg).startswith(FOR_THE_FILE)


@contextmanager
def refused_if_wrong(cfg: Config, part: str) -> Iterator[None]:
    """Turn what goes wrong while a part of a config is built into an InputError that names the part.

    A config can name anything, so anything can go wrong; the log file has the traceback, too.
    """
    try:
        yield
    except InputError:
        raise
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:
        raise refusal(cfg, f"its {part} cannot be used", error) from error


def refusal(cfg: Config, what: str, error: Exception) -> InputError:
    """Give the sentence on a config that made something fail; the traceback goes to the log file, if there is one."""
    if MMLogger._instance_dict:
        trace = "".join(traceback.format_exception(error))
        message = f"{TRACE} {what}:\n{trace}"
        MMLogger.get_current_instance().error(message)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}, line {frame.lineno}"
    reason = f"{type(error).__name__}, {first_line(error)}" if str(error) else type(error).__name__
    return InputError(f"{cfg.filename}: {what}: {reason} ({place})")


@contextmanager
def formatted_once() -> Iterator[None]:
    """Lay out the text of a config once.

    MMEngine does it for each of five places that it writes the text to, and for each checkpoint: 0.5 s every time, in
    which Ctrl-C becomes an error of the config.
    """
    known: dict[str, Any] = {}
    lay_out = yapf_api.FormatCode

    def format_code(text: str, **style: Any) -> Any:
        if text not in known:
            known[text] = lay_out(text, **style)
        return known[text]

    with patch.object(yapf_api, "FormatCode", format_code):
        yield


class Run(Runner):
    """A training or a test by a config.

    Raises:
        InputError: if a part of the config cannot be used, the model's first step of a kind fails by it, or a
            checkpoint is of another model.

    """

    step: str | None = None  # that is being taken: a key of STEPS
    steps_that_work: frozenset[str] = frozenset()

    @classmethod
    def from_cfg(cls, cfg: Config) -> "Run":
        """Build the model, the hooks and the logs."""
        with refused_if_wrong(cfg, "model, hooks or logs"), interrupt_ends_at_once():
            return super().from_cfg(cfg)

    def train(self) -> nn.Module:
        """Train."""
        with self.refused_at_first_step():
            return super().train()

    def test(self) -> dict[str, float]:
        """Test."""
        with self.refused_at_first_step():
            return super().test()

    @contextmanager
    def refused_at_first_step(self) -> Iterator[None]:
        """Turn a failure of the first step of a kind into an InputError: a config can name anything."""
        try:
            yield
        except (InputError, MemoryError):
            raise
        except Exception as error:
            has_lost_worker = any(sign in str(error) for sign in SIGNS)  # which can be noticed at any place
            if self.step is None or self.step in self.steps_that_work or has_lost_worker:
                raise
            raise refusal(self.cfg, f"the model cannot take {STEPS[self.step]}", error) from error

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call the hooks of a place in the loop, and note which step is being taken."""
        when, _, what = fn_name.partition("_")
        if when == "after" and what in STEPS:
            self.step, self.steps_that_work = None, self.steps_that_work | {what}
        super().call_hook(fn_name, **kwargs)
        if when == "before" and what in STEPS:
            self.step = what

    def _init_model_weights(self) -> None:
        """Load the weights that parts of the model name."""
        with refused_if_wrong(self.cfg, "init_cfg of a part of the model"):
            super()._init_model_weights()

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Give the log, which is in full below work_dir; the terminal shows progress and figures."""
        logger = super().build_logger(*args, **kwargs)
        logger.handlers[0].addFilter(is_for_the_terminal)
        return logger

    def build_train_loop(self, loop: Any) -> Any:
        """Build the training's data and loop."""
        with refused_if_wrong(self.cfg, "train_dataloader or train_cfg"):
            return super().build_train_loop(loop)

    def build_val_loop(self, loop: Any) -> Any:
        """Build the validation's data and loop."""
        with refused_if_wrong(self.cfg, "val_dataloader, val_evaluator or val_cfg"):
            return super().build_val_loop(loop)

    def build_test_loop(self, loop: Any) -> Any:
        """Build the test's data and loop."""
        with refused_if_wrong(self.cfg, "test_dataloader, test_evaluator or test_cfg"):
            return super().build_test_loop(loop)

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        """Build the optimizer."""
        with refused_if_wrong(self.cfg, "optim_wrapper"):
            return super().build_optim_wrapper(optim_wrapper)

    def build_param_scheduler(self, scheduler: Any) -> Any:
        """Build the schedule."""
        with refused_if_wrong(self.cfg, "param_scheduler"):
            return super().build_param_scheduler(scheduler)

    def scale_lr(self, *args: Any, **kwargs: Any) -> None:
        """Scale the learning rate with the batch size."""
        with refused_if_wrong(self.cfg, "auto_scale_lr"):
            super().scale_lr(*args, **kwargs)

    def load_checkpoint(self, filename: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load all weights of a checkpoint of this very detector."""
        content = read_detector(filename)
        content["state_dict"] = content.pop("model")
        self.call_hook("after_load_checkpoint", checkpoint=content)  # EMA exchanges weights
        load_all(bare(self.model), content["state_dict"], filename)
        self._has_loaded = True
        return content

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Go on with a training."""
        try:
            super().resume(filename, *args, **kwargs)
        except InputError:
            raise
        except Exception as error:  # its optimizer or schedule is not this config's, in any way
            raise InputError(
                f"{filename} is of another training, whose optimizer or schedule does not fit: {first_line(error)}; "
                "resume with the config and options of that run"
            ) from error
