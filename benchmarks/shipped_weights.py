"""Make example/weights again: the images, two pre-trainings one after the other, and the export.

    python benchmarks/shipped_weights.py DATA RUN          # hours; go on with the same command
    python -m saratrx.export RUN/second/checkpoint-60.pth example/weights --half

DATA holds MSTAR_SOC, SAR_ACD/images and OpenSARShip. Seen are the middle 96 px of MSTAR's training chips, twice in
every epoch; of the other two the half of each class that `--eval_data` has for training, so that the rest can test; and
100 simulated chips a class. No test chip of MSTAR is seen, nor MSTAR_DET, into whose images such chips are pasted.
"""

import shutil
import subprocess
import sys
import time
from pathlib import Path

from hivit_mae.data.labelled import find_labelled
from machine import parsed
from saratrx.command_line import Parser
from saratrx.errors import InputError, exit_on_input_error
from targets import SCRIPT, cut_middles

SIMULATOR = Path(__file__).parents[1] / "example/simulate.py"
HALVES = {"sar_acd": "SAR_ACD/images", "opensarship": "OpenSARShip"}
FIRST = ("--epochs", "72", "--warmup_epochs", "3")
FIRST_ENDS = 20  # epochs
SECOND = ("--target", "sar_jepa", "--epochs", "60", "--warmup_epochs", "2")


def run(script: Path, *words: str) -> None:
    """Run a script of the project; raises InputError if it fails."""
    if subprocess.run([sys.executable, str(script), *words], check=False).returncode:
        raise InputError(f"{script.name} has failed: see above")


def make_images(data: Path, output: Path) -> list[Path]:
    """Make the folders of images, and list them."""
    cut_middles(data / "MSTAR_SOC/TRAIN", output / "mstar")
    shutil.copytree(output / "mstar", output / "mstar_again", dirs_exist_ok=True)
    for name, folder in HALVES.items():
        train, _ = find_labelled(data / folder, 1)
        for path in map(Path, train.paths):
            copy = output / name / path.relative_to(data / folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    made = output.parent / "simulated"
    run(SIMULATOR, "--output_dir", str(made), "--chips", "100", "1", "--scenes", "1", "1", "--seed", "1000")
    shutil.copytree(made / "chips/TRAIN", output / "simulated", dirs_exist_ok=True)
    return sorted(path for path in output.iterdir() if path.is_dir())


def main() -> None:
    """Make all."""
    parser = Parser(description="Pre-train what example/weights holds.")
    parser.add_argument("data", type=Path, metavar="DATA", help="folder of MSTAR_SOC, SAR_ACD and OpenSARShip")
    parser.add_argument("run", type=Path, metavar="RUN", help="folder for images and runs")
    args = parsed(parser)
    images = make_images(args.data, args.run / "images")
    words = [
        *("--data_path", *map(str, images), "--cache", str(args.run / "cache"), "--augment", "device"),
        *("--model", "mae_hivit_nano_dec128d2b", "--input_size", "128", "--batch_size", "64", "--lr", "6e-4"),
        *("--resume", "auto", "--save_every", "10", "--num_workers", "0", "--device", "cpu", "--seed", "0"),
    ]
    start = args.run / f"first/checkpoint-{FIRST_ENDS}.pth"
    first = subprocess.Popen([sys.executable, str(SCRIPT), *words, "--output_dir", str(args.run / "first"), *FIRST])
    while first.poll() is None and not start.exists():
        time.sleep(1)
    first.terminate()
    first.wait()
    run(SCRIPT, *words, "--output_dir", str(args.run / "second"), "--init_weights", str(start), *SECOND)


if __name__ == "__main__":
    with exit_on_input_error():
        main()
