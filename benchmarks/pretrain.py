"""How fast is pre-training, against its published form on the same machine in the same run?

    python benchmarks/pretrain.py                          # HiViT-B, 8 images: about 3 minutes on two CPU cores
    python benchmarks/pretrain.py --batch_size 100 --device cuda
    python benchmarks/pretrain.py --json results.json

Prints, for the gradient features and for the training step, both times (the median over interleaved pairs), their ratio
(the median of the pairs' ratios), and the peak memory of a step, each form in a process of its own.
"""

import argparse
import json
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "pre-training")]

import torch
from published_form import DenseGradientFeature, PublishedForm
from timm.optim import param_groups_weight_decay

from models.gradient_feature import GradientFeature
from models.models_hivit_mae import MODELS
from saratrx.hivit import SIZES

FORMS = ("published", "float32", "bf16")  # "published" is float32 too


def synthetic_images(batch: int, device: torch.device) -> torch.Tensor:
    """Gamma distributed amplitude in [0, 1], like speckle: [B, 1, 224, 224]."""
    gamma = torch.distributions.Gamma(2.0, 1 / 0.12)
    torch.manual_seed(0)
    return gamma.sample((batch, 1, 224, 224)).clamp(0, 1).to(device)


def training_step(form: str, size: str, images: torch.Tensor) -> Callable[[], None]:
    """One optimizer step of a form of the model, as a function."""
    device, is_published = images.device, form == "published"
    torch.manual_seed(0)
    model = PublishedForm(**SIZES[size]) if is_published else MODELS[f"mae_hivit_{size}_dec512d6b"]()
    model.to(device).train()
    groups = param_groups_weight_decay(model, 0.05)
    optimizer = torch.optim.AdamW(
        groups, lr=1e-4, betas=(0.9, 0.95), fused=not is_published, foreach=False if is_published else None
    )

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=form == "bf16"):
            loss, _, _ = model(images)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if is_published:
            loss.item()

    return step


def timed(function: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, the device's work included."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def interleaved(functions: dict[str, Callable[[], object]], pairs: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each function, called in turn, after one round of warm-up."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(pairs + 1):
        for name, function in functions.items():
            seconds = timed(function, device)
            if number:
                times[name].append(seconds)
    return times


def peak_memory(form: str, args: argparse.Namespace) -> float:
    """GB that two training steps need in a process of their own: on the GPU, or of the whole process on the CPU."""
    command = [sys.executable, __file__, "--memory_of", form, "--size", args.size]
    command += ["--batch_size", str(args.batch_size), "--device", args.device]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_peak_memory(args: argparse.Namespace) -> None:
    """The other side of `peak_memory`."""
    device = torch.device(args.device)
    step = training_step(args.memory_of, args.size, synthetic_images(args.batch_size, device))
    step()
    step()
    if device.type == "cuda":
        print(torch.cuda.max_memory_allocated() / 1e9)
    else:
        # not getrusage, which a process inherits from the one that started it
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        print(int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024 / 1e9)


def processor() -> str:
    """Name of the CPU."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Time pre-training against its published form.")
    parser.add_argument("--size", choices=tuple(SIZES), default="base")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--memory_of", choices=FORMS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory_of:
        print_peak_memory(args)
        return

    device = torch.device(args.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    machine = f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    print(machine)
    results: dict = {"machine": machine, "size": args.size, "batch_size": args.batch_size, "pairs": args.pairs}

    images = synthetic_images(args.batch_size, device)
    dense, integral = DenseGradientFeature().to(device), GradientFeature()
    exact = DenseGradientFeature()(images.double().cpu())
    times = interleaved({"published": lambda: dense(images), "ours": lambda: integral(images)}, 2 * args.pairs, device)
    ratio = median(p / o for p, o in zip(times["published"], times["ours"], strict=True))
    errors = {
        n: float((f(images).double().cpu() - exact).abs().max()) for n, f in (("published", dense), ("ours", integral))
    }
    print(f"\ngradient features of {args.batch_size} x 1 x 224 x 224")
    for form, seconds in times.items():
        print(f"  {form:10} {1e3 * median(seconds):9.2f} ms   largest error against float64 {errors[form]:.1e}")
    print(f"  ratio      {ratio:9.1f}")
    results["gradient_features"] = {
        "milliseconds": {n: 1e3 * median(t) for n, t in times.items()}, "ratio": ratio, "error": errors
    }  # fmt: skip

    steps = {form: training_step(form, args.size, images) for form in FORMS}
    times = interleaved(steps, args.pairs, device)
    print(f"\ntraining step of HiViT-{args.size}, {args.batch_size} images, mask 0.75")
    results["step"] = {}
    for form, seconds in times.items():
        ratio = median(p / s for p, s in zip(times["published"], seconds, strict=True))
        speed, memory = args.batch_size / median(seconds), peak_memory(form, args)
        results["step"][form] = {"images_per_second": speed, "ratio": ratio, "peak_gb": memory}
        print(f"  {form:10} {speed:9.2f} images/s   ratio {ratio:5.2f}   peak memory {memory:5.2f} GB")
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
