"""What a run tells: a progress bar or plain lines, log.txt, TensorBoard."""

import json
import resource
import sys
import time
from argparse import Namespace
from datetime import timedelta
from pathlib import Path

import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from util.distributed import Processes

LOG_EVERY = 20  # iterations between two lines; only then is the device waited for


class RunLog:
    """Console, log.txt and TensorBoard of the main process; the others keep the clock only.

    Args:
        args: the run's options; output_dir exists.
        processes: the process group.
        steps: optimizer steps of an epoch.
        start_epoch: epochs done before; what was logged of later ones is of a run that was cut off, and is dropped.

    """

    def __init__(self, args: Namespace, processes: Processes, steps: int, start_epoch: int) -> None:
        self.args, self.processes, self.steps = args, processes, steps
        self.images_per_step = args.batch_size * args.accum_iter * processes.world_size
        self.steps_left = steps * (args.epochs - start_epoch)
        self.begun = self.last_line = time.perf_counter()
        self.steps_done = self.steps_since_line = 0
        self.bar: tqdm | None = None
        self.writer: SummaryWriter | None = None
        if processes.is_main:
            self.file = Path(args.output_dir) / "log.txt"
            drop_lines_after(self.file, start_epoch)
            self.writer = SummaryWriter(args.log_dir, purge_step=(start_epoch + 1) * 1000)

    def start_epoch(self, epoch: int) -> None:
        """Open the epoch's progress bar, where a person is watching."""
        if self.processes.is_main and sys.stderr.isatty():
            self.bar = tqdm(total=self.steps, desc=f"epoch {epoch + 1}/{self.args.epochs}", unit="step", leave=False)
        self.last_line, self.steps_since_line = time.perf_counter(), 0

    def step(self, step: int) -> bool:
        """Count a step; True if a line is due, for which `line` is then called."""
        self.steps_done += 1
        self.steps_since_line += 1
        if self.bar is not None:
            self.bar.update()
        return (step + 1) % LOG_EVERY == 0 or step + 1 == self.steps

    def line(self, epoch: int, step: int, loss: float, lr: float, grad_norm: float) -> None:
        """One line, or the bar's text: loss since the last, learning rate, gradient norm, speed, memory, time left."""
        now = time.perf_counter()
        speed = self.steps_since_line * self.images_per_step / (now - self.last_line)
        self.last_line, self.steps_since_line = now, 0
        seconds_left = (now - self.begun) / self.steps_done * (self.steps_left - self.steps_done)
        text = (
            f"loss {loss:.4f}  lr {lr:.2e}  grad norm {grad_norm:.3f}  {speed:.1f} images/s  "
            f"memory {peak_memory(self.processes.device):.1f} GB  left {timedelta(seconds=round(seconds_left))}"
        )
        if self.bar is not None:
            self.bar.set_postfix_str(text)
        else:
            print(f"epoch {epoch + 1}/{self.args.epochs}  step {step + 1}/{self.steps}  {text}", flush=True)

    def end_epoch(self, epoch: int, lr: float, loss: float) -> None:
        """Write the epoch, counted from 0, to log.txt and TensorBoard, where it counts from 1 like the checkpoints."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
        if self.writer is None:
            return
        entry = {"train_lr": lr, "train_loss": loss, "epoch": epoch + 1}
        print(f"epoch {epoch + 1}/{self.args.epochs} done: loss {loss:.4f}", flush=True)
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        self.writer.add_scalar("train_loss", loss, (epoch + 1) * 1000)
        self.writer.add_scalar("lr", lr, (epoch + 1) * 1000)
        self.writer.flush()

    def close(self) -> None:
        """Flush TensorBoard."""
        if self.writer is not None:
            self.writer.close()


def drop_lines_after(file: Path, epoch: int) -> None:
    """Keep the lines of log.txt up to an epoch; a line that was cut off by a crash goes too."""
    if not file.is_file():
        return
    kept = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["epoch"] <= epoch:
                kept.append(line + "\n")
        except (json.JSONDecodeError, KeyError, TypeError):
            continue
    shortened = file.with_suffix(".tmp")
    shortened.write_text("".join(kept), encoding="utf-8")
    shortened.replace(file)


def peak_memory(device: torch.device) -> float:
    """Largest memory in use so far, in GB: the GPU's, or this process's on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes * 1024 / 1e9
