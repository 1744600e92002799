"""Does training in bf16, compiled, follow training in float32? Two runs from one seed, and their losses in a figure.

    python benchmarks/loss_curves.py DIR [DIR ...] --figure curves.png              # HiViT-B; on a GPU
    python benchmarks/loss_curves.py DIR --narrow --input_size 64 --batch_size 32   # a narrow model, for any CPU

Prints the losses, averaged over the last tenth of the steps, and their gap in per cent.
"""

import argparse
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from matplotlib.figure import Figure
from timm.optim import param_groups_weight_decay

from hivit_mae.data.folders import FolderImages
from hivit_mae.models.models_hivit_mae import MODELS, HiViTMaskedAutoencoder
from hivit_mae.run.lr_schedule import learning_rate, set_learning_rate
from hivit_mae.run.precision import compiled
from hivit_mae.seeds import masking_noise
from machine import describe, parsed
from saratrx.command_line import Parser
from saratrx.errors import exit_on_input_error
from saratrx.files import write_json

NARROW: dict[str, Any] = {
    "embed_dim": 128, "depths": (1, 1, 4), "num_heads": 4,
    "decoder_embed_dim": 128, "decoder_depth": 2, "decoder_num_heads": 4,
}  # fmt: skip
WARMUP = 0.1  # of the steps


def losses(form: str, dataset: FolderImages, args: argparse.Namespace) -> list[float]:
    """Train, and give the loss of each step; images, masks and first weights are the same for every form."""
    device = torch.device(args.device)
    torch.manual_seed(args.seed)
    if args.narrow:
        model = HiViTMaskedAutoencoder(img_size=args.input_size, **NARROW)
    else:
        model = MODELS[args.model](img_size=args.input_size)
    model.to(device).train()
    network = compiled(model) if "compiled" in form else model
    optimizer = torch.optim.AdamW(param_groups_weight_decay(model, 0.05), lr=args.lr, betas=(0.9, 0.95), fused=True)
    order = np.random.default_rng(args.seed)
    patches, found, begun = (args.input_size // 16) ** 2, [], time.perf_counter()
    for step in range(args.steps):
        rate = learning_rate(step, lr=args.lr, min_lr=0.0, warmup_epochs=WARMUP * args.steps, epochs=args.steps)
        set_learning_rate(optimizer, rate)
        dataset.start(step)
        indices = order.integers(len(dataset), size=args.batch_size).tolist()
        images = torch.stack([cast(torch.Tensor, dataset[index][1]) for index in indices]).to(device)
        noise = masking_noise(args.seed, 0, step, args.batch_size, patches, 0, 1, device)
        with torch.autocast(device.type, torch.bfloat16, enabled="bf16" in form):
            loss, _, _ = network(images, 0.75, noise)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(loss.item())
        if (step + 1) % 50 == 0:
            seconds = time.perf_counter() - begun
            print(f"  {form}: step {step + 1}, loss {np.mean(found[-50:]):.4f}, {seconds:.0f} s", flush=True)
    return found


def draw(curves: dict[str, list[float]], title: str) -> Figure:
    """Draw the losses above, their difference below, both smoothed over ten steps."""
    figure = Figure(figsize=(8, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    smooth = {name: np.convolve(values, np.ones(10) / 10, mode="valid") for name, values in curves.items()}
    for (name, values), style in zip(smooth.items(), ("-", "--"), strict=True):
        above.plot(values, style, label=name)
    above.set(ylabel="loss", title=title)
    above.legend()
    first, second = smooth.values()
    below.plot(100 * (second - first) / first, color="0.3")
    below.axhline(0, color="0.8", linewidth=0.8)
    below.set(xlabel="step", ylabel="difference, %")
    return figure


def main() -> None:
    """Train twice, compare and print."""
    parser = Parser(description="Losses of bf16, compiled, against float32.")
    parser.add_argument("data_path", nargs="+", metavar="DIR")
    parser.add_argument("--model", choices=tuple(MODELS), default="mae_hivit_base_dec512d6b")
    parser.add_argument("--narrow", action="store_true", help="a model of 1.5 M parameters instead")
    parser.add_argument("--input_size", type=int, default=224)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--figure", type=Path, help="draw both there")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    args = parsed(parser)

    machine = describe(torch.device(args.device))
    print(machine)
    dataset = FolderImages(args.data_path, args.input_size, args.seed, max_bad=0.01)
    curves = {form: losses(form, dataset, args) for form in ("float32", "bf16, compiled")}
    tenth = max(args.steps // 10, 1)
    ends = {form: float(np.mean(values[-tenth:])) for form, values in curves.items()}
    first, second = ends.values()
    gap = 100 * (second - first) / first
    largest = max(abs(b - a) / a for a, b in zip(*curves.values(), strict=True)) * 100
    print(f"mean loss of the last {tenth} steps: float32 {first:.4f}, bf16 and compiled {second:.4f}, gap {gap:+.3f} %")
    print(f"largest difference of a single step: {largest:.3f} %")
    model = "a narrow model" if args.narrow else args.model
    if args.figure:
        draw(curves, f"{model}, {args.input_size} px, {args.batch_size} images a step").savefig(args.figure, dpi=90)
    if args.json:
        settings = {name: getattr(args, name) for name in ("input_size", "batch_size", "steps", "lr", "seed")}
        result = {"machine": machine, "model": model, **settings, "gap_percent": gap, "largest_percent": largest}
        result["losses"] = {form: [round(value, 5) for value in values] for form, values in curves.items()}
        write_json(args.json, result)


if __name__ == "__main__":
    with exit_on_input_error():
        main()
