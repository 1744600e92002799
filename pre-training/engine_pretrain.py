"""One epoch of pre-training."""

import math
from argparse import Namespace
from collections.abc import Iterable

import torch
from torch import nn
from torch.utils.data import DataLoader

from util.distributed import Processes, mean
from util.lr_schedule import learning_rate, set_learning_rate
from util.run_log import RunLog
from util.seeds import masking_noise

AMP_DTYPES = {"off": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class NonFiniteLossError(Exception):
    """The loss became infinite or not a number."""


def train_one_epoch(
    model: nn.Module,
    loader: DataLoader,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    epoch: int,
    run_log: RunLog,
    processes: Processes,
    args: Namespace,
) -> tuple[float, float]:
    """Train on every image once, but for those of an incomplete last step.

    Args:
        model: the masked autoencoder, or DistributedDataParallel around it.
        epoch: counted from 0.
        args: the options, with `lr` set and `amp` resolved.

    Returns:
        The mean loss over all processes, and the last learning rate.

    Raises:
        NonFiniteLossError: at the next line of the log after it happened.

    """
    device = processes.device
    patches = (args.input_size // 16) ** 2
    steps = len(loader) // args.accum_iter
    dtype = AMP_DTYPES[args.amp]
    model.train()
    run_log.start_epoch(epoch)
    total = torch.zeros((), device=device)  # of the epoch's losses; stays on the device
    last_total, last_step = torch.zeros_like(total), -1

    batches = enumerate(loader)
    for step in range(steps):
        progress = epoch + step * args.accum_iter / len(loader)
        lr = learning_rate(
            progress, lr=args.lr, min_lr=args.min_lr, warmup_epochs=args.warmup_epochs, epochs=args.epochs
        )
        set_learning_rate(optimizer, lr)

        for _ in range(args.accum_iter):
            number, images = next(batches)
            images = images.to(device, non_blocking=True)
            noise = masking_noise(
                args.seed, epoch, number, len(images), patches, processes.rank, processes.world_size, device
            )
            with torch.autocast(device.type, dtype, enabled=args.amp != "off"):
                loss, _, _ = model(images, args.mask_ratio, noise)
            scaler.scale(loss / args.accum_iter).backward()
            total += loss.detach() / args.accum_iter
        scaler.unscale_(optimizer)
        grad_norm = clip_gradients(model.parameters(), args.clip_grad)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()

        loader.dataset.report_bad()
        if run_log.step(step):
            loss_value = mean((total - last_total) / (step - last_step))
            raise_if_not_finite(loss_value, epoch)
            run_log.line(epoch, step, loss_value, lr, float(grad_norm))
            last_total, last_step = total.clone(), step

    epoch_loss = mean(total / steps)
    raise_if_not_finite(epoch_loss, epoch)
    return epoch_loss, lr


def raise_if_not_finite(loss: float, epoch: int) -> None:
    """Stop before a broken model is saved."""
    if not math.isfinite(loss):
        raise NonFiniteLossError(f"the loss is {loss} in epoch {epoch + 1}")


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float | None) -> torch.Tensor:
    """Scale the gradients down to a norm of at most `max_norm`, if given; returns the norm that they had."""
    parameters = [p for p in parameters if p.grad is not None]
    norm = nn.utils.get_total_norm([p.grad for p in parameters])
    if max_norm is not None:
        nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    return norm
