"""A network as an ONNX file that computes what PyTorch does."""

import importlib
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from saratrx.errors import InputError, first_line
from saratrx.files import refused_if_unwritable, write_bytes

TOLERANCE = 1e-4  # of the largest value
INSTALL = "pip install -e .[onnx], in the project's folder"
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def import_runtime() -> Any:
    """Import ONNX Runtime, and see that what writes files for it is there.

    Raises:
        InputError: that says what to install.

    """
    try:
        return [importlib.import_module(name) for name in PACKAGES][-1]
    except ImportError as error:
        raise InputError(f"ONNX needs more packages ({first_line(error)}): {INSTALL}") from error


def write_onnx(
    network: nn.Module, path: str | Path, inputs: Sequence[torch.Tensor], names: Sequence[str], free: Sequence[int]
) -> int:
    """Write a network, in float32, and compare what ONNX Runtime computes of it on the CPU with PyTorch.

    Args:
        network: of one tensor, in evaluation mode; gives a tensor for each of `names`.
        path: of the file.
        inputs: examples; the first is traced, all are compared.
        names: of the outputs. The input is called `images`.
        free: dimensions of the input that may have any length.

    Returns:
        The version of ONNX's operators (opset) that is needed.

    Raises:
        InputError: if a package is missing, the file cannot be written, or what it computes differs by more than 1e-4
            of the largest value.

    """
    runtime = import_runtime()
    with torch.no_grad():
        outputs = [network(example) for example in inputs]
    dynamic = {"images": dict.fromkeys(free, torch.export.Dim.DYNAMIC)}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it tells of operators of torchvision that it lacks
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            (inputs[0],),
            input_names=["images"],
            output_names=list(names),
            dynamic_shapes=dynamic,
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # with dynamo it is never
    content = program.model_proto.SerializeToString()
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for example, right in zip(inputs, outputs, strict=True):
        found = session.run(None, {"images": example.numpy()})
        refuse_unlike(path, found, (right,) if isinstance(right, torch.Tensor) else right)
    with refused_if_unwritable(path):
        write_bytes(path, content)
    return int(program.model_proto.opset_import[0].version)


def refuse_unlike(path: str | Path, found: Sequence[Any], right: Sequence[torch.Tensor]) -> None:
    """Raise an InputError if outputs are not those of PyTorch."""
    for values, tensor in zip(found, right, strict=True):
        wanted = tensor.numpy()
        if values.shape != wanted.shape or np.abs(values - wanted).max() > TOLERANCE * np.abs(wanted).max():
            raise InputError(
                f"{path}: what ONNX Runtime computes differs from PyTorch; take the tested versions: {INSTALL}"
            )
