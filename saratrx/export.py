"""The encoder of a checkpoint of any stage as a folder in the layout that timm and Hugging Face read.

    python -m saratrx.export checkpoint-800.pth FOLDER              # and --half for half the size

FOLDER gets model.safetensors and config.json. `timm.create_model("local-dir:FOLDER")` reads it after `import saratrx`;
classification takes it as MODEL.BACKBONE.NAME local-dir:FOLDER, or the weights alone as MODEL.INIT_WEIGHTS;
pre-training and detection as --init_weights and --init-weights. A decoder and a head are left out.

With --onnx, FOLDER gets model.onnx, too: images [B, 1, H, W], amplitude in [0, 1], sides any multiples of 16 -> tokens
[B, N, D], before any norm, and pooled [B, D], their mean.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from saratrx.checkpoint import encoder_weights, load_checkpoint, load_encoder, refuse_nonfinite, size_of
from saratrx.command_line import option, parse
from saratrx.errors import InputError, exit_on_input_error
from saratrx.files import refused_if_unwritable, try_writing, write_bytes, write_json
from saratrx.hivit import SIZES, HiViTClassifier, default_cfgs
from saratrx.onnx_file import import_runtime, write_onnx
from saratrx.reporting import print_any_name

PATCH = 16  # px


@dataclass(frozen=True)
class Options:
    """Files."""

    checkpoint: Path = option(help="of any stage", metavar="CHECKPOINT", positional=True)
    folder: Path = option(help="is made", metavar="FOLDER", positional=True)
    onnx: bool = option(False, help="write model.onnx, too, in single precision; needs pip install -e .[onnx]")
    half: bool = option(False, help="store half precision: half the size, weights within 0.05 %")


def export(checkpoint: Path, folder: Path, dtype: torch.dtype) -> dict[str, Any]:
    """Write the encoder of a checkpoint.

    Args:
        checkpoint: of any stage.
        folder: is made if it is not there; its two files are replaced.
        dtype: of the weights.

    Returns:
        What config.json says.

    Raises:
        InputError: for a file that is no HiViT of a known size, or has values that are not finite, also in `dtype`; or
            a folder that cannot be written.

    """
    weights = encoder_weights(load_checkpoint(checkpoint)["model"])
    size = size_of(weights)
    has_bias = any(key.endswith("relative_position_bias_table") for key in weights)
    side = math.isqrt(weights["absolute_pos_embed"].shape[1]) * PATCH if size else 0
    if not size or has_bias:
        raise InputError(f"{checkpoint} is of no known size of HiViT without relative positions: nothing to export")
    model = HiViTClassifier(**SIZES[size], img_size=side, num_classes=0)
    load_encoder(model, checkpoint, missing_ok=("fc_norm.",))  # which stays as it begins, 1 and 0
    stored = {key: value.to(dtype).contiguous() for key, value in model.state_dict().items()}
    refuse_nonfinite(checkpoint, stored)
    architecture = f"hivit_{size}_patch16_224"
    known = default_cfgs[architecture].default.to_dict()
    config = {
        "architecture": architecture,
        "num_classes": 0,
        "num_features": model.num_features,
        "model_args": {"img_size": side},
        "pretrained_cfg": known | {"input_size": (3, side, side), "num_classes": 0},
    }
    path = folder / "model.safetensors"
    if dtype != torch.float32 and path.is_file() and path.samefile(checkpoint):
        raise InputError(f"FOLDER {folder}: holds {checkpoint} itself, which would lose digits; choose another folder")
    try_writing(folder, "FOLDER")
    with refused_if_unwritable(path):
        write_bytes(path, save(stored, metadata={"format": "pt"}))
    with refused_if_unwritable(folder / "config.json"):
        write_json(folder / "config.json", config, indent=2)
    return config


class Features(nn.Module):
    """What ONNX files of encoders compute: tokens [B, N, D] and their mean [B, D], of amplitude images [B, 1, H, W]."""

    def __init__(self, model: HiViTClassifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = self.model.forward_features(images.expand(-1, 3, -1, -1))
        return tokens, tokens.mean(dim=1)


def export_onnx(folder: Path, config: dict[str, Any]) -> int:
    """Write model.onnx beside what `export` wrote; return the version of its operators.

    Raises:
        InputError: as `write_onnx`.

    """
    side = config["model_args"]["img_size"]
    size = config["architecture"].split("_")[1]
    model = HiViTClassifier(**SIZES[size], img_size=side, num_classes=0)
    load_encoder(model, folder / "model.safetensors")
    generator = torch.Generator().manual_seed(0)
    # traced at another size than that of training, at which the position embedding is not resized
    shapes = ((2, 1, side + 32, side + 16), (3, 1, side, side), (1, 1, 16, side + 16))
    examples = [torch.rand(*shape, generator=generator) for shape in shapes]
    return write_onnx(Features(model).eval(), folder / "model.onnx", examples, ("tokens", "pooled"), free=(0, 2, 3))


def main() -> None:
    """Export and say what was written."""
    (options,) = parse((Options,), "Write an encoder in the layout of timm and Hugging Face.")
    if options.onnx:
        import_runtime()
    config = export(options.checkpoint, options.folder, torch.float16 if options.half else torch.float32)
    size = (options.folder / "model.safetensors").stat().st_size / 1e6
    if options.onnx:
        version = export_onnx(options.folder, config)
        print(f"wrote {options.folder}/model.onnx (opset {version}); ONNX Runtime computes the same")
    print(f"wrote {options.folder}: {config['architecture']}, {config['model_args']['img_size']} px, {size:.1f} MB")


if __name__ == "__main__":
    print_any_name()
    with exit_on_input_error():
        main()
