"""Pre-train a HiViT masked autoencoder on SAR images.

On one GPU, or on the CPU where there is none:
    python main_pretrain.py --data_path DIR --output_dir DIR --batch_size 100
On 8 GPUs:
    torchrun --nproc_per_node 8 main_pretrain.py --data_path DIR --output_dir DIR --batch_size 100 --epochs 800
On two machines, restarted up to three times after a failure:
    TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 torchrun --nnodes 2 --nproc_per_node 8 --max-restarts 3 \
        --rdzv_backend c10d --rdzv_endpoint HOST:29400 main_pretrain.py --resume auto ...
Under Slurm:
    sbatch --nodes 2 --gpus-per-node 8 --ntasks-per-node 8 slurm_pretrain.sh --data_path DIR --output_dir DIR ...
After a crash, the same command with:
    --resume auto
"""

import sys
from argparse import Namespace
from contextlib import suppress
from pathlib import Path

import torch
from timm.optim import param_groups_weight_decay
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from hivit_mae.cluster import distributed
from hivit_mae.cluster.distributed import Processes
from hivit_mae.cluster.host_memory import keep_freed_memory
from hivit_mae.cluster.preemption import EXIT_CODE, Preempted, Preemption
from hivit_mae.cluster.watchdog import Watchdog, end, first_line
from hivit_mae.data.loading import BatchLoader, open_images
from hivit_mae.data.shards import count_images, find_shards
from hivit_mae.engine_pretrain import Run, train_one_epoch
from hivit_mae.models.models_hivit_mae import MODELS, HiViTMaskedAutoencoder
from hivit_mae.run import panel, training_state
from hivit_mae.run.nonfinite import NonFiniteGuard, NonFiniteLossError
from hivit_mae.run.options import parse_options
from hivit_mae.run.precision import allow_tf32, compiled, resolve_amp, resolve_compile
from hivit_mae.run.profiling import traced
from hivit_mae.run.run_log import RunLog
from hivit_mae.run.training_state import Progress, TrainingState
from saratrx.checkpoint import load_encoder
from saratrx.errors import InputError, exit_on_input_error

NEW_IN_PRETRAINING = ("decoder_", "mask_token", "norm.", "sarfeature")  # may be missing in --init_weights
PANEL_IMAGES = 6
NAMED_AT_MOST = 10  # images of a batch whose loss was not finite; all are in a file


def main(args: Namespace) -> None:
    """Run pre-training as the options say."""
    processes = distributed.meet(args)
    watchdog = Watchdog(processes.store, processes.rank, processes.world_size, args.hang_seconds)
    stopped: Preempted | None = None
    try:
        with watchdog.busy("connecting"):
            processes = distributed.connect(processes)
        pretrain(args, processes, watchdog)
    except Preempted as error:
        stopped = error
    except NonFiniteLossError:
        if processes.is_main:  # which tells for all
            raise
        sys.exit(1)
    except RuntimeError as error:
        if distributed.is_lost_connection(error):
            end(f"another process has ended or cannot be reached ({first_line(error)})")
        raise
    watchdog.close()  # not after an error: the others have to learn that this process is gone
    distributed.stop()
    if stopped:
        raise stopped


def pretrain(args: Namespace, processes: Processes, watchdog: Watchdog) -> None:
    """Train from the beginning, or from a checkpoint, to the last epoch."""
    device, output_dir = processes.device, Path(args.output_dir)
    args.amp, why_amp = resolve_amp(args.amp, device)
    args.compile, why_compile = resolve_compile(args.compile, device)
    allow_tf32()
    keep_freed_memory()
    for folder in (output_dir, Path(args.log_dir)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder} cannot be made: {error.strerror}; choose another --output_dir") from error

    with watchdog.busy("opening the images"):
        shards = find_shards(args.data_path, args.cache)
        counts = distributed.decided_by_main(lambda: count_images(shards, output_dir), processes) if shards else None
        dataset = open_images(args, processes, counts)
    loader = BatchLoader(dataset, args, processes)
    effective_batch = args.batch_size * args.accum_iter * processes.world_size
    if loader.batches_per_epoch < args.accum_iter:
        raise InputError(
            f"--batch_size: an effective batch of {effective_batch} is larger than the {len(dataset)} images"
        )
    if args.lr is None:
        args.lr = args.blr * effective_batch / 256

    with watchdog.busy("making the model"):
        state = new_state(args, device)
        source = last_state(args) if processes.restarts else args.resume
        resumed = training_state.resume(source, output_dir, state, processes)
        if resumed is None:
            begin(state, args)
        network = wrap(state.model, args, processes)
    if resumed is not None:
        state.progress.count_in(effective_batch)
        print(f"continuing {resumed} after {state.progress}", flush=True)

    steps = loader.batches_per_epoch // args.accum_iter
    print(
        f"{args.model}, {sum(p.numel() for p in state.model.parameters() if p.requires_grad) / 1e6:.1f} M parameters, "
        f"{len(dataset)} images, {steps} steps an epoch of {effective_batch} images, lr {args.lr:.2e}, "
        f"{processes.world_size} x {device}, mixed precision {args.amp} ({why_amp}), "
        f"{'compiled' if args.compile else 'not compiled'} ({why_compile})",
        flush=True,
    )
    panel_images = panel.fixed_images(dataset, PANEL_IMAGES) if processes.is_main and args.image_every else None

    preemption, trace_folder = Preemption(), args.log_dir if args.profile else None
    with preemption.watched(), traced(trace_folder, processes.rank, device) as trace:
        while True:
            log = RunLog(args, processes, steps, state.progress.epoch, state.progress.step)
            guard = NonFiniteGuard(device, state.scaler.is_enabled(), state.progress.skipped)
            run = Run(network, state, loader, log, processes, guard, watchdog, preemption, args, trace)
            try:
                train(run, panel_images)
                return
            except NonFiniteLossError as error:
                with watchdog.busy("going back"):
                    go_back(error, run)
            finally:
                log.close()


def train(run: Run, panel_images: torch.Tensor | None) -> None:
    """The epochs that are left."""
    args, state, log, output_dir = run.args, run.state, run.log, Path(run.args.output_dir)
    dataset = run.loader.dataset
    while state.progress.epoch < args.epochs:
        loss, lr = train_one_epoch(run)
        distributed.union(dataset.bad, run.processes.device)
        dataset.report_bad()

        done = state.progress.epoch
        is_last = done == args.epochs
        log.end_epoch(done - 1, lr, loss)
        if done % args.save_every == 0 or is_last:
            run.save()
        if panel_images is not None and (done % args.image_every == 0 or is_last):
            with run.watchdog.busy("drawing the panel"):
                figure = panel.draw(state.model, panel_images, args.mask_ratio)
                path = output_dir / f"reconstruction-{done}.png"
                try:
                    figure.savefig(path, dpi=80)
                except OSError as error:
                    print(f"warning: {path} cannot be written: {error.strerror}; training goes on", flush=True)
                log.tensorboard(lambda writer, figure=figure, step=done * 1000: writer.add_figure(
                    "reconstruction", figure, step
                ))  # fmt: skip
        last = output_dir / f"checkpoint-{done}.pth"
        if is_last and not distributed.decided_by_main(last.exists, run.processes):
            raise InputError(f"{last} could not be written: make space and go on with --resume auto")


def go_back(error: NonFiniteLossError, run: Run) -> None:
    """Put the last checkpoint back, or the beginning where there is none, and go on with half the learning rate.

    Raises:
        NonFiniteLossError: if that was done before.

    """
    args, state, output_dir = run.args, run.state, Path(run.args.output_dir)
    if state.progress.lr_factor < 1:
        raise NonFiniteLossError(
            f"{error}, also after going back to the last checkpoint with half the learning rate", error.images
        )
    skipped = state.progress.skipped
    resumed = training_state.resume(last_state(args), output_dir, state, run.processes)
    if resumed is None:
        begin(state, args)
    state.progress.count_in(run.log.images_per_step)
    state.progress.lr_factor, state.progress.skipped = 0.5, skipped
    print(f"{error}: going back to {resumed or 'the beginning'} with half the learning rate", flush=True)


def last_state(args: Namespace) -> str:
    """Where a run goes on that has begun: as --resume says it."""
    return "auto" if training_state.checkpoints(Path(args.output_dir)) else args.resume


def new_model(args: Namespace) -> HiViTMaskedAutoencoder:
    """The model with random weights, which follow from the seed."""
    torch.manual_seed(args.seed)
    return MODELS[args.model](img_size=args.input_size, norm_pix_loss=args.norm_pix_loss)


def new_state(args: Namespace, device: torch.device) -> TrainingState:
    """The model with random weights, its optimizer and scaler."""
    model = new_model(args).to(device)
    parameter_groups = param_groups_weight_decay(model, args.weight_decay)
    optimizer = torch.optim.AdamW(parameter_groups, lr=args.lr, betas=(0.9, 0.95), fused=True)
    scaler = torch.amp.GradScaler(device.type, enabled=args.amp == "fp16")
    return TrainingState(model, optimizer, scaler, Progress())


def begin(state: TrainingState, args: Namespace) -> None:
    """Bring the state to the beginning of a run: weights of the seed or of --init_weights, a new optimizer."""
    state.model.load_state_dict(new_model(args).state_dict())
    if args.init_weights:
        load_encoder(state.model, args.init_weights, missing_ok=NEW_IN_PRETRAINING)
    state.optimizer.state.clear()
    state.progress.__dict__.update(vars(Progress(epoch=args.start_epoch)))


def wrap(model: nn.Module, args: Namespace, processes: Processes) -> nn.Module:
    """The model as it is called in training: compiled, and averaging its gradients over the processes."""
    network = compiled(model) if args.compile else model
    if processes.world_size == 1:
        return network
    network = DistributedDataParallel(
        network,
        device_ids=None if processes.device.type == "cpu" else [processes.device],
        broadcast_buffers=False,  # they are constant
        static_graph=args.accum_iter == 1,  # PyTorch fails where the first batch is accumulated without averaging
        gradient_as_bucket_view=True,
        bucket_cap_mb=args.bucket_mb,
    )
    if args.grad_reduce == "bf16":
        network.register_comm_hook(None, bf16_compress_hook)
    return network


def explain(error: NonFiniteLossError, args: Namespace) -> str:
    """What went wrong and what to do, with the images; all of them go to a file."""
    listed = Path(args.output_dir) / "nonfinite-images.txt"
    with suppress(OSError):  # a full disk is not what this is about
        listed.write_text("\n".join(error.images) + "\n", encoding="utf-8")
    more = f" and {len(error.images) - NAMED_AT_MOST} more" if len(error.images) > NAMED_AT_MOST else ""
    return (
        f"{error}; the images of the last such batch are {', '.join(error.images[:NAMED_AT_MOST])}{more} (all in "
        f"{listed}): look at them, or go on with --resume auto and a lower --lr; all checkpoints are whole"
    )


if __name__ == "__main__":
    options = None
    with exit_on_input_error():
        try:
            options = parse_options()
            main(options)
        except Preempted as stop:
            print(f"{stop}; go on with --resume auto", flush=True)
            sys.exit(EXIT_CODE)
        except NonFiniteLossError as error:
            print(f"error: {explain(error, options)}", file=sys.stderr)
            sys.exit(1)
