"""One epoch of pre-training."""

import time
from argparse import Namespace
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import profile

from hivit_mae.cluster.distributed import Processes, gathered, largest, total
from hivit_mae.cluster.preemption import Preempted, Preemption
from hivit_mae.cluster.watchdog import Watchdog
from hivit_mae.data.loading import Batch, BatchLoader
from hivit_mae.run.lr_schedule import learning_rate, set_learning_rate
from hivit_mae.run.nonfinite import NonFiniteGuard, NonFiniteLossError
from hivit_mae.run.run_log import RunLog
from hivit_mae.run.training_state import TrainingState, save
from hivit_mae.seeds import RANK, derived_seed, masking_noise

AMP_DTYPES = {"off": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
GO_ON, SAVE, STOP = range(3)  # what a process asks of all at the end of a step; the largest wins


@dataclass
class Run:
    """What takes part in training.

    Attributes:
        network: the masked autoencoder of `state`, compiled and in DistributedDataParallel as the options say.
        state: what checkpoints hold.
        loader: deals out the images.
        log: what the run tells.
        processes: this process and the others.
        guard: skips steps whose loss is not finite.
        watchdog: ends all if one hangs.
        preemption: signals that ask the run to stop.
        args: the options, with `lr` set and `amp` resolved.
        trace: records a few steps, with --profile.
        last_save: when the state was saved last, on the clock of `time.monotonic`.

    """

    network: nn.Module
    state: TrainingState
    loader: BatchLoader
    log: RunLog
    processes: Processes
    guard: NonFiniteGuard
    watchdog: Watchdog
    preemption: Preemption
    args: Namespace
    trace: profile | None = None
    last_save: float = field(default_factory=time.monotonic)

    def save(self) -> None:
        """Write a checkpoint, in the main process; where that fails, say so and go on with what there is."""
        self.last_save = time.monotonic()
        if not self.processes.is_main:
            return
        with self.watchdog.busy("saving a checkpoint"):
            try:
                save(Path(self.args.output_dir), self.state, self.args)
            except OSError as error:
                self.log.say(
                    f"warning: no checkpoint could be written to {self.args.output_dir} ({error.strerror or error}); "
                    "earlier ones stay, and training goes on"
                )


def optimizer_step(
    run: Run, batches: Iterator[tuple[int, Batch]], epoch: int, step: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """One step of the optimizer, over `accum_iter` batches; returns its loss and the norm of its gradient, scalars."""
    args, optimizer, scaler, device = run.args, run.state.optimizer, run.state.scaler, run.processes.device
    patches = (args.input_size // 16) ** 2
    torch.manual_seed(derived_seed(RANK, args.seed, epoch, step, run.processes.rank))
    step_loss = torch.zeros((), device=device)
    for iteration in range(args.accum_iter):
        run.watchdog.beat("loading data")
        number, batch = next(batches)
        run.watchdog.beat("training")
        run.guard.note_images(step, batch.indices)
        noise = masking_noise(
            args.seed, epoch, number, len(batch.images), patches, run.processes.rank, run.processes.world_size, device
        )
        with reduced_when(iteration == args.accum_iter - 1, run.network):
            with torch.autocast(device.type, AMP_DTYPES[args.amp], enabled=args.amp != "off"):
                loss, _, _ = run.network(batch.images, args.mask_ratio, noise)
            scaler.scale(loss / args.accum_iter).backward()
        step_loss += loss.detach() / args.accum_iter
    scaler.unscale_(optimizer)
    grad_norm = clip_gradients(run.state.model.parameters(), args.clip_grad)
    run.guard.judge(step, step_loss, grad_norm, optimizer)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
    return step_loss, grad_norm


def train_one_epoch(run: Run) -> tuple[float, float]:
    """Train on what is left of the current epoch: on every image once, but for those of an incomplete last step.

    Returns:
        The mean loss over all processes and the whole epoch, and the last learning rate.

    Raises:
        NonFiniteLossError: if the loss was not finite in `args.max_nonfinite` steps in a row; known at the next line of
            the log.
        Preempted: after a signal; the state is then saved.

    """
    args, processes, progress = run.args, run.processes, run.state.progress
    epoch, first_step = progress.epoch, progress.step
    steps = run.loader.batches_per_epoch // args.accum_iter
    run.network.train()
    run.log.start_epoch(epoch, first_step)
    # of the epoch: [sum of finite losses, their number]; stays on the device
    sums = torch.tensor(own_sums(run), device=processes.device)
    last_sums = total(sums)

    first_batch = first_step * args.accum_iter
    batches = enumerate(run.loader.batches(epoch, first_batch), start=first_batch)
    for step in range(first_step, steps):
        lr = rate_of_step(run, epoch, step)
        set_learning_rate(run.state.optimizer, lr)
        # the first of all may take minutes, to compile
        with run.watchdog.busy("the first step") if run.log.steps_done == 0 else nullcontext():
            loss, grad_norm = optimizer_step(run, batches, epoch, step)
        sums += torch.stack([torch.where(loss.isfinite(), loss, 0), loss.isfinite()])
        if run.trace is not None:
            run.trace.step()

        run.loader.dataset.report_bad()
        is_time = args.save_minutes and time.monotonic() - run.last_save > 60 * args.save_minutes
        asked = STOP if run.preemption.received else SAVE if is_time and processes.is_main else GO_ON
        agreed = largest(asked, processes)
        if run.log.step(step) or agreed != GO_ON:
            all_sums = total(sums)
            check_guard(run)
            loss_value, count = (all_sums - last_sums).tolist()
            loss_value = loss_value / count if count else float("nan")
            seconds_waited = run.loader.seconds_waited
            run.log.line(epoch, step, loss_value, lr, float(grad_norm), seconds_waited, progress.skipped)
            last_sums = all_sums
        if agreed != GO_ON:
            keep_state(run, step + 1, sums)
        if agreed == STOP:
            reason = max(gathered(run.preemption.received, processes))
            raise Preempted(f"{reason} came: stopped after step {step + 1}/{steps} of epoch {epoch + 1}")

    loss_sum, count = total(sums).tolist()
    progress.epoch, progress.step, progress.loss_sums = epoch + 1, 0, []
    return loss_sum / count if count else float("nan"), rate_of_step(run, epoch, steps - 1)


def rate_of_step(run: Run, epoch: int, step: int) -> float:
    """The learning rate of a step of an epoch, both counted from 0."""
    args = run.args
    return learning_rate(
        epoch + step * args.accum_iter / run.loader.batches_per_epoch,
        lr=args.lr * run.state.progress.lr_factor,
        min_lr=args.min_lr,
        warmup_epochs=args.warmup_epochs,
        epochs=args.epochs,
    )


def own_sums(run: Run) -> list[float]:
    """This process's share of the sums of the epoch so far: [sum of losses, their number]."""
    found = run.state.progress.loss_sums
    if len(found) == run.processes.world_size:
        return list(found[run.processes.rank])
    # another number of processes than when this was saved
    return [sum(sums[i] for sums in found) / run.processes.world_size for i in range(2)]


def keep_state(run: Run, step: int, sums: torch.Tensor) -> None:
    """Save the state after some steps of the current epoch; all processes call this, the main one writes."""
    progress = run.state.progress
    progress.step, progress.loss_sums = step, gathered(sums.tolist(), run.processes)
    progress.images_a_step = run.args.batch_size * run.args.accum_iter * run.processes.world_size
    run.save()


def check_guard(run: Run) -> None:
    """Count the steps that were skipped since the run began.

    Raises:
        NonFiniteLossError: if there were too many in a row.

    """
    most, run.state.progress.skipped, images = run.guard.read()
    if largest(most, run.processes) >= run.args.max_nonfinite:
        names = [run.loader.dataset.name(index) for index in images]
        named = [name for names in gathered(names, run.processes) for name in names]
        raise NonFiniteLossError(f"the loss was not finite in {run.args.max_nonfinite} steps in a row", named)


def reduced_when(is_last: bool, network: nn.Module) -> AbstractContextManager:
    """Average the gradients over the processes after the last of the batches that are accumulated, not after each."""
    if is_last or not isinstance(network, DistributedDataParallel):
        return nullcontext()
    return network.no_sync()


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float | None) -> torch.Tensor:
    """Scale the gradients down to a norm of at most `max_norm`, if given; returns the norm that they had."""
    parameters = [p for p in parameters if p.grad is not None]
    norm = nn.utils.get_total_norm([p.grad for p in parameters])
    if max_norm is not None:
        nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    return norm
