"""Options of finding targets in scenes, and what can be told of them before PyTorch is there."""

from collections import Counter
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from coco_annotations.reading import channel_option, remap_option
from coco_annotations.run_options import missing_checkpoint, wrong_config
from saratrx.command_line import at_least, between, option
from saratrx.errors import raise_problems
from saratrx.files import is_file, is_folder
from saratrx.grey_scale import Remap

LARGEST_WINDOW = 2**16  # px a side
LARGEST_BATCH = 1024


@dataclass(frozen=True)
class SceneOptions:
    """What is looked at, and for what."""

    config: Path = option(positional=True, help="that the detector was trained with; it is Python and is run")
    checkpoint: Path = option(positional=True, help="of tools/train.py")
    scenes: tuple[Path, ...] = option(positional=True, help="GeoTIFF, SICD, SIDD, .npy, PNG, or any other that is read")
    output_dir: Path = option(Path("detections"), help="where files of what is found go")
    classes: tuple[str, ...] | None = option(None, help="look for these alone", default_text="all of the config")
    remap: Remap | None = remap_option()  # noqa: RUF009 -- makes a field
    channel: str | None = channel_option()
    wgs84: bool = option(False, help="GeoJSON in longitude and latitude (RFC 7946), not in the file's own coordinates")
    parquet: Path | None = option(None, help="a file for the targets of all scenes in one table", metavar="FILE")
    device: str = option("auto", help="cuda, cuda:1, cpu, ...", default_text="a GPU if there is one")

    def __post_init__(self) -> None:
        problems = [*wrong_config(self.config), *missing_checkpoint(self.checkpoint)]
        stems = Counter(path.stem for path in self.scenes)
        twice = [
            f"{stem}: several scenes have this name; give each an --output_dir" for stem in stems if stems[stem] > 1
        ]
        missing = [f"{path}: no such file; give the path of a scene" for path in self.scenes if not is_file(path)]
        raise_problems(problems + (twice or missing) + self.wrong_parquet())

    def wrong_parquet(self) -> list[str]:
        """Say why the one table cannot be written."""
        if self.parquet is None:
            return []
        if find_spec("pyarrow") is None:
            return ["--parquet needs the package pyarrow: pip install -e '.[parquet]', from the top of the project"]
        return [f"--parquet {self.parquet}: is a folder; name a file"] if is_folder(self.parquet) else []


@dataclass(frozen=True)
class WindowOptions:
    """How it looks."""

    window: int = option(1024, help="side of the windows in pixels")
    overlap: int | None = option(
        None, help="pixels that windows share; longer targets are looked at again", default_text="an eighth"
    )
    batch: int | None = option(None, help="windows at once", default_text="8 on a GPU, else 1")
    score: float = option(0.3, help="targets below are dropped")
    nms: float = option(0.5, help="boxes that overlap more are one target")
    merge: Literal["union", "best"] = option(
        "union", help="of a target that no window shows whole: join its pieces, or keep the largest"
    )
    amp: bool = option(False, help="compute in bfloat16: faster, nearly the same")

    def __post_init__(self) -> None:
        problems = at_least(1, window=self.window, batch=self.batch)
        if not problems:
            problems += between(1, LARGEST_WINDOW, window=self.window) + between(1, LARGEST_BATCH, batch=self.batch)
        if self.window >= 1 and self.overlap is not None:
            problems += wrong_overlap(self.window, self.overlap)
        raise_problems(problems + between(0, 1, score=self.score, nms=self.nms))


def wrong_overlap(window: int, overlap: int) -> list[str]:
    """Say what is wrong with an overlap, if anything is."""
    is_right = 0 <= overlap < window
    return [] if is_right else [f"--overlap {overlap}: must be from 0 to less than --window {window}"]
