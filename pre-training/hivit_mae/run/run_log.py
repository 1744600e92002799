"""What a run tells: a progress bar or plain lines, log.txt, TensorBoard."""

import json
import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from importlib.util import find_spec
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tqdm import tqdm

from hivit_mae.cluster.distributed import Processes
from saratrx.device import peak_memory
from saratrx.errors import first_line
from saratrx.files import write_text
from saratrx.reporting import get_logger, silence_writer_threads

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

log = get_logger(__name__)

LOG_EVERY = 20  # iterations between two lines; only then is the device waited for
SLOW_LOADER = 0.2  # share of the time spent waiting for data from which on the log calls the loader the bottleneck


class RunLog:
    """Console, log.txt and TensorBoard of the main process; the others keep the clock only.

    Args:
        folder: where log.txt is; it exists.
        log_folder: for TensorBoard.
        processes: this one and the others.
        epochs: of the run.
        steps: optimizer steps per epoch.
        images_per_step: of all processes.
        start_epoch: epochs done before; what was logged of later ones is of a run that was cut off, and is dropped.
        start_step: steps done of the next one.

    """

    def __init__(
        self,
        folder: Path,
        log_folder: str | Path,
        processes: Processes,
        *,
        epochs: int,
        steps: int,
        images_per_step: int,
        start_epoch: int = 0,
        start_step: int = 0,
    ) -> None:
        self.log_folder, self.processes, self.epochs, self.steps = log_folder, processes, epochs, steps
        self.images_per_step = images_per_step
        self.steps_left = steps * (epochs - start_epoch) - start_step
        self.begun = self.last_line = time.perf_counter()
        self.steps_done = self.steps_since_line = 0
        self.seconds_waited = 0.0  # for data, up to the last line
        self.warned = False  # of a slow loader, in this epoch
        self.bar: tqdm[NoReturn] | None = None
        self.entries: list[dict[str, float]] = []  # epochs not yet written
        self.writer: SummaryWriter | None = None
        if processes.is_main:
            silence_writer_threads()
            self.file = folder / "log.txt"
            drop_lines_after(self.file, start_epoch)
            self.has_tensorboard = find_spec("tensorboard") is not None
            if not self.has_tensorboard:
                log.warning("TensorBoard is not installed: its file is not written")
            self.open_tensorboard(purge_step=(start_epoch + 1) * 1000)

    def start_epoch(self, epoch: int, start_step: int = 0) -> None:
        """Open the epoch's progress bar, where a person is watching."""
        if self.processes.is_main and sys.stderr.isatty():
            description = f"epoch {epoch + 1}/{self.epochs}"
            self.bar = tqdm(total=self.steps, initial=start_step, desc=description, unit="step", leave=False)
        self.last_line, self.steps_since_line, self.warned = time.perf_counter(), 0, False

    def step(self, step: int) -> bool:
        """Count a step; True if a line is due, for which `line` is then called."""
        self.steps_done += 1
        self.steps_since_line += 1
        if self.bar is not None:
            self.bar.update()
        return (step + 1) % LOG_EVERY == 0 or step + 1 == self.steps

    def line(
        self, epoch: int, step: int, loss: float, lr: float, grad_norm: float, seconds_waited: float, skipped: int
    ) -> None:
        """Print one line, or set the bar's text: loss, learning rate, gradient norm, speed, memory, time left.

        Args:
            epoch: counted from 0, as `step` is.
            step: of the epoch.
            loss: mean since the last line.
            lr: learning rate.
            grad_norm: norm of the last step's gradient.
            seconds_waited: for data, since the run began.
            skipped: steps whose loss was not finite, since the run began.

        """
        now = time.perf_counter()
        seconds = now - self.last_line
        speed = self.steps_since_line * self.images_per_step / seconds
        waited = min((seconds_waited - self.seconds_waited) / seconds, 1.0)
        is_telling = self.steps_since_line >= LOG_EVERY or step + 1 == self.steps
        self.last_line, self.steps_since_line, self.seconds_waited = now, 0, seconds_waited
        seconds_left = (now - self.begun) / self.steps_done * (self.steps_left - self.steps_done)
        text = (
            f"loss {loss:.4f}  lr {lr:.2e}  grad norm {grad_norm:.3f}  {speed:.1f} images/s  "
            f"waiting for data {waited:.0%}  memory {peak_memory(self.processes.device):.1f} GB  "
            f"left {timedelta(seconds=round(seconds_left))}"
        )
        if skipped:
            text += f"  {skipped} steps skipped"
        if self.bar is not None:
            self.bar.set_postfix_str(text)
        else:
            log.info(f"epoch {epoch + 1}/{self.epochs}  step {step + 1}/{self.steps}  {text}")
        if waited >= SLOW_LOADER and is_telling and not self.warned:
            self.warned = True
            self.say(
                f"the loader is the bottleneck: {waited:.0%} of the time was spent waiting for data; --cache DIR, "
                "--augment device and more --num_workers help"
            )

    def say(self, text: str) -> None:
        """Print a line of the main process, above the progress bar if there is one."""
        if self.bar is not None:
            self.bar.write(text)
        else:
            log.info(text)

    def end_epoch(
        self, epoch: int, lr: float, loss: float, figures: dict[str, float] | None = None, told: str = ""
    ) -> None:
        """Write the epoch, counted from 0, to log.txt and TensorBoard, where it counts from 1 like the checkpoints.

        `figures` are what the target tells of itself, and what was measured, by name; `told` joins the line.

        What a full disk does not take is told, and written with the next epoch.
        """
        self.close_bar()
        if not self.processes.is_main:
            return
        log.info(f"epoch {epoch + 1}/{self.epochs} done: loss {loss:.4f}{told and ', ' + told}")
        self.entries.append({"train_lr": lr, "train_loss": loss, "epoch": epoch + 1} | (figures or {}))
        length = self.file.stat().st_size if self.file.exists() else 0
        try:
            with self.file.open("a", encoding="utf-8") as file:
                file.write("".join(json.dumps(entry) + "\n" for entry in self.entries))
            self.entries.clear()
        except OSError as error:
            if self.file.exists():
                os.truncate(self.file, length)  # no half lines
            log.warning(f"{self.file} cannot be written: {first_line(error)}; training goes on")
        for name, value in ({"train_loss": loss, "lr": lr} | (figures or {})).items():
            self.tensorboard(methodcaller("add_scalar", name, value, (epoch + 1) * 1000))
        self.tensorboard(lambda writer: writer.flush())

    def open_tensorboard(self, purge_step: int | None = None) -> None:
        """Begin a file of events, where TensorBoard is installed."""
        if not self.has_tensorboard:
            return
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 -- a machine can do without

        try:
            self.writer = SummaryWriter(str(self.log_folder), purge_step=purge_step)
        except OSError as error:
            log.warning(f"TensorBoard's file cannot be written: {first_line(error)}; training goes on")

    def tensorboard(self, write: Callable[["SummaryWriter"], Any]) -> None:
        """Write something for TensorBoard, if its file can be written."""
        if self.writer is None:
            self.open_tensorboard()
        if self.writer is not None:
            try:
                write(self.writer)
            except OSError as error:
                log.warning(f"TensorBoard's file cannot be written: {first_line(error)}; training goes on")
                self.writer = None

    def close_bar(self) -> None:
        """Take the progress bar away, if there is one."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def close(self) -> None:
        """Flush TensorBoard."""
        self.close_bar()
        if self.writer is not None:
            self.tensorboard(lambda writer: writer.close())


def drop_lines_after(file: Path, epoch: int) -> None:
    """Keep the lines of log.txt up to an epoch; a line that was cut off by a crash goes too."""
    if not file.is_file():
        return
    kept = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if json.loads(line)["epoch"] <= epoch:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    try:
        write_text(file, "".join(kept))
    except OSError as error:
        log.warning(f"{file} cannot be written: {first_line(error)}")
