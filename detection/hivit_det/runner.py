"""MMEngine's runner, which loads strictly, says what a config has wrong, and keeps the terminal to what is new."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from yapf.yapflib import yapf_api

from hivit_det.weights import bare, read_detector
from saratrx.checkpoint import load_all
from saratrx.errors import InputError, first_line, interrupt_ends_at_once

# What the log has in full, below work_dir, and the terminal does not: the machine, the config, the hooks, each layer
FOR_THE_FILE = (
    *("\n---", "Config:\n", "Hooks will be executed", "Exp name:", "Checkpoints will be saved to", "load model from"),
    *("Saving checkpoint at", "Evaluating bbox", "Distributed training is not used", '"FileClient" will be'),
    *('"HardDiskBackend" is', "Name of parameter", "paramwise_options", "Load checkpoint from", "Auto resumed"),
    *("COCO's table", "bbox_mAP_copypaste"),
)


def is_for_the_terminal(record: logging.LogRecord) -> bool:
    """Filter of the terminal's log."""
    return not str(record.msg).startswith(FOR_THE_FILE)


@contextmanager
def refused_if_wrong(cfg: Config, part: str) -> Iterator[None]:
    """Turn what goes wrong while a part of a config is built into an InputError that names the part.

    A config can name anything, so anything can go wrong; the log has no more than this sentence.
    """
    try:
        yield
    except InputError:
        raise
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:
        reason = f"{type(error).__name__}, {first_line(error)}"
        raise InputError(f"{cfg.filename}: its {part} cannot be used: {reason}") from error


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
        InputError: if a part of the config cannot be used, or a checkpoint is of another model.

    """

    @classmethod
    def from_cfg(cls, cfg: Config) -> "Run":
        """Build the model, the hooks and the logs."""
        with refused_if_wrong(cfg, "model, hooks or logs"), interrupt_ends_at_once():
            return super().from_cfg(cfg)

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
