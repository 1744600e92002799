"""One epoch of pre-training."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import profile

from hivit_mae.cluster.distributed import Agreement, Processes, all_gather, all_reduce_max, all_reduce_sum
from hivit_mae.cluster.preemption import Preempted, Preemption
from hivit_mae.cluster.watchdog import Watchdog
from hivit_mae.data.loading import Batch, BatchLoader
from hivit_mae.run.lr_schedule import learning_rate, set_learning_rate
from hivit_mae.run.nonfinite import NonFiniteGuard, NonFiniteLossError
from hivit_mae.run.options import OptimisationOptions
from hivit_mae.run.precision import AMP_DTYPES
from hivit_mae.run.run_log import RunLog
from hivit_mae.run.training_state import Checkpoints, TrainingState
from hivit_mae.seeds import RANK, masking_noise
from saratrx.errors import first_line
from saratrx.seeds import derived_seed

GO_ON, SAVE, STOP = range(3)  # what a process asks of all at the end of a step; the largest wins


@dataclass
class Run:
    """What takes part in training.

    Attributes:
        network: the masked autoencoder of `state`, compiled and in DistributedDataParallel as the options say.
        state: what checkpoints hold.
        loader: deals out the images.
        optimisation: how it is trained.
        lr: learning rate after warm-up.
        amp: precision, a key of `AMP_DTYPES`.
        mask_ratio: share of removed patches.
        patches: of an image.
        images_per_step: of all processes.
        checkpoints: where the state is written.
        save_minutes: between states saved in the middle of an epoch (0: none).
        log: what the run tells.
        processes: this process and the others.
        guard: skips steps whose loss is not finite.
        watchdog: ends all if one hangs.
        preemption: signals that ask the run to stop.
        trace: records a few steps, with --profile.
        last_save: when the state was saved last, on the clock of `time.monotonic`.

    """

    network: nn.Module
    state: TrainingState
    loader: BatchLoader
    optimisation: OptimisationOptions
    lr: float
    amp: str
    mask_ratio: float
    patches: int
    images_per_step: int
    checkpoints: Checkpoints
    save_minutes: float
    log: RunLog
    processes: Processes
    guard: NonFiniteGuard
    watchdog: Watchdog
    preemption: Preemption
    trace: profile | None = None
    last_save: float = field(default_factory=time.monotonic)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps per epoch; batches that do not fill one are left out."""
        return self.loader.batches_per_epoch // self.optimisation.accum_iter

    def save(self) -> None:
        """Write a checkpoint, in the main process; where that fails, say so and go on with what there is.

        Raises:
            NonFiniteLossError: if weights are not finite, in all processes; then nothing is written.

        """
        self.last_save = time.monotonic()
        self.refuse_nonfinite_weights()
        if self.processes.is_main:
            self.write(self.checkpoints.save)

    def refuse_nonfinite_weights(self) -> None:
        """Raise NonFiniteLossError if weights are not finite, in all processes."""
        bad = next((name for name, value in self.state.model.named_parameters() if not value.isfinite().all()), None)
        if bad:
            raise NonFiniteLossError(f"the weights are not finite any more, such as {bad}", [])

    def write(self, save: Callable[[TrainingState], None]) -> bool:
        """Write a checkpoint by `save`; where that fails, say so and give False."""
        with self.watchdog.busy("saving a checkpoint"):
            try:
                save(self.state)
            except OSError as error:
                self.log.say(
                    f"warning: no checkpoint could be written to {self.checkpoints.folder} ({first_line(error)}); "
                    "earlier ones stay, and training goes on"
                )
                return False
        return True


def optimizer_step(
    run: Run, batches: Iterator[tuple[int, Batch]], epoch: int, step: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Do one step of the optimizer, over `accum_iter` batches.

    Returns:
        Its loss and the norm of its gradient, scalars on the device.

    """
    optimizer, scaler, device = run.state.optimizer, run.state.scaler, run.processes.device
    rank, world_size = run.processes.rank, run.processes.world_size
    seed, accum_iter = run.optimisation.seed, run.optimisation.accum_iter
    torch.manual_seed(derived_seed(RANK, seed, epoch, step, rank))
    step_loss = torch.zeros((), device=device)
    for iteration in range(accum_iter):
        run.watchdog.beat("loading data")
        number, batch = next(batches)
        run.watchdog.beat("training")
        run.guard.note_images(step, batch.indices)
        noise = masking_noise(seed, epoch, number, len(batch.images), run.patches, rank, world_size, device)
        with reduced_when(iteration == accum_iter - 1, run.network):
            with torch.autocast(device.type, AMP_DTYPES[run.amp], enabled=run.amp != "off"):
                loss, _, _ = run.network(batch.images, run.mask_ratio, noise)
            scaler.scale(loss / accum_iter).backward()
        step_loss += loss.detach() / accum_iter
    scaler.unscale_(optimizer)
    grad_norm = clip_gradients(run.state.model.parameters(), run.optimisation.clip_grad)
    run.guard.judge(step, step_loss, grad_norm, optimizer)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
    return step_loss, grad_norm


def train_one_epoch(run: Run) -> tuple[float, float]:
    """Train on what is left of the current epoch: on every image once, but for those of an incomplete last step.

    The epoch is not counted as done yet: `Progress.end_epoch` does that, after what belongs to its end.

    Returns:
        The mean loss over all processes and the whole epoch, and the last learning rate.

    Raises:
        NonFiniteLossError: if the loss was not finite in `max_nonfinite` steps in a row; known at the next line of the
            log.
        InputError: if too many images are bad; known then too.
        Preempted: after a signal; the state is then saved.

    """
    processes, progress, steps = run.processes, run.state.progress, run.steps_per_epoch
    epoch, first_step = progress.epoch, progress.step
    run.network.train()
    run.log.start_epoch(epoch, first_step)
    # of the epoch: [sum of finite losses, their number]; stays on the device
    sums = torch.tensor(own_sums(run), device=processes.device)
    last_sums = all_reduce_sum(sums)
    agreement = Agreement(processes)

    first_batch = first_step * run.optimisation.accum_iter
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

        is_time = run.save_minutes and time.monotonic() - run.last_save > 60 * run.save_minutes
        asked = STOP if run.preemption.received else SAVE if is_time and processes.is_main else GO_ON
        if asked == SAVE:
            run.last_save = time.monotonic()  # asked for once, although it may be done a step later
        agreed = agreement.after_step(asked, at_once=step + 1 == steps)  # the epoch's end is a place to stop at too
        if run.log.step(step) or agreed != GO_ON:
            run.loader.source.check_bad()
            all_sums = all_reduce_sum(sums)
            check_guard(run)
            loss_value, count = (all_sums - last_sums).tolist()
            loss_value = loss_value / count if count else float("nan")
            seconds_waited = run.loader.seconds_waited
            run.log.line(epoch, step, loss_value, lr, float(grad_norm), seconds_waited, progress.skipped)
            last_sums = all_sums
        if agreed != GO_ON:
            note_place(run, step + 1, sums)
            run.save()  # in all processes; the main one writes
        if agreed == STOP:
            agreement.settle()
            reason = max(all_gather(run.preemption.received, processes))
            raise Preempted(f"{reason} came: stopped after step {step + 1}/{steps} of epoch {epoch + 1}", reason)

    loss_sum, count = all_reduce_sum(sums).tolist()
    note_place(run, steps, sums)
    return loss_sum / count if count else float("nan"), rate_of_step(run, epoch, steps - 1)


def rate_of_step(run: Run, epoch: int, step: int) -> float:
    """Give the learning rate of a step of an epoch, both counted from 0."""
    optimisation = run.optimisation
    return learning_rate(
        epoch + step * optimisation.accum_iter / run.loader.batches_per_epoch,
        lr=run.lr * run.state.progress.lr_factor,
        min_lr=optimisation.min_lr,
        warmup_epochs=optimisation.warmup_epochs,
        epochs=optimisation.epochs,
    )


def own_sums(run: Run) -> list[float]:
    """Give this process's share of the sums of the epoch so far: [sum of losses, their number]."""
    found = run.state.progress.loss_sums
    if len(found) == run.processes.world_size:
        return list(found[run.processes.rank])
    # another number of processes than when this was saved
    return [sum(sums[i] for sums in found) / run.processes.world_size for i in range(2)]


def note_place(run: Run, step: int, sums: torch.Tensor) -> None:
    """Note that some steps of the current epoch are done; all processes call this."""
    progress = run.state.progress
    progress.step, progress.loss_sums = step, all_gather(sums.tolist(), run.processes)
    progress.images_a_step = run.images_per_step


def check_guard(run: Run) -> None:
    """Count the steps that were skipped since the run began.

    Raises:
        NonFiniteLossError: if there were too many in a row.

    """
    most, run.state.progress.skipped, images = run.guard.read()
    limit = run.optimisation.max_nonfinite
    if all_reduce_max(most, run.processes) >= limit:
        names = [run.loader.source.name(index) for index in images]
        named = [name for names in all_gather(names, run.processes) for name in names]
        raise NonFiniteLossError(f"the loss was not finite in {limit} steps in a row", named)


def reduced_when(is_last: bool, network: nn.Module) -> AbstractContextManager[None]:
    """Average the gradients over the processes after the last of the batches that are accumulated, not after each."""
    if is_last or not isinstance(network, DistributedDataParallel):
        return nullcontext()
    return network.no_sync()


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float | None) -> torch.Tensor:
    """Scale the gradients down to a norm of at most `max_norm`, if given; returns the norm that they had."""
    parameters = [p for p in parameters if p.grad is not None]
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if max_norm is not None:
        nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    return norm
