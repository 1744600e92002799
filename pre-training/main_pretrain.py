"""Pre-train a HiViT masked autoencoder on SAR images.

On one GPU, or on the CPU where there is none:
    python main_pretrain.py --data_path DIR --output_dir DIR --batch_size 100
On 8 GPUs:
    torchrun --nproc_per_node 8 main_pretrain.py --data_path DIR --output_dir DIR --batch_size 100 --epochs 800
After a crash, the same command with:
    --resume auto
"""

import os
import sys
from argparse import Namespace
from pathlib import Path

import torch
from timm.optim import param_groups_weight_decay
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

from engine_pretrain import NonFiniteLossError, train_one_epoch
from models.models_hivit_mae import MODELS, HiViTMaskedAutoencoder
from saratrx.checkpoint import load_encoder
from saratrx.errors import InputError, exit_on_input_error
from util import distributed, panel, training_state
from util.datasets import PretrainImages
from util.options import parse_options
from util.run_log import RunLog
from util.seeds import RANK, derived_seed

NEW_IN_PRETRAINING = ("decoder_", "mask_token", "norm.", "sarfeature")  # may be missing in --init_weights
PANEL_IMAGES = 6


def main(args: Namespace) -> None:
    """Run pre-training as the options say."""
    processes = distributed.start(args)
    device, output_dir = processes.device, Path(args.output_dir)
    args.amp = resolve_amp(args.amp, device)
    for folder in (output_dir, Path(args.log_dir)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder} cannot be made: {error.strerror}; choose another --output_dir") from error

    dataset = PretrainImages(args.data_path, args.input_size, args.seed, args.max_bad)
    # DistributedSampler deals the same order out to any number of processes, so one process uses it too
    sampler = DistributedSampler(
        dataset, processes.world_size, processes.rank, shuffle=True, seed=args.seed, drop_last=True
    )
    loader = make_loader(dataset, sampler, args, device)
    effective_batch = args.batch_size * args.accum_iter * processes.world_size
    if len(loader) < args.accum_iter:
        raise InputError(
            f"--batch_size: an effective batch of {effective_batch} is larger than the {len(dataset)} images"
        )
    if args.lr is None:
        args.lr = args.blr * effective_batch / 256

    model, optimizer, scaler, start_epoch = prepare(args, device)
    network = model
    if processes.world_size > 1:
        device_ids = None if device.type == "cpu" else [device]
        network = DistributedDataParallel(model, device_ids=device_ids, broadcast_buffers=False)  # they are constant

    steps = len(loader) // args.accum_iter
    run_log = RunLog(args, processes, steps, start_epoch)
    print(
        f"{args.model}, {sum(p.numel() for p in model.parameters() if p.requires_grad) / 1e6:.1f} M parameters, "
        f"{len(dataset)} images, {steps} steps an epoch of {effective_batch} images, lr {args.lr:.2e}, "
        f"{processes.world_size} x {device}, mixed precision {args.amp}",
        flush=True,
    )
    panel_images = panel.fixed_images(dataset, PANEL_IMAGES) if processes.is_main and args.image_every else None

    for epoch in range(start_epoch, args.epochs):
        sampler.set_epoch(epoch)
        dataset.set_epoch(epoch)
        torch.manual_seed(derived_seed(RANK, args.seed, epoch, processes.rank))
        loss, lr = train_one_epoch(network, loader, optimizer, scaler, epoch, run_log, processes, args)
        distributed.union(dataset.bad, device)
        dataset.report_bad()

        is_last = epoch + 1 == args.epochs
        run_log.end_epoch(epoch, lr, loss)
        if processes.is_main and ((epoch + 1) % args.save_every == 0 or is_last):
            training_state.save(output_dir, epoch + 1, model, optimizer, scaler, args)
        if panel_images is not None and ((epoch + 1) % args.image_every == 0 or is_last):
            figure = panel.draw(model, panel_images, args.mask_ratio)
            figure.savefig(output_dir / f"reconstruction-{epoch + 1}.png", dpi=80)
            run_log.writer.add_figure("reconstruction", figure, (epoch + 1) * 1000)
    run_log.close()
    distributed.stop()


def prepare(
    args: Namespace, device: torch.device
) -> tuple[HiViTMaskedAutoencoder, torch.optim.AdamW, torch.amp.GradScaler, int]:
    """The model, its optimizer and scaler, and the epochs that they have seen: new, or of the checkpoint to resume."""
    resumed = training_state.find(args.resume, Path(args.output_dir))
    torch.manual_seed(args.seed)
    model = MODELS[args.model](img_size=args.input_size, norm_pix_loss=args.norm_pix_loss)
    if args.init_weights and resumed is None:
        load_encoder(model, args.init_weights, missing_ok=NEW_IN_PRETRAINING)
    model.to(device)
    parameter_groups = param_groups_weight_decay(model, args.weight_decay)
    optimizer = torch.optim.AdamW(parameter_groups, lr=args.lr, betas=(0.9, 0.95), fused=True)
    scaler = torch.amp.GradScaler(device.type, enabled=args.amp == "fp16")
    if resumed is None:
        return model, optimizer, scaler, args.start_epoch
    path, state = resumed
    start_epoch = training_state.restore(path, state, model, optimizer, scaler)
    print(f"continuing {path} after epoch {start_epoch}", flush=True)
    return model, optimizer, scaler, start_epoch


def resolve_amp(amp: str, device: torch.device) -> str:
    """What "auto" means on this device: off, bf16 or fp16."""
    if amp != "auto":
        return amp
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "off"


def make_loader(
    dataset: PretrainImages, sampler: DistributedSampler, args: Namespace, device: torch.device
) -> DataLoader:
    """Batches [batch_size, 1, S, S]; an incomplete last one is left out."""
    workers = min(args.num_workers, len(os.sched_getaffinity(0)))
    return DataLoader(
        dataset,
        batch_size=args.batch_size,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=args.pin_mem and device.type == "cuda",
        drop_last=True,
    )


if __name__ == "__main__":
    with exit_on_input_error():
        try:
            main(parse_options())
        except NonFiniteLossError as error:
            print(
                f"error: {error}; the checkpoints before it are whole: go on from one with a lower --lr",
                file=sys.stderr,
            )
            sys.exit(1)
