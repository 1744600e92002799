"""MMEngine's reading and writing of checkpoints, made the project's own: nothing in a file is run, no file is torn.

MMEngine reads a file that its safe way refuses once more, with Python's pickle, which runs what the file says. All its
ways to a file end in two functions, which are replaced here: for files (`load_from`, `resume`, `init_cfg`, inference),
and for downloads (http, torchvision://, openmmlab://). It also runs the config that a checkpoint has as text: that is
taken out. And it writes checkpoints in place, which a crash tears.
"""

import hashlib
import os
import urllib.error
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import checkpoint as engine
from mmengine.runner import runner as engine_runner

from saratrx.checkpoint import CheckpointError, read_checkpoint
from saratrx.files import open_whole, refused_if_unwritable

TEXT_THAT_IS_RUN = ("cfg", "config")  # MMEngine's Config.fromstring runs it as Python


def statistic(owner: type, name: str) -> object:
    """Give a method of HistoryBuffer; stands in for `getattr` in files, which could reach anything."""
    if owner is not HistoryBuffer or name not in ("min", "max", "current", "mean"):
        raise ValueError(f"{name} of {owner} is no statistic of a log")
    return getattr(owner, name)


# MMEngine's checkpoints hold the curves since the last line of the log as pickled arrays
ALLOWED: list[Any] = [HistoryBuffer, (statistic, "builtins.getattr")]


def read_for_mmengine(file: Any, map_location: object = None, weights_only: object = None) -> dict[str, Any]:
    """Read a checkpoint for MMEngine, in the place of its own function; onto the CPU, whatever is asked for.

    Raises:
        CheckpointError: for a file that is missing, torn, no dict, or that could run code.

    """
    if not isinstance(file, str | Path):
        raise CheckpointError("a checkpoint that is no file here cannot be read safely; fetch it and give its path")
    content = read_checkpoint(file, ALLOWED)
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} holds a {type(content).__name__}, not a dict of weights")
    return without_configs(content)


def without_configs(content: dict[str, Any]) -> dict[str, Any]:
    """Take out of a checkpoint the text of its config, which MMEngine would run."""
    hub = content.get("message_hub")
    for holder in (content.get("meta"), hub.get("runtime_info") if isinstance(hub, dict) else None):
        if isinstance(holder, dict):
            for name in TEXT_THAT_IS_RUN:
                holder.pop(name, None)
    return content


def read_local(filename: str, map_location: object = None) -> dict[str, Any]:
    """Read a local file for MMEngine."""
    return read_for_mmengine(Path(filename).expanduser())


def read_url(
    url: str, model_dir: str | None = None, map_location: object = None, progress: bool = True, **_: object
) -> dict[str, Any]:
    """Download a checkpoint to PyTorch's cache, unless it is there, and read it.

    Raises:
        CheckpointError: if it cannot be fetched, or read.

    """
    folder = Path(model_dir or Path(torch.hub.get_dir(), "checkpoints"))
    name = Path(urlsplit(url).path).name or "checkpoint.pth"
    path = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:8]}-{name}"
    if not path.is_file():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), progress=progress)
        except (OSError, ValueError, urllib.error.URLError) as error:
            raise CheckpointError(f"{url} cannot be fetched: {error}; fetch it yourself and give its path") from error
    return read_for_mmengine(path)


def write_for_mmengine(
    checkpoint: dict[str, Any], filename: str, file_client_args: object = None, backend_args: object = None
) -> None:
    """Write a checkpoint whole or not at all, with its hash beside it.

    Raises:
        InputError: if it cannot be written, as on a full disk; an old file is then still there.

    """
    with refused_if_unwritable(filename), open_whole(os.fspath(filename), with_hash=True) as file:
        torch.save(checkpoint, cast(Any, file))


def install() -> None:
    """Put the functions in the place of MMEngine's."""
    engine._safe_torch_load = read_for_mmengine
    engine.load_url = read_url
    engine.load_from_local = read_local
    engine.CheckpointLoader.register_scheme("", read_local, force=True)
    engine.save_checkpoint = engine_runner.save_checkpoint = write_for_mmengine
