"""How long does a few-shot table take with the feature bank, against the published way of running it?

    python benchmarks/fewshot.py checkpoint-8.pth DATA --cfg vit_t16           # 10 seeds, shots 5, 10, 20
    python benchmarks/fewshot.py checkpoint-800.pth DATA --plain_epochs 3 --json results.json

DATA is the folder that holds MSTAR_SOC. The published way is a process for each seed and number of shots, which pushes
its images through the frozen encoder in all 30 epochs; it is measured on seed 0 and scaled by the number of seeds. With
`--plain_epochs E` it is measured with 1 and with E epochs, and scaled to 30 as well. The bank starts empty. Prints both
times, their ratio, and accuracies: of the table, of the plain runs next to the same runs of the table, and of the
nearest neighbour in raw pixels (the middle 64 px, scaled to 32) from the same shots.
"""

import argparse
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.transforms.v2 import functional

from dassl.data.datasets import Datum, build_dataset
from hivit_cls.configuration import setup_cfg
from hivit_cls.options import parse_numbers, parse_options
from hivit_cls.results import read_experiment, read_metric
from machine import parsed
from saratrx import sar_image
from saratrx.command_line import Parser
from saratrx.errors import InputError, exit_on_input_error
from saratrx.files import is_file, write_json

STAGE = Path(__file__).parents[1] / "classification"
EPOCHS = 30  # of the published config


@dataclass(frozen=True)
class Probe:
    """What is probed, and where the data is."""

    checkpoint: Path
    data: Path
    cfg: str

    def command_line(self, output: Path, *words: str) -> list[str]:
        """Give the command line of train.py."""
        files = [STAGE / "configs/datasets/MSTAR_SOC.yaml", STAGE / f"configs/trainers/MIM_linear/{self.cfg}.yaml"]
        return [
            *("--root", str(self.data), "--trainer", "MIM_linear", "--output-dir", str(output)),
            *("--dataset-config-file", str(files[0]), "--config-file", str(files[1])),
            *words,
            *("MODEL.INIT_WEIGHTS", str(self.checkpoint)),
        ]


def timed(arguments: list[str]) -> float:
    """Seconds that train.py takes as a process of its own."""
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, STAGE / "train.py", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.perf_counter() - begun


def plain_run(probe: Probe, output: Path, shots: int, plain_epochs: int) -> tuple[float, float | None]:
    """Seconds of one run of the published kind, seed 0, and its accuracy if all its epochs were run."""

    def seconds(epochs: int) -> float:
        keys = ["FEATURE_BANK", "False", "DATASET.NUM_SHOTS", str(shots), "OPTIM.MAX_EPOCH", str(epochs)]
        return timed(probe.command_line(output / f"{shots}-{epochs}", "--seed", "0") + keys)

    if plain_epochs == EPOCHS:
        return seconds(EPOCHS), read_metric(output / f"{shots}-{EPOCHS}")
    one, several = seconds(1), seconds(plain_epochs)
    return one + (EPOCHS - 1) * (several - one) / (plain_epochs - 1), None


def nearest_pixels(probe: Probe, shots: int, seed: int) -> float:
    """Accuracy in percent of the nearest neighbour in raw pixels."""
    words = probe.command_line(Path("unused"), "--seed", str(seed))
    dataset = build_dataset(setup_cfg(parse_options([*words, "DATASET.NUM_SHOTS", str(shots)])[0]))
    train, test = dataset.train_x, dataset.test or []
    nearest = torch.cdist(pixels(test), pixels(train)).argmin(dim=1)
    labels = [torch.tensor([item.label for item in part]) for part in (train, test)]
    return 100 * (labels[0][nearest] == labels[1]).float().mean().item()


_pixels: dict[str, torch.Tensor] = {}


def pixels(items: list[Datum]) -> torch.Tensor:
    """Read the middle 64 px of images, scaled to 32 px: [N, 1024]."""
    for item in items:
        if item.impath not in _pixels:
            image = torch.from_numpy(sar_image.read(item.impath))[None]
            _pixels[item.impath] = functional.resize(functional.center_crop(image, 64), 32, antialias=True).flatten()
    return torch.stack([_pixels[item.impath] for item in items]).float()


def main() -> None:
    """Measure and print."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cfg", default="vit_b16")
    parser.add_argument("--seeds", default="0-9")
    parser.add_argument("--shots", default="5,10,20")
    parser.add_argument("--plain_epochs", type=int, default=EPOCHS, choices=range(2, EPOCHS + 1), metavar="E")
    parser.add_argument("--json", type=Path)
    args = parsed(parser)
    config = STAGE / f"configs/trainers/MIM_linear/{args.cfg}.yaml"
    if not is_file(config):
        raise InputError(f"--cfg {args.cfg}: there is no {config}")
    probe = Probe(args.checkpoint, args.data, args.cfg)
    seeds, all_shots = parse_numbers(args.seeds, "--seeds"), parse_numbers(args.shots, "--shots")

    with tempfile.TemporaryDirectory() as name:
        output = Path(name)
        bank_seconds = timed(probe.command_line(output / "bank", "--seeds", args.seeds, "--shots", args.shots))
        rows: list[dict[str, Any]] = []
        for shots in all_shots:
            folder = output / "bank/MSTAR_SOC/MIM_linear" / f"{args.cfg}_{shots}shots"
            experiment = read_experiment(folder)
            plain_seconds, plain_accuracy = plain_run(probe, output / "plain", shots, args.plain_epochs)
            raw = [nearest_pixels(probe, shots, seed) for seed in seeds]
            rows.append(
                {
                    "shots": shots,
                    "accuracy": experiment.mean,
                    "std": experiment.std,
                    "accuracy_seed0": read_metric(folder / "seed0"),
                    "plain_accuracy_seed0": plain_accuracy,
                    "nearest_pixels": float(np.mean(raw)),
                    "plain_seconds_a_run": plain_seconds,
                }
            )
    plain_total = len(seeds) * sum(row["plain_seconds_a_run"] for row in rows)
    results = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "config": args.cfg,
        "seeds": len(seeds),
        "bank_seconds": bank_seconds,
        "plain_seconds_scaled": plain_total,
        "plain_epochs_measured": args.plain_epochs,
        "ratio": plain_total / bank_seconds,
        "rows": rows,
    }
    for row in rows:
        print("  ".join(f"{key} {value if value is None else round(value, 2)}" for key, value in row.items()))
    print(f"table with the bank, from an empty one: {bank_seconds:.0f} s")
    measured = f"1 of {len(seeds)} seeds and {args.plain_epochs} of {EPOCHS} epochs measured, and scaled"
    print(f"the published way: {plain_total:.0f} s ({measured})")
    print(f"ratio {results['ratio']:.1f}")
    if args.json:
        write_json(args.json, results, indent=1)


if __name__ == "__main__":
    with exit_on_input_error():
        main()
