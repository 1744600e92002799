"""`saratrx NAME ...`: one entry to the scripts of all stages, each the same as if it were called by its path.

saratrx                      # lists what there is
saratrx pretrain --help
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from saratrx import __version__
from saratrx.errors import InputError, exit_on_input_error, interrupt_ends_at_once
from saratrx.reporting import print_any_name

TOP = Path(__file__).parents[1]
USAGE = "usage: saratrx NAME [options of the command], or saratrx NAME --help"


@dataclass(frozen=True)
class Command:
    """A script below the top of the project, or a module of this package, and what it does."""

    script: str
    about: str

    def words(self) -> list[str]:
        """Give what starts it with this Python.

        Raises:
            InputError: if the script is not there: the package was installed without the stages' folders.

        """
        if self.script.startswith("saratrx."):
            return [sys.executable, "-m", self.script]
        path = TOP / self.script
        if not path.is_file():
            raise InputError(
                f"{path} is missing: the stages' scripts are in a clone of the project; install it there with "
                "pip install --editable ."
            )
        return [sys.executable, str(path)]


COMMANDS = {
    "simulate": Command("example/simulate.py", "make SAR-like chips and scenes, to try the rest"),
    "data": Command("pre-training/prepare_data.py", "make a checked set of chips of whatever images you have"),
    "pretrain": Command("pre-training/main_pretrain.py", "pre-train an encoder on images without labels"),
    "classify": Command("classification/train.py", "train and test a classifier with few labels, or a whole table"),
    "compare": Command("classification/compare_results.py", "compare experiments, with intervals and paired tests"),
    "predict": Command("classification/predict.py", "classify images with the classifier of a run"),
    "embed": Command("classification/embed.py", "turn images into features of an encoder"),
    "similar": Command("classification/similar.py", "find the images of an embedded folder that are like others"),
    "export-classifier": Command("classification/export_classifier.py", "write the classifier of a run as ONNX"),
    "check-coco": Command("detection/tools/check_coco.py", "check annotations before training a detector"),
    "detect": Command("detection/tools/train.py", "train a detector"),
    "detect-test": Command("detection/tools/test.py", "test a detector"),
    "export-detector": Command("detection/tools/export_detector.py", "write a one-stage detector as ONNX"),
    "scene": Command("detection/huge_image_infer.py", "find targets in scenes of any size"),
    "export": Command("saratrx.export", "write an encoder in the layout of timm and Hugging Face"),
    "visualize": Command("saratrx.visualize", "draw what an encoder makes of images"),
    "demo": Command("example/demo.py", "a page in the browser to drop images on"),
    "models": Command("saratrx.models", "list the sizes of HiViT, and the configs that belong to each"),
    "doctor": Command("saratrx.doctor", "say what is installed, what computes, and what is slow and why"),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Become, or run, the command that the first word of the command line (or of `argv`) names."""
    words = list(sys.argv[1:] if argv is None else argv)
    with exit_on_input_error():
        if not words or words[0] in {"-h", "--help"}:
            print("\n".join([USAGE, "", *(f"  {name:19}{each.about}" for name, each in COMMANDS.items())]))
            return
        if words[0] == "--version":
            print(f"saratrx {__version__}")
            return
        if words[0] not in COMMANDS:
            raise InputError(f"{words[0][:60]}: no such command; saratrx alone lists them")
        script = COMMANDS[words[0]].script
        if script.startswith("saratrx."):
            with interrupt_ends_at_once():  # with PyTorch, which takes seconds
                module = import_module(script)
            sys.argv = [script, *words[1:]]
            print_any_name()
            module.main()
            return
        command = COMMANDS[words[0]].words()
        sys.stdout.flush()
        os.execv(command[0], [*command, *words[1:]])


if __name__ == "__main__":
    main()
