"""How does pre-training scale over processes of one machine?

    python benchmarks/scaling.py                                   # 1 and 2 processes that share the CPU's cores
    python benchmarks/scaling.py --device cuda --processes 1 2 8   # on GPUs, one each
    python benchmarks/scaling.py --processes 1 2 --bucket_mb 1 5 25 100

Every process trains on the same number of images of its own, as main_pretrain.py does. Prints images/s of all together,
and the efficiency against one process: on GPUs their number is the limit, on a CPU 1 is, since the cores are shared.
"""

import argparse
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from timm.optim import param_groups_weight_decay

from hivit_mae.cluster import distributed
from hivit_mae.models.models_hivit_mae import MODELS
from hivit_mae.run.begin import wrap
from hivit_mae.run.precision import allow_tf32, resolve_amp, resolve_compile
from machine import describe, parsed
from pretrain import PUBLISHED, synthetic_images
from saratrx.command_line import Parser
from saratrx.errors import exit_on_input_error
from saratrx.files import write_json


def work(
    size: str, batch_size: int, count: int, device_name: str, amp: str, grad_reduce: str, bucket_mb: float
) -> None:
    """Be one process of a measurement; the main one prints images/s of all."""
    allow_tf32()
    processes = distributed.connect(distributed.rendezvous(device_name))
    device = processes.device
    amp = resolve_amp(amp, device)[0]
    torch.manual_seed(0)
    model = MODELS[f"mae_hivit_{size}_dec512d6b"]().to(device)
    network = wrap(
        model,
        processes,
        is_compiled=resolve_compile(None, device)[0],
        grad_reduce=grad_reduce,
        bucket_mb=bucket_mb,
    )
    optimizer = torch.optim.AdamW(param_groups_weight_decay(model, 0.05), lr=1e-4, betas=(0.9, 0.95), fused=True)
    images = synthetic_images(batch_size, device)

    def steps(count: int) -> float:
        for _ in range(count):
            with torch.autocast(device.type, torch.bfloat16, enabled=amp == "bf16"):
                loss, _, _ = network(images)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        loss.item()  # waits for the device
        if dist.is_initialized():
            dist.barrier()
        return time.perf_counter()

    begun = steps(3)
    seconds = steps(count) - begun
    if processes.is_main:
        print(count * batch_size * processes.world_size / seconds)
    distributed.leave()


def measured(world_size: int, bucket_mb: float, args: argparse.Namespace) -> float:
    """Images/s of that many processes together."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    command = [sys.executable, __file__, "--work", "--size", args.size, "--batch_size", str(args.batch_size)]
    command += ["--steps", str(args.steps), "--device", args.device, "--bucket_mb", str(bucket_mb)]
    command += ["--amp", args.amp, "--grad_reduce", args.grad_reduce]
    environment = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(world_size)}
    if args.device == "cpu":
        environment["OMP_NUM_THREADS"] = str(max(len(os.sched_getaffinity(0)) // world_size, 1))
    running = []
    for rank in range(world_size):
        ranked = environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        running.append(subprocess.Popen(command, env=ranked, stdout=subprocess.PIPE, text=True))
    printed = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        raise SystemExit(f"error: {world_size} processes: exit codes {[process.returncode for process in running]}")
    return float(printed[0])


def main() -> None:
    """Measure and print."""
    parser = Parser(description="Time pre-training on several processes.")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--size", choices=PUBLISHED, default="tiny")
    parser.add_argument("--batch_size", type=int, default=8, help="of each process")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--bucket_mb", type=float, nargs="+", default=[25.0])
    parser.add_argument("--amp", choices=("auto", "off", "bf16"), default="auto")
    parser.add_argument("--grad_reduce", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    args = parsed(parser)
    if args.work:
        work(args.size, args.batch_size, args.steps, args.device, args.amp, args.grad_reduce, args.bucket_mb[0])
        return

    machine = describe(torch.device(args.device))
    print(f"{machine}\nHiViT-{args.size}, {args.batch_size} images a process and step")
    baseline, found = 0.0, []
    for world_size in args.processes:
        for bucket_mb in args.bucket_mb if world_size > 1 else args.bucket_mb[:1]:
            rate = measured(world_size, bucket_mb, args)
            baseline = baseline or rate / world_size
            limit = world_size if args.device != "cpu" else 1
            efficiency = rate / (baseline * limit)
            print(
                f"  {world_size} processes, buckets of {bucket_mb:g} MB: {rate:8.2f} images/s, "
                f"ratio to one process {rate / baseline:5.2f}, efficiency {efficiency:.0%}", flush=True,
            )  # fmt: skip
            found.append({"processes": world_size, "bucket_mb": bucket_mb, "images_per_second": rate})
            if args.json:  # after each: the time on a machine may end
                result = {"machine": machine, "size": args.size, "batch_size": args.batch_size, "measured": found}
                write_json(args.json, result, indent=1)


if __name__ == "__main__":
    with exit_on_input_error():
        main()
