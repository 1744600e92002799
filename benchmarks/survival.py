"""Does a run survive what a cluster does to it? Its weights at the end, against those of an undisturbed run.

    python benchmarks/survival.py                       # 20 trials with one process, 20 with two; about 15 minutes
    python benchmarks/survival.py --trials 6 --seed 3 --processes 2

In each trial a small run is hit at a random moment, by SIGKILL, by SIGTERM, or by SIGKILL and a checkpoint that is torn
afterwards, and started again until it ends. With two processes one of them is hit, once they train. The exit code is 0
only if every trial ends with the weights of the undisturbed run: to the bit with one process, within 1e-6 with two.
"""

import argparse
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from hivit_mae.run.training_state import Checkpoints
from saratrx.checkpoint import load_checkpoint

MAIN = Path(__file__).parents[1] / "pre-training" / "main_pretrain.py"
EPOCHS = 60
KINDS = ("SIGKILL", "SIGTERM", "torn checkpoint")
TOLERANCE = {1: 0.0, 2: 1e-6}  # largest difference of a weight


def make_images(folder: Path) -> None:
    """Forty images of speckle with a bright bar."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for number in range(40):
        image = rng.gamma(1.0, 40.0, (48, 48)).clip(0, 255)
        image[16:32, 10 + number // 4 : 30] = 250
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{number:02d}.png")


def start(images: Path, output: Path, world_size: int) -> list[subprocess.Popen[bytes]]:
    """Start the processes of a run, whose output goes to files beside `output`."""
    command = [sys.executable, str(MAIN), "--model", "mae_hivit_micro_dec32d1b", "--data_path", str(images)]
    command += ["--output_dir", str(output)]
    command += ["--input_size", "48", "--batch_size", str(8 // world_size), "--epochs", str(EPOCHS), "--lr", "1e-3"]
    command += ["--warmup_epochs", "1", "--num_workers", "1", "--device", "cpu", "--image_every", "0"]
    command += ["--amp", "off", "--resume", "auto", "--save_minutes", "0.005", "--save_every", "10"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    if world_size > 1:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = str(listener.getsockname()[1])
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(world_size)}
    processes = []
    for rank in range(world_size):
        ranked = environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)} if world_size > 1 else environment
        with Path(f"{output}-{rank}.txt").open("a") as printed:
            processes.append(subprocess.Popen(command, env=ranked, stdout=printed, stderr=printed))
    return processes


def finished(processes: list[subprocess.Popen[bytes]]) -> list[int]:
    """Wait for all to end, and give their exit codes."""
    return [process.wait(timeout=600) for process in processes]


def tear(folder: Path, rng: random.Random) -> str:
    """Cut the newest checkpoint off, or change some of its bytes; says what was done."""
    newest = next(iter(Checkpoints(folder).existing()), None)
    if newest is None:
        return "there was none yet"
    content = bytearray(newest.read_bytes())
    if rng.random() < 0.5:
        del content[rng.randrange(len(content)) :]
    else:
        place = rng.randrange(len(content) - 16)
        content[place : place + 16] = rng.randbytes(16)
    newest.write_bytes(content)
    return newest.name


def wait_until_training(output: Path, processes: list[subprocess.Popen[bytes]]) -> None:
    """Return at the first line that a run prints of its steps."""
    while "step" not in Path(f"{output}-0.txt").read_text():
        if processes[0].poll():
            raise SystemExit(Path(f"{output}-0.txt").read_text())
        time.sleep(0.02)


def trial(images: Path, output: Path, world_size: int, seconds: float, rng: random.Random) -> str:
    """Hit a run at a random moment within `seconds`, and let it end; returns what happened."""
    kind, moment, victim = rng.choice(KINDS), rng.uniform(0, seconds), rng.randrange(world_size)
    processes = start(images, output, world_size)
    if world_size > 1:
        wait_until_training(output, processes)
    time.sleep(moment)
    processes[victim].send_signal(signal.SIGTERM if kind == "SIGTERM" else signal.SIGKILL)
    codes = finished(processes)
    state = next((path.stem for path in Checkpoints(output).existing()), "no checkpoint")
    happened = f"{kind:15} after {moment:4.1f} s, exit codes {codes}, {state}"
    if kind == "torn checkpoint":
        happened += f", torn: {tear(output, rng)}"
    for _ in range(3):
        if not any(finished(start(images, output, world_size))):
            return happened
    raise SystemExit(f"error: {happened}: does not end, see {output}-0.txt")


def main() -> None:
    """Try and print."""
    parser = argparse.ArgumentParser(description="Kill small runs and compare how they end.")
    parser.add_argument("--trials", type=int, default=20, help="for each number of processes")
    parser.add_argument("--processes", type=int, nargs="+", choices=tuple(TOLERANCE), default=list(TOLERANCE))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng, failed = random.Random(args.seed), 0
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        make_images(images)
        for world_size in args.processes:
            output = Path(folder) / f"undisturbed-{world_size}"
            begun = time.monotonic()
            processes = start(images, output, world_size)
            if world_size > 1:
                wait_until_training(output, processes)
                begun = time.monotonic()
            if any(finished(processes)):
                raise SystemExit(Path(f"{output}-0.txt").read_text())
            seconds = time.monotonic() - begun
            expected = load_checkpoint(output / f"checkpoint-{EPOCHS}.pth")["model"]
            print(f"{world_size} process(es), undisturbed: {seconds:.1f} s", flush=True)
            for number in range(args.trials):
                output = Path(folder) / f"trial-{world_size}-{number}"
                happened = trial(images, output, world_size, seconds, rng)
                found = load_checkpoint(output / f"checkpoint-{EPOCHS}.pth")["model"]
                difference = max(float((found[k].double() - expected[k].double()).abs().max()) for k in expected)
                is_good = difference <= TOLERANCE[world_size]
                failed += not is_good
                verdict = "as undisturbed" if is_good else "DIFFERS"
                print(f"  {number:2} {happened}: {verdict}, largest difference {difference:g}", flush=True)
    print("all runs ended as if undisturbed" if not failed else f"{failed} runs ended differently")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
