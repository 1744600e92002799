"""Does the memory of a run grow? And what do the loader's processes hold of a large decoded cache?

    python benchmarks/memory.py                    # 2,000 steps of a small run; then 100,000 chips; about 10 minutes

Resident memory counts shared pages in every process that touched them, so the private part is given too: that is what
another loader process costs.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from hivit_mae.cluster.distributed import Processes
from hivit_mae.data.loading import BatchLoader, open_images
from hivit_mae.run.options import DataOptions
from machine import describe, parsed
from saratrx.command_line import Parser
from saratrx.errors import exit_on_input_error
from saratrx.files import write_json

MAIN = Path(__file__).parents[1] / "pre-training" / "main_pretrain.py"
STEP_LINE = re.compile(r"epoch (\d+)/\d+  step (\d+)/(\d+)")


def megabytes(pid: int) -> tuple[float, float]:
    """Resident memory of a process, and the part of it that no other process shares, in MB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    kilobytes = {name: int(size) for name, size in re.findall(r"(\w+): +(\d+) kB", text)}
    return kilobytes["Rss"] / 1024, (kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]) / 1024


def children(pid: int) -> list[int]:
    """List the processes that a process started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def make_chips(folder: Path, count: int) -> None:
    """Chips of speckle, 64 px, in folders of a thousand."""
    rng = np.random.default_rng(0)
    speckle = rng.gamma(1.0, 40.0, (512, 512)).clip(0, 255).astype(np.uint8)
    for number in range(count):
        if number % 1000 == 0:
            (folder / f"{number // 1000:04d}").mkdir(parents=True)
        top, left = rng.integers(0, 512 - 64, 2)
        chip = Image.fromarray(speckle[top : top + 64, left : left + 64])
        chip.save(folder / f"{number // 1000:04d}" / f"{number % 1000:03d}.bmp")


def growth(steps: int, folder: Path) -> dict[str, list[float]]:
    """Memory of the main process at every tenth of a run of that many steps."""
    images = folder / "few"
    make_chips(images, 400)
    command = [sys.executable, str(MAIN), "--model", "mae_hivit_micro_dec32d1b", "--data_path", str(images)]
    command += ["--input_size", "48"]
    command += ["--output_dir", str(folder / "run"), "--cache", str(folder / "cache"), "--augment", "device"]
    command += ["--batch_size", "8", "--epochs", str(-(-steps // 50)), "--num_workers", "1", "--device", "cpu"]
    command += ["--save_minutes", "0.1", "--keep", "2", "--image_every", "4"]
    found: dict[str, list[float]] = {"step": [], "resident_mb": [], "private_mb": []}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        for line in run.stdout or ():
            if place := STEP_LINE.match(line):
                epoch, step, of_epoch = map(int, place.groups())
                done = (epoch - 1) * of_epoch + step
                if step == of_epoch and done % (steps // 10) == 0:
                    resident, private = megabytes(run.pid)
                    found["step"].append(done)
                    found["resident_mb"].append(round(resident, 1))
                    found["private_mb"].append(round(private, 1))
                    print(f"  step {done:5}: resident {resident:7.1f} MB, private {private:7.1f} MB", flush=True)
    if run.returncode:
        raise SystemExit(f"error: the run ended with {run.returncode}")
    return found


def cache_of_many(chips: int, folder: Path) -> list[dict[str, Any]]:
    """Memory of the main process and of the loader's, after an epoch from a decoded cache of many chips."""
    make_chips(folder / "many", chips)
    data = DataOptions((str(folder / "many"),), cache=str(folder / "large"), augment="device")
    processes = Processes(0, 1, torch.device("cpu"))
    begun = time.perf_counter()
    source = open_images(data, processes, input_size=64, batch_size=100, seed=0, sizes_folder=folder)
    print(f"  cache of {len(source)} chips made in {time.perf_counter() - begun:.0f} s", flush=True)
    loader = BatchLoader(source, processes, 100, num_workers=2)
    found: list[dict[str, Any]] = []
    begun, images = time.perf_counter(), sum(len(batch.images) for batch in loader.batches(0))
    print(f"  an epoch of {images} images read in {time.perf_counter() - begun:.0f} s", flush=True)
    for name, pid in [("main", os.getpid()), *(("loader", child) for child in children(os.getpid()))]:
        resident, private = megabytes(pid)
        print(f"  {name:7} resident {resident:7.1f} MB, private {private:7.1f} MB", flush=True)
        found.append({"process": name, "resident_mb": round(resident, 1), "private_mb": round(private, 1)})
    return found


def main() -> None:
    """Measure and print."""
    parser = Parser(description="Memory of a run over its steps, and of a large cache.")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--chips", type=int, default=100_000)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    args = parsed(parser)
    machine = describe(torch.device("cpu"))
    print(machine)
    with tempfile.TemporaryDirectory() as folder:
        print(f"a small run of {args.steps} steps")
        steps = growth(args.steps, Path(folder))
        resident = steps["resident_mb"]
        print(f"  growth from step {steps['step'][0]} to {steps['step'][-1]}: {resident[-1] - resident[0]:+.1f} MB")
        print(f"a decoded cache of {args.chips} chips")
        held = cache_of_many(args.chips, Path(folder))
    if args.json:
        result = {"machine": machine, "growth": steps, "chips": args.chips, "after_an_epoch": held}
        write_json(args.json, result, indent=1)


if __name__ == "__main__":
    with exit_on_input_error():
        main()
