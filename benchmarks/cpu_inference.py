"""An exported encoder on a CPU: PyTorch in float32 and bf16, ONNX Runtime in float32 and int8; speed and accuracy.

    python -m saratrx.export example/weights/model.safetensors nano --onnx
    python benchmarks/cpu_inference.py nano MSTAR_SOC

NANO is a folder of `saratrx.export --onnx`. Speed is the best of several rounds in which the forms take turns, as a
ratio to PyTorch in float32 of the same rounds; accuracy is that of nearest neighbours and of a 5-shot probe (ten draws)
on the mean tokens of the middle 64 px of MSTAR's chips, scaled to the encoder's size. int8 is ONNX Runtime's dynamic
quantisation of weights and activations, without calibration. It is written into the folder as model_int8.onnx.
"""

import importlib
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate

from hivit_mae.data.labelled import find_labelled
from hivit_mae.run import evaluation
from machine import describe, parsed
from saratrx.checkpoint import load_encoder
from saratrx.command_line import Parser
from saratrx.errors import InputError, exit_on_input_error
from saratrx.files import write_json
from saratrx.hivit import SIZES, HiViTClassifier
from saratrx.onnx_file import import_runtime

MIDDLE = 64  # px
SHOTS = 5
Form = Callable[[torch.Tensor], torch.Tensor]  # images [B, 1, S, S] in [0, 1] -> pooled [B, D]


def make_forms(folder: Path, side: int, size: str) -> dict[str, Form]:
    """Make the four forms of an encoder.

    Raises:
        InputError: if the folder lacks model.onnx.

    """
    runtime = import_runtime()
    quantization = importlib.import_module("onnxruntime.quantization")
    model = HiViTClassifier(**SIZES[size], img_size=side, num_classes=0).eval()
    load_encoder(model, folder / "model.safetensors")

    def torch_form(is_bf16: bool) -> Form:
        @torch.no_grad()
        def compute(images: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
                return model.forward_features(images.expand(-1, 3, -1, -1)).float().mean(dim=1)

        return compute

    def onnx_form(path: Path) -> Form:
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda images: torch.from_numpy(session.run(["pooled"], {"images": images.numpy()})[0])

    path = folder / "model.onnx"
    if not path.is_file():
        raise InputError(f"{path}: no such file; export the encoder with --onnx")
    logging.getLogger().setLevel(logging.ERROR)  # it advises a step that does nothing here
    quantised = folder / "model_int8.onnx"
    quantization.quantize_dynamic(path, quantised, weight_type=quantization.QuantType.QInt8)
    return {
        "PyTorch float32": torch_form(is_bf16=False),
        "PyTorch bf16": torch_form(is_bf16=True),
        "ONNX Runtime float32": onnx_form(path),
        "ONNX Runtime int8": onnx_form(quantised),
    }


def seconds(forms: dict[str, Form], images: torch.Tensor, rounds: int) -> dict[str, float]:
    """Measure how long each form takes for a batch: the best of rounds in which they take turns."""
    best = dict.fromkeys(forms, float("inf"))
    for _ in range(rounds):
        for name, compute in forms.items():
            compute(images)
            begun = time.perf_counter()
            compute(images)
            best[name] = min(best[name], time.perf_counter() - begun)
    return best


def main() -> None:
    """Measure and print."""
    parser = Parser(description="Speed and accuracy of an exported encoder on a CPU, in four forms.")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="of saratrx.export --onnx")
    parser.add_argument(
        "data", type=Path, metavar="DATA", help="folder with TRAIN and TEST, a folder per class in each"
    )
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    args = parsed(parser)
    try:
        config = json.loads((args.folder / "config.json").read_text(encoding="utf-8"))
        side, size = config["model_args"]["img_size"], config["architecture"].split("_")[1]
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise InputError(f"{args.folder} is no folder of saratrx.export") from error
    forms = make_forms(args.folder, side, size)
    train, test = find_labelled(args.data, SHOTS)
    images = [part.read(side, MIDDLE) for part in (train, test)]
    single, batch = (seconds(forms, images[1][:number].float() / 255, args.rounds) for number in (1, args.batch_size))
    rows = []
    for name, compute in forms.items():
        found = [
            torch.cat([compute(part.float() / 255) for part in each.split(64)]).numpy().astype(np.float64)
            for each in images
        ]
        probes = evaluation.probe_accuracies(found[0], train.labels, found[1], test.labels, SHOTS)
        rows.append(
            {
                "form": name,
                "ms an image, alone": 1000 * single[name],
                "times": single["PyTorch float32"] / single[name],
                f"images/s, {args.batch_size} at once": args.batch_size / batch[name],
                "times ": batch["PyTorch float32"] / batch[name],
                "k-NN, %": evaluation.knn_accuracy(found[0], train.labels, found[1], test.labels),
                "5-shot, %": float(probes.mean()),
            }
        )
    print(describe(torch.device("cpu")))
    print(tabulate(rows, headers="keys", tablefmt="github", floatfmt=".2f"))
    if args.json:
        write_json(args.json, {"machine": describe(torch.device("cpu")), "rows": rows}, indent=1)


if __name__ == "__main__":
    with exit_on_input_error():
        main()
