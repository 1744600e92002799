"""How fast is pre-training, against its published form on the same machine in the same run?

    python benchmarks/pretrain.py                          # HiViT-B, 8 images: about 3 minutes on two CPU cores
    python benchmarks/pretrain.py --batch_size 100 --device cuda
    python benchmarks/pretrain.py --json results.json

Prints, for the gradient features and for the training step, both times (the median over interleaved pairs), their ratio
(the median of the pairs' ratios), and the peak memory, each form in a process of its own.
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

STEPS = ("published", "float32", "bf16")  # "published" is float32 too
FEATURES = ("published features", "integral features")


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


def gradient_features(images: torch.Tensor) -> dict[str, Callable[[], torch.Tensor]]:
    """The features of some images, by dense convolutions and by integral images."""
    dense, integral = DenseGradientFeature().to(images.device), GradientFeature()
    return dict(zip(FEATURES, (lambda: dense(images), lambda: integral(images)), strict=True))


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


def peak_memory(work: str, args: argparse.Namespace) -> float:
    """GB that some work needs, done twice in a process of its own: on the GPU, or of the whole process on the CPU."""
    command = [sys.executable, __file__, "--memory_of", work, "--size", args.size]
    command += ["--batch_size", str(args.batch_size), "--device", args.device]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_peak_memory(args: argparse.Namespace) -> None:
    """The other side of `peak_memory`."""
    device = torch.device(args.device)
    images = synthetic_images(args.batch_size, device)
    if args.memory_of in FEATURES:
        function = gradient_features(images)[args.memory_of]
    else:
        function = training_step(args.memory_of, args.size, images)
    function()
    function()
    if device.type == "cuda":
        print(torch.cuda.max_memory_allocated() / 1e9)
    else:
        # not getrusage, which a process inherits from the one that started it
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        print(int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024 / 1e9)


def report(functions: dict[str, Callable[[], object]], pairs: int, args: argparse.Namespace) -> dict[str, dict]:
    """Time some work, of which the first is the baseline, and print and return its figures."""
    times = interleaved(functions, pairs, torch.device(args.device))
    baseline, figures = next(iter(times.values())), {}
    for name, seconds in times.items():
        speed = args.batch_size / median(seconds)
        ratio = median(b / s for b, s in zip(baseline, seconds, strict=True))
        memory = peak_memory(name, args)
        print(f"  {name:20} {speed:9.2f} images/s   ratio {ratio:6.2f}   peak memory {memory:5.2f} GB", flush=True)
        figures[name] = {"images_per_second": speed, "ratio": ratio, "peak_gb": memory}
    return figures


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
    parser.add_argument("--memory_of", choices=STEPS + FEATURES, help=argparse.SUPPRESS)
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
    exact = DenseGradientFeature()(images.double().cpu())
    features = gradient_features(images)
    print(f"\ngradient features of {args.batch_size} x 1 x 224 x 224")
    results["gradient_features"] = report(features, 2 * args.pairs, args)
    for name, function in features.items():
        error = float((function().double().cpu() - exact).abs().max())
        results["gradient_features"][name]["error"] = error
        print(f"  {name:20} largest error against float64 {error:.1e}")

    print(f"\ntraining step of HiViT-{args.size}, {args.batch_size} images, mask 0.75")
    results["step"] = report({form: training_step(form, args.size, images) for form in STEPS}, args.pairs, args)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
