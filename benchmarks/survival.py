"""Does a run survive what a cluster does to it? What it ends with, against what an undisturbed run ends with.

    python benchmarks/survival.py                                            # all stages, 20 trials each; about an hour
    python benchmarks/survival.py --stages few-shot --trials 6 --seed 3
    python benchmarks/survival.py --stages pre-training --processes 2

In each trial a small run is hit at a random moment, by SIGKILL, by SIGTERM, by SIGKILL and a checkpoint that is torn
afterwards, or by a second run in the same folder; and started again by the same command until it ends. The runs are a
pre-training, with one process and with two (one of them is hit), a few-shot table of four probes, and the training of a
detector. The exit code is 0 only if every trial ends with the weights and figures of the undisturbed run: to the bit
with one process, within 1e-6 with two.
"""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from saratrx.checkpoint import load_checkpoint
from saratrx.command_line import at_least, between, option, parse
from saratrx.errors import exit_on_input_error, raise_problems

TOP = Path(__file__).parents[1]
KINDS = ("SIGKILL", "SIGTERM", "torn checkpoint", "second run")
TOLERANCE = {1: 0.0, 2: 1e-6}  # largest difference of a number, by processes
STARTS = 3  # of a run that was hit, at most: a torn checkpoint may cost one
SECOND_RUN_SECONDS = 2.0  # at most, that it starts after the first
FROM_THE_START = 0.25  # share of trials whose moment counts from the start of the process, not of the training
Result = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Stage:
    """One kind of run.

    Args:
        command: of a folder of data and one for the output; the same each time.
        sign: what it prints first once it trains.
        checkpoints: pattern of the files that can be torn, below its output.
        result: what must be as in the undisturbed run, by name.

    """

    command: Callable[[Path, Path], list[str]]
    sign: str
    checkpoints: str
    result: Callable[[Path], Result]


# --- the runs ---


def pretraining_command(data: Path, output: Path) -> list[str]:
    """Sixty epochs of a tiny encoder."""
    return [
        *("pre-training/main_pretrain.py", "--model", "mae_hivit_micro_dec32d1b", "--input_size", "48"),
        *("--data_path", str(data / "chips/TRAIN"), "--output_dir", str(output), "--epochs", "60", "--lr", "1e-3"),
        *("--batch_size", "8", "--warmup_epochs", "1", "--num_workers", "1", "--device", "cpu", "--image_every", "0"),
        *("--amp", "off", "--resume", "auto", "--save_minutes", "0.005", "--save_every", "10"),
    ]


def pretraining_result(output: Path) -> Result:
    """Give the weights."""
    return dict(load_checkpoint(output / "checkpoint-60.pth")["model"])


def fewshot_command(data: Path, output: Path) -> list[str]:
    """Probes of two seeds and two numbers of shots."""
    configs = TOP / "classification/configs"
    return [
        *("classification/train.py", "--root", str(data), "--output-dir", str(output), "--trainer", "MIM_linear"),
        *("--dataset-config-file", str(configs / "datasets/simulated.yaml")),
        *("--config-file", str(configs / "trainers/MIM_linear/vit_t16.yaml"), "--seeds", "0-1", "--shots", "1,3"),
        *("MODEL.RANDOM_INIT", "True", "MODEL.BACKBONE.NAME", "hivit_micro", "INPUT.SIZE", "(48, 48)"),
        *("USE_CUDA", "False", "DATALOADER.NUM_WORKERS", "0", "OPTIM.MAX_EPOCH", "30", "TRAIN.CHECKPOINT_FREQ", "5"),
    ]


def fewshot_result(output: Path) -> Result:
    """Give figures and weights of each run of the table."""
    found: Result = {}
    for path in sorted(output.rglob("results.json")):
        name, content = str(path.parent.relative_to(output)), json.loads(path.read_text(encoding="utf-8"))
        found[f"{name} figures"] = torch.tensor(list(content["results"].values()), dtype=torch.float64)
        found[f"{name} confusion"] = torch.tensor(content["confusion"])
        [last] = path.parent.glob("*/model.pth.tar-30")
        found |= {f"{name} {key}": value for key, value in load_checkpoint(last)["model"].items()}
    return found


def detection_command(data: Path, output: Path) -> list[str]:
    """Four epochs of a tiny detector."""
    backbone = {"embed_dim": 32, "depths": [1, 1, 2], "num_heads": 2, "out_indices": ["H", "M", 1, 1]}
    keys = {f"model.backbone.{key}": value for key, value in backbone.items()}
    keys |= {"model.backbone.global_indices": [1], "model.neck.in_channels": [8, 16, 32, 32]}
    keys |= {"train_cfg.max_epochs": 4, "train_cfg.val_interval": 2, "optim_wrapper.paramwise_cfg.num_layers": 2}
    keys |= {"default_hooks.checkpoint.max_keep_ckpts": 3}  # one may be torn
    for part in ("train", "val"):
        keys |= {f"{part}_dataloader.num_workers": 0, f"{part}_dataloader.persistent_workers": False}
    return [
        *("detection/tools/train.py", str(TOP / "detection/configs/_hivit_/hivit_tiny_simulated.py"), "--resume"),
        *("--data-root", str(data / "scenes"), "--work-dir", str(output), "--init-weights", "none"),
        *("--cfg-options", *(f"{key}={value}".replace(" ", "").replace("'", '"') for key, value in keys.items())),
    ]


def detection_result(output: Path) -> Result:
    """Give the weights of the last and of the best epoch, whose names are part of them."""
    from hivit_det.weights import read_detector  # noqa: PLC0415 -- brings MMDetection

    found: Result = {}
    for path in (output / "epoch_4.pth", *output.glob("best_*.pth")):
        found |= {f"{path.stem} {key}": value for key, value in read_detector(path)["model"].items()}
    return found


STAGES = {
    "pre-training": Stage(pretraining_command, "step", "checkpoint-*.pth", pretraining_result),
    "few-shot": Stage(fewshot_command, "feature bank", "*/*/*/*/*/model.pth.tar-*", fewshot_result),
    "detection": Stage(detection_command, "Epoch(train)", "*.pth", detection_result),
}


# --- trials ---


def start(stage: Stage, data: Path, output: Path, world_size: int, name: str = "") -> list[subprocess.Popen[bytes]]:
    """Start the processes of a run, whose printed lines go to files beside `output`."""
    script, *options = stage.command(data, output)
    if world_size > 1:
        options[options.index("--batch_size") + 1] = str(8 // world_size)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    if world_size > 1:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = str(listener.getsockname()[1])
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(world_size)}
    processes = []
    for rank in range(world_size):
        ranked = environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)} if world_size > 1 else environment
        with printed(output, name, rank).open("a") as file:
            command = [sys.executable, str(TOP / script), *options]
            processes.append(subprocess.Popen(command, env=ranked, stdout=file, stderr=file))
    return processes


def printed(output: Path, name: str = "", rank: int = 0) -> Path:
    """Where a process's lines go."""
    return Path(f"{output}{name}-{rank}.txt")


def finished(processes: list[subprocess.Popen[bytes]]) -> list[int]:
    """Wait for all to end, and give their exit codes."""
    return [process.wait(timeout=600) for process in processes]


def unfinished_checkpoints(output: Path, pattern: str) -> list[Path]:
    """Find the checkpoints of runs that have no results yet, the oldest first."""
    found = [path for path in output.glob(pattern) if path.suffix != ".sha256"]
    found = [path for path in found if not (path.parents[1] / "results.json").exists()]
    return sorted(found, key=lambda path: path.stat().st_mtime_ns)


def tear(output: Path, pattern: str, rng: random.Random) -> str:
    """Cut the newest checkpoint of an unfinished run off, or change some of its bytes; says which one."""
    found = unfinished_checkpoints(output, pattern)
    if not found:
        return "there was none"
    newest = found[-1]
    content = bytearray(newest.read_bytes())
    if rng.random() < 0.5:
        del content[rng.randrange(len(content)) :]
    else:
        place = rng.randrange(len(content) - 16)
        content[place : place + 16] = rng.randbytes(16)
    newest.write_bytes(content)
    return str(newest.relative_to(output))


def wait_until_training(stage: Stage, output: Path, processes: list[subprocess.Popen[bytes]]) -> None:
    """Return at the first line that a run prints of its training."""
    while stage.sign not in printed(output).read_text(errors="replace"):
        if processes[0].poll():
            raise SystemExit(printed(output).read_text(errors="replace"))
        time.sleep(0.02)


def trial(stage: Stage, data: Path, output: Path, world_size: int, seconds: float, rng: random.Random) -> str:
    """Hit a run at a random moment within `seconds`, and let it end; returns what happened."""
    kind, moment, victim = rng.choice(KINDS), rng.uniform(0, seconds), rng.randrange(world_size)
    # of two processes one would wait for the other, which died before they met
    is_from_the_start = rng.random() < FROM_THE_START and world_size == 1
    if kind == "torn checkpoint":
        moment /= 2  # and then until there are two
    elif kind == "second run":  # both take some seconds to start
        moment, is_from_the_start = min(moment, SECOND_RUN_SECONDS), True
    processes = start(stage, data, output, world_size)
    if not is_from_the_start:
        wait_until_training(stage, output, processes)
    time.sleep(moment)
    while kind == "torn checkpoint" and processes[victim].poll() is None:
        with suppress(FileNotFoundError):  # the run may delete one meanwhile
            if len(unfinished_checkpoints(output, stage.checkpoints)) > 1:  # else there is nothing to go back to
                break
        time.sleep(0.002)
    happened = f"{kind:15} after {moment:4.1f} s, exit codes "
    if kind == "second run":
        second = finished(start(stage, data, output, world_size, "-second"))
        first = finished(processes)
        happened += f"{first} and {second}"
        refusals = [
            printed(output, name).read_text() for name, codes in (("", first), ("-second", second)) if 2 in codes
        ]
        if not {*first, *second} <= {0, 2} or not all("in use by process" in text for text in refusals):
            raise SystemExit(f"error: {happened}: one was neither refused nor left alone, see {output}*.txt")
    else:
        processes[victim].send_signal(signal.SIGTERM if kind == "SIGTERM" else signal.SIGKILL)
        happened += str(finished(processes))
    if kind == "torn checkpoint":
        happened += f", torn: {tear(output, stage.checkpoints, rng)}"
    for number in range(STARTS):
        if not any(finished(start(stage, data, output, world_size))):
            return happened + (f", after {number + 1} starts" if number else "")
    return f"{happened}, does not end: {printed(output).read_text(errors='replace').splitlines()[-1]}"


def difference(found: Result, expected: Result) -> float:
    """Give the largest difference of two results; infinite where they do not hold the same."""
    if found.keys() != expected.keys():
        return float("inf")
    return max(float((found[key].double() - expected[key].double()).abs().max()) for key in expected)


@dataclass(frozen=True)
class Options:
    """The trials."""

    trials: int = option(20, help="of each stage and number of processes")
    stages: tuple[Literal["pre-training", "few-shot", "detection"], ...] = option(tuple(STAGES), help="what is tried")
    processes: tuple[Literal[1, 2], ...] = option((1, 2), help="of a pre-training")
    seed: int = option(0, help="of the kinds and moments")

    def __post_init__(self) -> None:
        raise_problems(between(1, 10_000, trials=self.trials) + at_least(0, seed=self.seed))


def try_stage(name: str, data: Path, folder: Path, world_size: int, options: Options) -> int:
    """Try one stage, and print; gives how many trials ended differently."""
    stage, rng, failed = STAGES[name], random.Random(f"{options.seed} {name} {world_size}"), 0
    output = folder / f"undisturbed-{name}-{world_size}"
    processes = start(stage, data, output, world_size)
    wait_until_training(stage, output, processes)
    begun = time.monotonic()
    if any(finished(processes)):
        raise SystemExit(printed(output).read_text())
    seconds = time.monotonic() - begun
    expected = stage.result(output)
    print(f"{name}, {world_size} process(es), undisturbed: {seconds:.1f} s, {len(expected)} results", flush=True)
    for number in range(options.trials):
        output = folder / f"trial-{name}-{world_size}-{number}"
        happened = trial(stage, data, output, world_size, seconds, rng)
        largest = difference(stage.result(output), expected) if "does not end" not in happened else float("inf")
        is_good = largest <= TOLERANCE[world_size]
        failed += not is_good
        verdict = "as undisturbed" if is_good else "DIFFERS"
        print(f"  {number:2} {happened}: {verdict}, largest difference {largest:g}", flush=True)
        shutil.rmtree(output)
    return failed


def main() -> None:
    """Try and print."""
    (options,) = parse([Options], "Disturb small runs and compare what they end with.")
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        data = Path(name, "data")
        sizes = ["--chips", "4", "2", "--scenes", "6", "3"]
        subprocess.run(
            [sys.executable, str(TOP / "example/simulate.py"), "--output_dir", str(data), *sizes], check=True
        )
        for stage in options.stages:
            for world_size in options.processes if stage == "pre-training" else (1,):
                failed += try_stage(stage, data, Path(name), world_size, options)
    print("all runs ended as if undisturbed" if not failed else f"{failed} runs ended differently")
    sys.exit(failed > 0)


if __name__ == "__main__":
    with exit_on_input_error():
        main()
