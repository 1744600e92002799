"""What a run does, from its options to its last checkpoint."""

import math
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import torch

from hivit_mae.cluster import distributed
from hivit_mae.cluster.distributed import Processes, broadcast_from_main
from hivit_mae.cluster.host_memory import keep_freed_memory
from hivit_mae.cluster.preemption import Preempted, Preemption
from hivit_mae.cluster.watchdog import Watchdog
from hivit_mae.data.loading import BatchLoader, open_images
from hivit_mae.engine_pretrain import Run, train_one_epoch
from hivit_mae.run import panel
from hivit_mae.run.begin import begin, new_state, wrap
from hivit_mae.run.evaluation import Evaluation, open_evaluation
from hivit_mae.run.nonfinite import NonFiniteGuard, NonFiniteLossError
from hivit_mae.run.options import Options, OutputOptions
from hivit_mae.run.precision import allow_tf32, attention_of
from hivit_mae.run.profiling import traced
from hivit_mae.run.resolved import recorded, resolve
from hivit_mae.run.run_log import RunLog
from hivit_mae.run.training_state import Checkpoints
from saratrx.errors import InputError, first_line
from saratrx.files import try_writing, write_text
from saratrx.loader_workers import lost_workers_named
from saratrx.output_folder import claimed
from saratrx.reporting import get_logger

log = get_logger("main_pretrain")

PANEL_IMAGES = 6
NAMED_AT_MOST = 10  # images of a batch whose loss was not finite; all are in a file


def main(options: Options) -> int:
    """Pre-train as the options say; returns the exit code of the command.

    Raises:
        InputError: for what the user can fix.

    """
    try:
        run(options)
    except Preempted as stop:
        log.info(f"{stop}; go on with --resume auto")
        return stop.code
    except NonFiniteLossError as error:
        print(f"error: {explain(error, options.output.folder)}", file=sys.stderr)
        return 1
    return 0


def run(options: Options) -> None:
    """Connect the processes, and train.

    Raises:
        Preempted: after a signal; the state is then saved.
        NonFiniteLossError: where the loss stays so.

    """
    machine = options.machine
    processes = distributed.rendezvous(machine.device, dist_url=machine.dist_url, is_openmpi=machine.dist_on_itp)
    watchdog = Watchdog(processes.store, processes.rank, processes.world_size, machine.hang_seconds)
    stopped: Preempted | None = None
    try:
        with watchdog.busy("connecting"):
            processes = distributed.connect(processes)
        with lost_workers_named("--num_workers 0"):
            pretrain(options, processes, watchdog)
    except Preempted as error:
        stopped = error.with_traceback(None)  # which would keep the model
    except NonFiniteLossError:
        if processes.is_main:  # which tells for all
            raise
        sys.exit(1)
    except RuntimeError as error:
        if distributed.is_lost_connection(error):
            watchdog.end_after_lost_connection(error)
        raise
    watchdog.close()  # not after an error: the others have to learn that this process is gone
    del processes  # it has a group
    distributed.leave()
    if stopped:
        raise stopped


def pretrain(options: Options, processes: Processes, watchdog: Watchdog) -> None:
    """Train in the output folder, which no other run may use meanwhile."""
    with ExitStack() as held:
        broadcast_from_main(partial(hold_folders, held, options.output), processes)
        train_to_the_end(options, processes, watchdog)


def hold_folders(held: ExitStack, output: OutputOptions) -> None:
    """Make the folders that the run writes to, try them, and keep a second run out.

    Raises:
        InputError: if one cannot be written to, or another run writes there.

    """
    held.enter_context(claimed(output.folder, "--output_dir"))
    if output.log_dir:
        try_writing(output.log_dir, "--log_dir")


def train_to_the_end(options: Options, processes: Processes, watchdog: Watchdog) -> None:
    """Train from the beginning, or from a checkpoint, to the last epoch, in folders that are held."""
    model_options, optimisation, output = options.model, options.optimisation, options.output
    resolved = resolve(options, processes)
    if resolved.asked_in_vain:
        log.warning(f"--compile: {resolved.why_compile}; training goes on without compilation")
    allow_tf32()
    keep_freed_memory()

    eval_every = options.evaluation.eval_every if options.evaluation.eval_data else 0
    with watchdog.busy("opening the images"):
        evaluation = open_in_main(options, processes) if eval_every else None
        source = open_images(
            options.data,
            processes,
            input_size=model_options.input_size,
            batch_size=optimisation.batch_size,
            seed=optimisation.seed,
            sizes_folder=output.folder,
        )
    loader = BatchLoader(
        source, processes, optimisation.batch_size, options.data.num_workers, pin_memory=options.data.pin_mem
    )
    if loader.batches_per_epoch < optimisation.accum_iter:
        raise InputError(
            f"--batch_size: an effective batch of {resolved.images_per_step} is larger than the {len(source)} images"
        )

    checkpoints = Checkpoints(
        output.folder, output.keep, optimisation.epochs, recorded(options, resolved), source.identity
    )
    with watchdog.busy("making the model"):
        state = new_state(
            model_options,
            optimisation.seed,
            lr=resolved.lr,
            weight_decay=optimisation.weight_decay,
            amp=resolved.amp,
            device=processes.device,
        )
        start_again = partial(begin, state, model_options, optimisation.seed, output.start_epoch)
        resume = "auto" if processes.restarts and checkpoints.to_continue_from() else output.resume
        resumed = checkpoints.restore(resume, state, processes)
        if resumed is None:
            start_again()
        network = wrap(
            state.model,
            processes,
            is_compiled=resolved.compile,
            compile_mode=options.machine.compile_mode,
            is_accumulating=optimisation.accum_iter > 1,
            grad_reduce=options.machine.grad_reduce,
            bucket_mb=options.machine.bucket_mb,
        )
    if resumed is not None:
        state.progress.count_in(resolved.images_per_step)
        log.info(f"continuing {resumed} after {state.progress}")

    steps = loader.batches_per_epoch // optimisation.accum_iter
    log.info(
        f"{model_options.model}, target {model_options.target}, "
        f"{sum(p.numel() for p in state.model.parameters() if p.requires_grad) / 1e6:.1f} M parameters, "
        f"{len(source)} images, {options.data.reading}, {steps} steps an epoch of "
        f"{resolved.images_per_step} images, lr {resolved.lr:.2e}, "
        f"{processes.world_size} x {processes.device}, mixed precision {resolved.amp} ({resolved.why_amp}), "
        f"{'compiled' if resolved.compile else 'not compiled'} ({resolved.why_compile})"
    )
    panel_images = panel.fixed_images(source, PANEL_IMAGES) if processes.is_main and output.image_every else None

    preemption, trace_folder = Preemption(), output.log_folder if options.machine.profile else None
    with (
        preemption.watched(),
        attention_of(options.machine.compile_mode),
        traced(trace_folder, processes.rank, processes.device) as trace,
    ):
        while True:
            run_log = RunLog(
                output.folder,
                output.log_folder,
                processes,
                epochs=optimisation.epochs,
                steps=steps,
                images_per_step=resolved.images_per_step,
                start_epoch=state.progress.epoch,
                start_step=state.progress.step,
            )
            run = Run(
                network=network,
                state=state,
                loader=loader,
                optimisation=optimisation,
                lr=resolved.lr,
                amp=resolved.amp,
                mask_ratio=model_options.mask_ratio,
                patches=(model_options.input_size // 16) ** 2,
                images_per_step=resolved.images_per_step,
                checkpoints=checkpoints,
                save_minutes=output.save_minutes,
                log=run_log,
                processes=processes,
                guard=NonFiniteGuard(processes.device, state.scaler.is_enabled(), state.progress.skipped),
                watchdog=watchdog,
                preemption=preemption,
                trace=trace,
            )
            try:
                train(
                    run,
                    panel_images,
                    evaluation,
                    save_every=output.save_every,
                    image_every=output.image_every,
                    eval_every=eval_every,
                )
            except NonFiniteLossError as error:
                with watchdog.busy("going back"):
                    go_back(error, run, output.resume, start_again)
            else:
                refuse_mostly_skipped(run)  # not to be mended by going back: the run is over
                best = state.progress.best
                log.info(
                    f"wrote {checkpoints.of_epoch(optimisation.epochs)}"
                    + (f", best probe {best['probe']:.2f}% after epoch {best['epoch']}" if best else "")
                    + "; next: give it to classification as MODEL.INIT_WEIGHTS, or to detection as --init-weights"
                )
                return
            finally:
                run_log.close()


def open_in_main(options: Options, processes: Processes) -> Evaluation | None:
    """Read the images of --eval_data in the main process, which alone evaluates; the others get None."""
    opened: list[Evaluation] = []
    broadcast_from_main(
        lambda: opened.append(open_evaluation(options.evaluation, options.model.input_size, options.data.reading)),
        processes,
    )
    return opened[0] if opened else None


def train(
    run: Run,
    panel_images: torch.Tensor | None,
    evaluation: Evaluation | None,
    *,
    save_every: int,
    image_every: int,
    eval_every: int,
) -> None:
    """Train the epochs that are left, with a checkpoint, a panel and an evaluation every so many."""
    progress, source, epochs = run.state.progress, run.loader.source, run.optimisation.epochs
    while progress.epoch < epochs:
        loss, lr = train_one_epoch(run)
        distributed.all_reduce_any(source.bad, run.processes.device)
        source.check_bad()

        done = progress.epoch + 1
        is_last = done == epochs
        figures = run.state.model.decoder_target.figures()
        measured = evaluate(run, evaluation) if eval_every and (done % eval_every == 0 or is_last) else {}
        told = evaluation.told(measured) if evaluation and measured else ""
        progress.end_epoch()
        run.log.end_epoch(done - 1, lr, loss, figures | measured, told)
        if evaluation and measured:
            keep_best(run, measured["eval/probe"], evaluation.identity)
        if done % save_every == 0 or is_last:
            run.save()
        if panel_images is not None and (done % image_every == 0 or is_last):
            with run.watchdog.busy("drawing the panel"):
                write_panel(run, panel_images, done)
        last = run.checkpoints.of_epoch(done)
        if is_last and not distributed.broadcast_from_main(last.exists, run.processes):
            raise InputError(f"{last} could not be written: make space and go on with --resume auto")


def refuse_mostly_skipped(run: Run) -> None:
    """Refuse to call a run done that skipped more than half of its steps.

    Raises:
        NonFiniteLossError: saying how many.

    """
    skipped, steps = run.state.progress.skipped, run.optimisation.epochs * run.steps_per_epoch
    if 2 * skipped > steps:
        raise NonFiniteLossError(f"{skipped} of {steps} steps were skipped, since their loss was not finite", [])


def evaluate(run: Run, evaluation: Evaluation | None) -> dict[str, float]:
    """Measure the encoder in the main process, which has the images, while the others wait.

    Raises:
        NonFiniteLossError: if weights are not finite.
        Preempted: after a signal; the state is then saved, and the evaluation is done when the run goes on.

    """
    run.refuse_nonfinite_weights()
    measure: Callable[[], dict[str, float] | None] = dict  # where the others do not call it
    if evaluation:
        measure = partial(evaluation.measure, run.state.model, run.amp, lambda: bool(run.preemption.received))
    with run.watchdog.busy("evaluating"):
        figures = broadcast_from_main(measure, run.processes)
    if figures is None:
        run.save()
        reason = max(distributed.all_gather(run.preemption.received, run.processes))
        raise Preempted(f"{reason} came: stopped in the evaluation of epoch {run.state.progress.epoch + 1}", reason)
    return figures


def keep_best(run: Run, probe: float, images: str) -> None:
    """Keep the state of the main process if its probe's accuracy is the best so far on these images."""
    progress, before = run.state.progress, run.state.progress.best
    if math.isnan(probe) or (before.get("images") == images and probe <= before["probe"]):
        return
    progress.best = {"probe": probe, "epoch": progress.epoch, "images": images}
    if run.write(run.checkpoints.save_best):
        run.log.say(f"{run.checkpoints.best}: the best probe so far, {probe:.2f}% after epoch {progress.epoch}")
    else:
        progress.best = before


def write_panel(run: Run, images: torch.Tensor, epoch: int) -> None:
    """Draw the reconstruction panel as a PNG file and for TensorBoard."""
    figure = panel.draw(run.state.model, images, run.mask_ratio)
    path = run.checkpoints.folder / f"reconstruction-{epoch}.png"
    try:
        panel.write(figure, path)
    except OSError as error:
        log.warning(f"{path} cannot be written: {first_line(error)}; training goes on")
    run.log.tensorboard(lambda writer: writer.add_figure("reconstruction", figure, epoch * 1000))


def go_back(error: NonFiniteLossError, run: Run, resume: str, start_again: Callable[[], None]) -> None:
    """Put the last checkpoint back, or the beginning where there is none, and go on with half the learning rate.

    Args:
        error: what ended the run so far.
        run: the run.
        resume: --resume, which counts where the run has no checkpoint of its own.
        start_again: brings the state to the beginning.

    Raises:
        NonFiniteLossError: if that was done before.

    """
    state = run.state
    if state.progress.lr_factor < 1:
        raise NonFiniteLossError(
            f"{error}, also after going back to the last checkpoint with half the learning rate", error.images
        )
    skipped, best = state.progress.skipped, state.progress.best
    resumed = run.checkpoints.restore("auto" if run.checkpoints.to_continue_from() else resume, state, run.processes)
    if resumed is None:
        start_again()
    state.progress.count_in(run.images_per_step)
    state.progress.lr_factor, state.progress.skipped, state.progress.best = 0.5, skipped, best
    log.info(f"{error}: going back to {resumed or 'the beginning'} with half the learning rate")


def explain(error: NonFiniteLossError, folder: Path) -> str:
    """Say what went wrong and what to do, with the images; all of them go to a file in `folder`."""
    if not error.images:
        return f"{error}; start again, or go on with --resume auto, with a lower --lr; all checkpoints are whole"
    listed = folder / "nonfinite-images.txt"
    with suppress(OSError):  # a full disk is not what this is about
        write_text(listed, "\n".join(error.images) + "\n")
    more = f" and {len(error.images) - NAMED_AT_MOST} more" if len(error.images) > NAMED_AT_MOST else ""
    return (
        f"{error}; the images of the last such batch are {', '.join(error.images[:NAMED_AT_MOST])}{more} (all in "
        f"{listed}): look at them, or go on with --resume auto and a lower --lr; all checkpoints are whole"
    )
