"""Checkpoints: written so that a crash cannot tear them, read so that they cannot run code, loaded without silence.

Beside each file stands one with its hash, in the form of `sha256sum`, against which it is checked when it is read.

For example:
    save_checkpoint("out/checkpoint-100.pth", model=model.state_dict(), epoch=100)
    weights = load_checkpoint("out/checkpoint-100.pth")["model"]
    load_encoder(classifier, "out/checkpoint-100.pth", missing_ok=("fc_norm.", "head."))
"""

import math
import os
import pickle
import re
import warnings
import zipfile
from argparse import Namespace
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO, cast

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file as load_safetensors

from saratrx.errors import InputError
from saratrx.files import hash_path, is_as_hashed, is_file, open_whole
from saratrx.hivit import SIZES, HiViT
from saratrx.position import resize_bias_table, resize_position_embedding
from saratrx.reporting import get_logger
from saratrx.tuning import fitted

log = get_logger(__name__)
Weights = dict[str, torch.Tensor]
Allowed = Callable[..., Any] | tuple[Callable[..., Any], str]  # of a function, the name that it stands in for too

# What the stages add to the encoder: of no use to a model that does not have it, so a file may hold it
ADDED_TO_ENCODER = ("decoder_", "mask_token", "norm.", "sarfeature", "fc_norm.", "head.")
PARTS_OF_DETECTORS = ("neck.", "rpn_head.", "roi_head.", "bbox_head.", "mask_head.", "fpn")
# Computed from the size of the model, never taken from a file
COMPUTED = ("relative_position_index",)
UNCOMMON = tuple(
    kind
    for kind in vars(torch).values()
    if isinstance(kind, torch.dtype) and kind.is_floating_point and kind.itemsize < 2
)  # types that PyTorch cannot compute with
NAMED_AT_MOST = 4  # keys of one kind that an error names
HAVE_CONFIGS = ("nano", "tiny", "base")  # sizes, in the classification stage
WRAPPERS = ("module.", "_orig_mod.", "model.", "backbone.", "encoder.")  # around an encoder whose keys all begin so


class CheckpointError(InputError):
    """A file that is no checkpoint, an unsafe one, or one for another model."""


class Settings:
    """Stands in for the settings objects that checkpoints of other tools hold: a plain dict of their values."""

    def __new__(cls, *_: Any) -> "OrderedDict[str, Any]":  # type: ignore[misc]  # the unpickler asks it for an object
        return OrderedDict()


ARRAYS: dict[str, Any] = {"scalar": np.float64(0).__reduce__()[0], "_reconstruct": np.zeros(1).__reduce__()[0]}
SETTINGS = ("yacs.config", "fvcore.common.config", "mmengine.config", "mmengine.config.config", "mmcv.utils.config")
# What checkpoints pickle beside their weights, none of which can run anything
HARMLESS: list[Allowed] = [
    Namespace,
    *[(Settings, f"{module}.{name}") for module in SETTINGS for name in ("CfgNode", "ConfigDict")],
    *[(PurePosixPath, f"{module}.PosixPath") for module in ("pathlib", "pathlib._local")],
    *[(PureWindowsPath, f"{module}.WindowsPath") for module in ("pathlib", "pathlib._local")],
    np.ndarray,
    np.dtype,
    *[type(np.dtype(code)) for code in "?bhilqBHILQefdgFDG"],
    *[
        (maker, f"{module}.multiarray.{name}")
        for module in ("numpy.core", "numpy._core")
        for name, maker in ARRAYS.items()
    ],
]


def save_checkpoint(path: str | Path, **state: Any) -> None:
    """Write `state` to `path` in one step, with its hash: after a crash there is the old file or the new one.

    Args:
        path: the file; its folder must exist.
        **state: tensors, numbers, strings, and dicts and lists of them: what `load_checkpoint` can read.

    Raises:
        OSError: if it cannot be written, as on a full disk; an old file is then still there.

    """
    with open_whole(path, with_hash=True) as file:
        torch.save(state, cast(BinaryIO, file))  # write and flush are all that it needs


def check_hash(path: Path) -> None:
    """Compare a checkpoint with the hash beside it, if there is one.

    Raises:
        CheckpointError: if they differ.

    """
    if not is_as_hashed(path):
        raise CheckpointError(
            f"{path} is torn or was changed: {hash_path(path).name} names another content; take an earlier one or "
            "fetch it again"
        )


def read_checkpoint(path: str | Path, allowed: Sequence[Allowed] = ()) -> Any:
    """Read a file of torch.save or a safetensors file onto the CPU, whatever it holds, without running any of it.

    Args:
        path: the file.
        allowed: classes and functions, known to be harmless, that it may pickle too.

    Raises:
        CheckpointError: for a file that is missing, torn, not what the hash beside it says, or that pickles any other
            object, or tensors that are no plain arrays of its own bytes.

    """
    path = Path(path)
    if not is_file(path):
        raise CheckpointError(f"{path}: no such file; give the path of a checkpoint")
    check_hash(path)
    content = load_safetensors_file(path) if path.suffix == ".safetensors" else load_pickled_file(path, allowed)
    refuse_odd_tensors(path, content)
    return content


def load_checkpoint(path: str | Path, allowed: Sequence[Allowed] = ()) -> dict[str, Any]:
    """Read a checkpoint onto the CPU without running anything that it contains.

    Accepted: a dict with the weights under `model` or `state_dict`, a bare state dict, safetensors; keys with
    DistributedDataParallel's prefix `module.` or torch.compile's `_orig_mod.`; a pickled `argparse.Namespace`, as
    published files hold it, and what else is `HARMLESS`.

    Args:
        path: the file.
        allowed: classes and functions, known to be harmless, that it may pickle too.

    Returns:
        The file's dict, with the weights under `model`, without prefix, and a Namespace as a plain dict.

    Raises:
        CheckpointError: for a file that is missing, torn, without weights, not what the hash beside it says, or that
            pickles any other object.

    """
    content = read_checkpoint(path, allowed)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a dict of weights")

    content = {key: vars(value) if isinstance(value, Namespace) else value for key, value in content.items()}
    for key in ("model", "state_dict"):
        if isinstance(content.get(key), dict):
            weights = content.pop(key)
            break
    else:
        weights, content = content, {}
    if not weights or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise CheckpointError(
            f"{path} holds no weights: expected tensors at the top or under 'model' or 'state_dict', found "
            f"{', '.join(map(str, list(weights)[:NAMED_AT_MOST])) or 'nothing'}"
        )
    weights = {str(key).removeprefix("module.").replace("_orig_mod.", ""): value for key, value in weights.items()}
    return content | {"model": weights}


def encoder_weights(weights: Weights) -> Weights:
    """Take the prefix off the keys of an encoder that another model wraps.

    Other keys of a detector keep their names, which no encoder has.
    """
    if any(key.startswith("backbone.") for key in weights):
        return {key.removeprefix("backbone."): value for key, value in weights.items()}
    for prefix in WRAPPERS:
        if all(key.startswith(prefix) for key in weights):
            return encoder_weights({key.removeprefix(prefix): value for key, value in weights.items()})
    return weights


def refuse_nonfinite(path: str | Path, weights: Weights) -> None:
    """Refuse weights that are NaN or infinite, unless SARATRX_ALLOW_NONFINITE=1.

    Raises:
        CheckpointError: naming the file and the keys.

    """
    if os.environ.get("SARATRX_ALLOW_NONFINITE") == "1":
        return
    keys = [key for key, value in weights.items() if value.is_floating_point() and not value.isfinite().all()]
    if keys:
        raise CheckpointError(
            f"{path} has values that are not finite in {len(keys)} of {len(weights)} tensors, such as {keys[0]}: "
            "its training failed; take an earlier one, or set SARATRX_ALLOW_NONFINITE=1"
        )


def load_safetensors_file(path: Path) -> Weights:
    """Read a safetensors file, or say why not."""
    try:
        return load_safetensors(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file ({error})") from error


def load_pickled_file(path: Path, allowed: Sequence[Allowed] = ()) -> Any:
    """Read a file of torch.save, weights and what is `allowed` only, or say why not."""
    refuse_packed(path)
    try:
        with torch.serialization.safe_globals([*HARMLESS, *allowed]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged files, and of the inside of PyTorch's own reader
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL (\S+)", str(error))
        if asked:
            raise CheckpointError(
                f"{path} pickles {asked[1]}, which can run code, so it was not opened; save its weights alone, "
                "with torch.save(model.state_dict(), ...) or as safetensors"
            ) from error
        raise CheckpointError(f"{path} is not a checkpoint that can be read without running code") from error
    except Exception as error:  # a damaged file makes its parser raise anything at all, MemoryError too
        raise CheckpointError(f"{path} is torn or not a checkpoint; take an earlier one or fetch it again") from error


def refuse_packed(path: Path) -> None:
    """Refuse an archive that holds more bytes than it has: torch.save packs nothing, and zeros pack to nearly none.

    Raises:
        CheckpointError: naming it.

    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):  # an old file, or a torn one
        return
    if size > path.stat().st_size:
        raise CheckpointError(
            f"{path} is a packed archive, which torch.save does not write; unpack it, or fetch another"
        )


def refuse_odd_tensors(path: Path, content: Any) -> None:
    """Refuse tensors that are no plain arrays of numbers, or that spread a few bytes over more than the file has.

    Raises:
        CheckpointError: naming the file and what is odd.

    """
    size, left, seen = path.stat().st_size, [content], set()
    while left:
        value = left.pop()
        if isinstance(value, torch.Tensor):
            is_plain = value.layout == torch.strided and value.device.type == "cpu"
            if not is_plain or value.is_quantized or value.is_nested or value.dtype in UNCOMMON:
                raise CheckpointError(
                    f"{path} holds a sparse, quantised or empty tensor ({value.dtype}); save its weights as plain ones"
                )
            if value.numel() * value.element_size() > size:
                raise CheckpointError(f"{path} holds a tensor of {list(value.shape)}, more than its {size:,} bytes")
        elif isinstance(value, dict | list | tuple | set) and id(value) not in seen:
            seen.add(id(value))
            left += value.values() if isinstance(value, dict) else value


@dataclass
class LoadReport:
    """What became of every key of a model and of a file."""

    path: Path
    loaded: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)  # part of loaded
    new: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"weights from {self.path}"]
        for kind in ("loaded", "resized", "new", "ignored"):
            groups = Counter(key.split(".")[0] for key in getattr(self, kind))
            if groups:
                lines.append(f"  {kind:8}" + ", ".join(f"{name} ({count})" for name, count in groups.items()))
        return "\n".join(lines)


def load_encoder(model: HiViT, path: str | Path, missing_ok: tuple[str, ...] = ()) -> LoadReport:
    """Load a checkpoint of any stage into a HiViT or a model built on it, and report what was done.

    Position embeddings of another image size are resized. What another stage added to its encoder (a decoder, a
    classifier) is ignored where `model` has no such part; low-rank changes are added to their matrices.

    Args:
        model: gets the weights.
        path: anything that `load_checkpoint` reads.
        missing_ok: prefixes of the keys of `model` that stay as they are if the file lacks them or has other shapes.

    Returns:
        The report.

    Raises:
        CheckpointError: naming the keys, if any other key of the model is missing or has another shape, or the file
            has keys that belong to no part of any stage. `model` is then untouched.

    """
    own = model.state_dict()
    weights = load_checkpoint(path)["model"]
    is_detector = any(key.startswith("backbone.") for key in weights)
    found = fitted(encoder_weights(weights), own)
    refuse_nonfinite(path, found)
    report = LoadReport(Path(path))
    merged, missing, mismatched = dict(own), [], []
    for key, current in own.items():
        if key in COMPUTED:
            continue
        value = found.get(key)
        if value is not None and value.shape != current.shape:
            value = resize_to_grid(key, value, model)
            if value.shape == current.shape:
                report.resized.append(key)
        if value is not None and fits(value, current):
            merged[key] = value
            report.loaded.append(key)
        elif key.startswith(tuple(missing_ok)):
            report.new.append(key)
        elif value is None:
            missing.append(key)
        else:
            mismatched.append(mismatch(key, found[key], current))
    surplus = [key for key in found if key not in own and key not in COMPUTED]
    can_be_ignored = ADDED_TO_ENCODER + (PARTS_OF_DETECTORS if is_detector else ())
    report.ignored = [key for key in surplus if key.startswith(can_be_ignored)]
    report.ignored += [key for key in report.new if key in found]
    unexpected = [key for key in surplus if not key.startswith(can_be_ignored)]
    if missing or mismatched or unexpected:
        refuse_other_size(path, found, own)
    raise_if_any(path, missing=missing, mismatched=mismatched, unexpected=unexpected)
    model.load_state_dict(merged)
    log.info("%s", report)
    return report


def load_all(model: torch.nn.Module, weights: Weights, path: str | Path) -> None:
    """Load `weights`, read from `path`, into the very model that they were saved from, as resuming needs.

    Raises:
        CheckpointError: naming the keys, if the two do not have the same keys and shapes. `model` is then untouched.

    """
    own = model.state_dict()
    refuse_nonfinite(path, weights)
    if own.keys() != weights.keys():
        refuse_other_size(path, encoder_weights(weights), encoder_weights(own))
    raise_if_any(
        path,
        missing=[key for key in own if key not in weights],
        mismatched=[
            mismatch(key, weights[key], current)
            for key, current in own.items()
            if key in weights and not fits(weights[key], current)
        ],
        unexpected=[key for key in weights if key not in own],
    )
    model.load_state_dict(weights)


def fits(value: torch.Tensor, current: torch.Tensor) -> bool:
    """Whether a tensor can stand for a model's: of its shape, and of whole, real or complex numbers as it is."""
    is_alike = value.is_floating_point() == current.is_floating_point() and value.is_complex() == current.is_complex()
    return value.shape == current.shape and is_alike


def mismatch(key: str, value: torch.Tensor, current: torch.Tensor) -> str:
    """Say in what a file's tensor differs from the model's."""
    if value.shape != current.shape:
        return f"{key} {list(value.shape)} (the model's is {list(current.shape)})"
    return f"{key} {value.dtype} (the model's is {current.dtype})"


def resize_to_grid(key: str, value: torch.Tensor, model: HiViT) -> torch.Tensor:
    """Bring a trained position embedding or bias table of a square grid to the model's grid; leave other keys alone."""
    if key == "absolute_pos_embed":
        side = math.isqrt(value.shape[1])
        if side * side == value.shape[1]:
            return resize_position_embedding(value, (side, side), model.grid)
    elif key.endswith("relative_position_bias_table"):
        side = (math.isqrt(value.shape[0]) + 1) // 2
        if (2 * side - 1) ** 2 == value.shape[0]:
            return resize_bias_table(value, (side, side), model.grid)
    return value


def size_of(weights: Weights) -> str:
    """Name the size of HiViT that an encoder's weights are of; "" if it is none of `SIZES`."""
    embedding = weights.get("absolute_pos_embed")
    if embedding is None:
        return ""
    numbers = [int(found[1]) for key in weights if (found := re.match(r"blocks\.(\d+)\.", key))]
    for name, size in SIZES.items():
        outer, inner, main = size["depths"]
        blocks = 2 * outer + 2 * inner + main + 2  # two MLP blocks for one of attention, and the merges between stages
        if embedding.shape[-1] == size["embed_dim"] and max(numbers, default=-1) == blocks - 1:
            return name
    return ""


def refuse_other_size(path: str | Path, found: Weights, own: Weights) -> None:
    """Say of which size a file is where it is of another than the model.

    Raises:
        CheckpointError: naming both sizes and what to choose.

    """
    there, wanted = size_of(found), size_of(own)
    if there and wanted and there != wanted:
        config = f"CFG=vit_{there[0]}16" if there in HAVE_CONFIGS else f"MODEL.BACKBONE.NAME hivit_{there}"
        raise CheckpointError(
            f"{path} does not fit this model: it is of a HiViT-{there}, and this model is a HiViT-{wanted}: choose "
            f"that size, such as {config} in classification, configs/_hivit_/hivit_{there}_*.py in detection, or "
            f"--model mae_hivit_{there}_* in pre-training, or another checkpoint"
        )


def raise_if_any(path: str | Path, *, missing: list[str], mismatched: list[str], unexpected: list[str]) -> None:
    """Raise one sentence that names the first keys of each kind, if there are any."""
    complaints = []
    for text, keys in (("lacks", missing), ("disagrees in", mismatched), ("has the unknown", unexpected)):
        if keys:
            more = f" and {len(keys) - NAMED_AT_MOST} more" if len(keys) > NAMED_AT_MOST else ""
            complaints.append(f"{text} {', '.join(keys[:NAMED_AT_MOST])}{more}")
    if complaints:
        raise CheckpointError(f"{path} does not fit this model: it {'; it '.join(complaints)}")
