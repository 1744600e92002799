"""How fast is pre-training, against its published form on the same machine in the same run?

    python benchmarks/pretrain.py                                             # HiViT-B, 8 images, on the CPU
    python benchmarks/pretrain.py --device cuda --batch_size 64 128 256 --data
    python benchmarks/pretrain.py --forms published bf16 --json results.json

Prints, for the gradient features and for the training step in each precision, compiled or not, and with each batch:
images/s (the median over interleaved rounds), the ratio to the published form (the median of the rounds' ratios), the
share of the chip's measured rate of matrix products that is used, and the peak memory. The fastest form comes first,
alone. With --data, also a whole loop that is fed from the decoded cache. --json is written anew after each part.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from timm.optim import param_groups_weight_decay
from torch.utils.flop_counter import FlopCounterMode

from hivit_mae.cluster.distributed import Processes
from hivit_mae.cluster.host_memory import keep_freed_memory
from hivit_mae.data.loading import BatchLoader, open_images
from hivit_mae.models.gradient_feature import GradientFeature
from hivit_mae.models.models_hivit_mae import MODELS
from hivit_mae.models.published_form import DenseGradientFeature, PublishedForm
from hivit_mae.run.options import DataOptions
from hivit_mae.run.precision import compiled, resolve_amp
from loader import make_chips
from machine import describe, parsed, peak_gb
from saratrx.command_line import Parser
from saratrx.errors import exit_on_input_error
from saratrx.files import write_json
from saratrx.hivit import SIZES

FORMS = ("published", "float32", "float32, compiled", "bf16", "bf16, compiled")  # "published" is float32 too
FEATURES = ("published features", "integral features")
PUBLISHED = tuple(size for size in SIZES if f"mae_hivit_{size}_dec512d6b" in MODELS)  # sizes with the published decoder
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
Step = Callable[[torch.Tensor], torch.Tensor | None]


def synthetic_images(batch: int, device: torch.device) -> torch.Tensor:
    """Gamma distributed amplitude in [0, 1], like speckle: [B, 1, 224, 224]."""
    gamma = torch.distributions.Gamma(2.0, 1 / 0.12)
    torch.manual_seed(0)
    return gamma.sample((batch, 1, 224, 224)).clamp(0, 1).to(device)


def default_forms(device: torch.device) -> list[str]:
    """Name what main_pretrain.py would choose on this chip, and what that can be compared with."""
    has_bf16 = resolve_amp("auto", device)[0] == "bf16"
    return [form for form in FORMS if (has_bf16 or "bf16" not in form) and (device.type == "cuda" or "," not in form)]


def training_step(form: str, size: str, device: torch.device) -> Step:
    """One optimizer step of a form of the model, as a function of the images."""
    is_published = form == "published"
    torch.manual_seed(0)
    model = PublishedForm(**SIZES[size]) if is_published else MODELS[f"mae_hivit_{size}_dec512d6b"]()
    model.to(device).train()
    network = compiled(model) if "compiled" in form else model
    groups = param_groups_weight_decay(model, 0.05)
    optimizer = torch.optim.AdamW(
        groups, lr=1e-4, betas=(0.9, 0.95), fused=not is_published, foreach=False if is_published else None
    )

    def step(images: torch.Tensor) -> None:
        torch.set_float32_matmul_precision("highest" if is_published else "high")
        with torch.autocast(device.type, torch.bfloat16, enabled="bf16" in form):
            loss, _, _ = network(images)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if is_published:
            loss.item()

    return step


def gradient_features(device: torch.device) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    """Give the features of some images, by dense convolutions and by integral images."""
    return dict(zip(FEATURES, (DenseGradientFeature().to(device), GradientFeature()), strict=True))


def floating_point_operations(size: str) -> int:
    """Of a training step for one image, multiplications and additions counted apart, in matrix products alone."""
    model = MODELS[f"mae_hivit_{size}_dec512d6b"]()
    with FlopCounterMode(display=False) as counter:
        model(torch.rand(1, 1, 224, 224))[0].backward()
    return counter.get_total_flops()


def matrix_rate(precision: str, device: torch.device) -> float:
    """FLOP/s of a product of large matrices, the best of many, since other work on the machine slows some."""
    side = 8192 if device.type == "cuda" else 2048
    matrix = torch.rand(side, side, device=device).to(DTYPES[precision])
    torch.set_float32_matmul_precision("high")
    return 2 * side**3 / min(timed(lambda: matrix @ matrix, device) for _ in range(100))


def timed(function: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, the device's work included."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def interleaved(
    functions: Mapping[str, Callable[[], object]], rounds: int, device: torch.device
) -> dict[str, list[float]]:
    """Seconds of each function, called in turn, after one round of warm-up."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(rounds + 1):
        for name, function in functions.items():
            seconds = timed(function, device)
            if number:
                times[name].append(seconds)
    return times


def with_peak_memory(work: str, batch: int, size: str, device: torch.device) -> tuple[Step, float]:
    """Make some work, as a function of the images, and find the GB of the GPU, or of a process, that it needs.

    Raises:
        torch.OutOfMemoryError: if the GPU is too small.

    """

    def make() -> Step:
        return gradient_features(device)[work] if work in FEATURES else training_step(work, size, device)

    if device.type == "cpu":
        command = [sys.executable, __file__, "--memory_of", work, "--size", size, "--batch_size", str(batch)]
        printed = subprocess.run([*command, "--device", "cpu"], check=True, capture_output=True, text=True).stdout
        return make(), float(printed)
    before = torch.cuda.memory_allocated()
    function, images = make(), synthetic_images(batch, device)
    function(images)
    torch.cuda.reset_peak_memory_stats()
    function(images)
    return function, (torch.cuda.max_memory_allocated() - before) / 1e9


def print_peak_memory(work: str, batch: int, size: str) -> None:
    """Do the work once; the other side of `with_peak_memory` on a CPU."""
    device = torch.device("cpu")
    images = synthetic_images(batch, device)
    function = gradient_features(device)[work] if work in FEATURES else training_step(work, size, device)
    function(images)
    function(images)
    print(peak_gb())


def report(
    work: list[str],
    made: dict[str, tuple[Step, float]],
    batch: int,
    rounds: int,
    rate: float,
    flops: int,
    size: str,
    device: torch.device,
) -> dict[str, dict[str, float]]:
    """Time some work, of which the first is the baseline if there is more, and print and return its figures.

    Args:
        work: forms of the step, or the features.
        made: what `with_peak_memory` made of each with this batch before; what is new is added.
        batch: images.
        rounds: of the timing.
        rate: FLOP/s that the chip reaches in matrix products; utilisation is relative to it.
        flops: of one image; 0 if utilisation means nothing.
        size: of the model.
        device: where it is done.

    """
    images, functions = synthetic_images(batch, device), {}
    for name in work:
        try:
            if name not in made:
                made[name] = with_peak_memory(name, batch, size, device)
            functions[name] = partial(made[name][0], images)
        except torch.OutOfMemoryError:
            print(f"  {name:20} out of memory", flush=True)
            torch.cuda.empty_cache()
    times, figures = interleaved(functions, rounds, device), {}
    for name, seconds in times.items():
        speed, memory = batch / median(seconds), made[name][1]
        figures[name] = {"images_per_second": speed, "peak_gb": memory}
        line = f"  {name:20} {speed:9.2f} images/s"
        if len(work) > 1 and work[0] in times:
            ratio = figures[name]["ratio"] = median(b / s for b, s in zip(times[work[0]], seconds, strict=True))
            line += f"   ratio {ratio:6.2f}"
        if flops:
            share = figures[name]["utilisation"] = speed * flops / rate
            line += f"   {share:6.1%} of the chip"
        print(f"{line}   peak memory {memory:5.2f} GB", flush=True)
    return figures


def report_features(
    features: dict[str, dict[str, float]], batch: int, rounds: int, size: str, device: torch.device
) -> None:
    """Time the gradient features of a batch; the figures are added to `features`."""
    print(f"\ngradient features of {batch} x 1 x 224 x 224", flush=True)
    features |= report(list(FEATURES), {}, batch, rounds, 1.0, 0, size, device)


def report_errors(features: dict[str, dict[str, float]], device: torch.device) -> None:
    """Compare the gradient features of one image with float64; the errors are added to `features`."""
    image = synthetic_images(1, device)
    exact = DenseGradientFeature()(image.double().cpu())
    for name, function in gradient_features(device).items():
        error = float((function(image).double().cpu() - exact).abs().max())
        features.setdefault(name, {})["error"] = error
        print(f"  {name:20} largest error against float64 {error:.1e}, in one image", flush=True)


def fed_from_cache(step: Step, batch: int, steps: int, device: torch.device) -> dict[str, float]:
    """Images/s of a loop of some training steps that is fed from a decoded cache, augmented on the device."""
    with tempfile.TemporaryDirectory() as folder:
        make_chips(Path(folder) / "chips", max(steps * batch // 4, 2 * batch))
        data = DataOptions(data_path=(f"{folder}/chips",), cache=f"{folder}/cache", augment="device")
        processes = Processes(0, 1, device)
        source = open_images(data, processes, input_size=224, batch_size=batch, seed=0, sizes_folder=Path(folder))
        loader = BatchLoader(source, processes, batch, data.num_workers)

        def epoch(number: int) -> int:
            images = 0
            for dealt in loader.batches(number):
                step(dealt.images)
                images += len(dealt.images)
            return images

        epoch(0)  # starts the loader's processes
        begun, waited, images = time.perf_counter(), loader.seconds_waited, 0
        for number in range(1, 5):
            images += epoch(number)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - begun
    return {"images_per_second": images / seconds, "waited": (loader.seconds_waited - waited) / seconds}


def main() -> None:
    """Measure and print."""
    parser = Parser(description="Time pre-training against its published form.")
    parser.add_argument("--size", choices=PUBLISHED, default="base")
    parser.add_argument("--batch_size", type=int, nargs="+", default=[8])
    parser.add_argument("--forms", nargs="+", choices=FORMS, help="default: what suits the chip")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--data", action="store_true", help="also feed the last form from a decoded cache (first batch)"
    )
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--memory_of", choices=FORMS + FEATURES, help=argparse.SUPPRESS)
    args = parsed(parser)
    if args.memory_of:
        print_peak_memory(args.memory_of, args.batch_size[0], args.size)
        return

    keep_freed_memory()
    device = torch.device(args.device)
    forms = args.forms or default_forms(device)
    machine = describe(device)
    print(machine)
    precision = "bf16" if any("bf16" in form for form in forms) else "float32"
    rate, flops = matrix_rate(precision, device), floating_point_operations(args.size)
    print(f"matrix products in {precision}: {rate / 1e12:.2f} TFLOP/s; a step needs {flops / 1e9:.1f} GFLOP an image")
    results: dict[str, Any] = {"machine": machine, "size": args.size, "rounds": args.rounds, "flop_an_image": flops}
    results["matrix_flops"] = {precision: rate}

    def keep() -> None:
        """Write what there is so far: the time on a machine may end."""
        if args.json:
            write_json(args.json, results, indent=1)

    keep()
    for number, batch in enumerate(args.batch_size):
        print(f"\ntraining step of HiViT-{args.size}, {batch} images, mask 0.75", flush=True)
        made: dict[str, tuple[Step, float]] = {}
        figures: dict[str, dict[str, float]] = {}
        results[f"step of {batch}"] = figures
        for work in dict.fromkeys(((forms[-1],), tuple(forms))):
            figures |= report(list(work), made, batch, args.rounds, rate, flops, args.size, device)
            keep()
        if args.data and number == 0 and forms[-1] in figures:
            fed = fed_from_cache(made[forms[-1]][0], batch, 20 * args.rounds, device)
            share = fed["images_per_second"] / figures[forms[-1]]["images_per_second"]
            print(
                f"  {forms[-1]}, fed from the cache: {fed['images_per_second']:.2f} images/s, {share:.0%} of that; "
                f"waiting for data {fed['waited']:.0%}", flush=True,
            )  # fmt: skip
            figures["fed from the cache"] = {**fed, "share": share}
            keep()
        del made  # before the next batch needs its memory

    features: dict[str, dict[str, float]] = {}
    results["gradient_features"] = features
    report_features(features, args.batch_size[0], 2 * args.rounds, args.size, device)
    keep()
    report_errors(features, device)
    keep()


if __name__ == "__main__":
    with exit_on_input_error():
        main()
