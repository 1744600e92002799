"""Going on where a run was stopped: finished scenes are known by their files, windows of an unfinished one are kept."""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config

from coco_annotations.scene_options import SceneOptions, WindowOptions
from saratrx import __version__
from saratrx.files import content_hash, refused_if_unwritable, write_bytes
from saratrx.reporting import get_logger

log = get_logger(__name__)

SECONDS = 10.0  # between two writings of what was found so far
Run = dict[str, Any]  # plain facts, as JSON has them
Found = tuple[torch.Tensor, ...]
PARTS = ("boxes", "scores", "labels", "frames")


def run_of(cfg: Config, options: SceneOptions, how: WindowOptions, device: torch.device) -> Run:
    """Give all that decides what is found in a scene, but for the scene."""
    return {
        "config": hashlib.sha256(repr(cfg.to_dict()).encode(errors="surrogateescape")).hexdigest(),
        "checkpoint": content_hash(options.checkpoint),
        "classes": None if options.classes is None else list(options.classes),
        "wgs84": options.wgs84,
        "device": str(device),
        **asdict(how),
        "saratrx": __version__,
        "torch": str(torch.__version__),
    }


def of_scene(run: Run, path: Path) -> Run:
    """Give the run over one scene."""
    state = path.stat()
    scene = {"path": str(path.resolve()), "bytes": state.st_size, "mtime_ns": state.st_mtime_ns}
    return run | {"scene": scene}


def is_finished(targets: Path, run: Run) -> bool:
    """Whether a scene's COCO file says that it is of this run, and the files beside it are those written with it."""
    try:
        info = json.loads(targets.read_bytes())["info"]
        said, files = dict(info["run"]), dict(info["files"])
        is_whole = all(content_hash(targets.with_name(name)) == value for name, value in files.items())
    except Exception:  # not there, of an earlier version, or of somebody else
        return False
    return is_same(said, run, targets) and is_whole


def is_same(said: Run, run: Run, path: Path) -> bool:
    """Whether a file is of this run; tells what differs if it is not."""
    others = [name for name in run if said.get(name) != run[name]]
    if others:
        log.info("%s is of another run (not the same %s): begun anew", path, ", ".join(others))
    return not others


class Kept:
    """What the windows of a scene have shown so far, in a file that the next run over it goes on from.

    Args:
        path: of the file; None keeps nothing.
        run: that it belongs to; a file of another run does not count.

    """

    def __init__(self, path: Path | None = None, run: Run | None = None) -> None:
        self.path, self.run, self.written = path, run or {}, time.monotonic()
        self.looks: dict[str, tuple[int, Found]] = {}
        if path is None or not path.exists():
            return
        try:
            with np.load(BytesIO(path.read_bytes()), allow_pickle=False) as file:
                said, counts = dict(json.loads(str(file["run"]))), json.loads(str(file["windows"]))
                looks = {
                    look: (count, tuple(torch.from_numpy(file[f"{look}_{part}"]) for part in PARTS))
                    for look, count in counts.items()
                }
        except Exception as error:  # a damaged archive makes NumPy raise anything
            log.warning("%s holds no windows that a run has kept: begun anew (%s)", path, type(error).__name__)
            return
        if is_same(said, self.run, path):
            self.looks = looks

    @property
    def windows(self) -> int:
        """How many windows were looked at."""
        return sum(count for count, _ in self.looks.values())

    def of(self, look: str) -> tuple[int, list[Found]]:
        """Give how many windows of the first or the second look were looked at, and what they have shown."""
        count, found = self.looks.get(look, (0, None))
        return count, [] if found is None else [found]

    def keep(self, look: str, count: int, found: Sequence[Found]) -> None:
        """Write what the first `count` windows of a look have shown, if the last time is long ago.

        Raises:
            InputError: if the file cannot be written.

        """
        if self.path is None or time.monotonic() - self.written < SECONDS:
            return
        self.looks[look] = count, tuple(torch.cat(parts) for parts in zip(*found, strict=True))
        content = BytesIO()
        arrays: dict[str, Any] = {
            f"{name}_{part}": values.numpy()
            for name, (_, shown) in self.looks.items()
            for part, values in zip(PARTS, shown, strict=True)
        }
        counts = {name: windows for name, (windows, _) in self.looks.items()}
        arrays |= {"run": np.array(json.dumps(self.run)), "windows": np.array(json.dumps(counts))}
        np.savez(content, **arrays)
        with refused_if_unwritable(self.path):
            write_bytes(self.path, content.getvalue())
        self.written = time.monotonic()

    def remove(self) -> None:
        """Delete the file: the scene is finished."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
