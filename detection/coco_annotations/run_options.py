"""Options of training and testing, and what can be told of them before PyTorch is there: a wrong call ends at once."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from coco_annotations.reading import channel_option, remap_option
from saratrx.command_line import at_least, option
from saratrx.errors import first_line, raise_problems
from saratrx.files import is_file, is_folder
from saratrx.grey_scale import Remap

LARGEST_SEED = 2**32 - 1  # MMEngine gives it to NumPy
LARGEST_SIDE = 4096  # px, of images of an exported detector, which looks at them whole
SET_BY_LAUNCHER = {"pytorch": "LOCAL_RANK", "slurm": "SLURM_PROCID", "mpi": "OMPI_COMM_WORLD_LOCAL_RANK"}
STARTED_BY = {"pytorch": "tools/dist_train.sh", "slurm": "tools/slurm_train.sh", "mpi": "mpirun"}


@dataclass(frozen=True)
class RunOptions:
    """The run."""

    config: Path = option(positional=True, help="config file; it is Python and is run, so take one that you trust")
    work_dir: str | None = option(
        None, help="where logs, checkpoints and results go", default_text="work_dirs/<config>"
    )
    data_root: Path | None = option(None, help="the data set's folder", default_text="the config's")
    remap: Remap | None = remap_option()  # noqa: RUF009 -- makes a field
    channel: str | None = channel_option()
    launcher: Literal["none", "pytorch", "slurm", "mpi"] = option("none", help="what has started the processes")
    cfg_options: tuple[str, ...] = option((), metavar="KEY=VALUE", help="any key of the config")
    local_rank: int = option(0, names=("--local_rank",), help="set by the launcher", default_text="")

    def __post_init__(self) -> None:
        problems = [f"--cfg-options {each}: give KEY=VALUE" for each in self.cfg_options if "=" not in each[1:]]
        if self.data_root is not None and not is_folder(self.data_root):
            problems.append(f"--data-root {self.data_root}: no such folder; give the data set's folder")
        needed = SET_BY_LAUNCHER.get(self.launcher)
        if needed and needed not in os.environ:
            problems.append(
                f"--launcher {self.launcher}: {needed} is not set; start it with {STARTED_BY[self.launcher]}"
            )
        raise_problems(problems + wrong_config(self.config))


@dataclass(frozen=True)
class TrainOptions:
    """The training."""

    resume: str | None = option(
        None, metavar="FILE", help="checkpoint to continue; alone: the newest whole one, if any", alone="auto"
    )
    amp: bool = option(False, help="mixed precision; boxes stay float32")
    auto_scale_lr: bool = option(False, help="scale the rate with the batch size, by the config's base_batch_size")
    seed: int = option(0, help="what is random follows from it")
    init_weights: str | None = option(
        None, help="checkpoint of the encoder or of a detector, or none", default_text="the config's"
    )

    def __post_init__(self) -> None:
        problems = at_least(0, seed=self.seed)
        if self.seed > LARGEST_SEED:
            problems.append(f"--seed {str(self.seed)[:30]}: must be at most {LARGEST_SEED}")
        if self.init_weights not in (None, "none"):
            problems += missing_checkpoint(Path(str(self.init_weights)))
        if self.resume not in (None, "auto"):
            problems += missing_checkpoint(Path(str(self.resume)))
        if self.resume not in (None, "auto") and self.init_weights:
            problems.append("--init-weights and --resume FILE: a resumed run has its weights; give one of the two")
        raise_problems(problems)


@dataclass(frozen=True)
class ValidationOptions:
    """What the best epoch is chosen by."""

    val_from_train: float | None = option(
        None, metavar="SHARE", help="validate on this share of the training set", default_text="the config's set"
    )

    def __post_init__(self) -> None:
        share = self.val_from_train
        if share is not None and not 0 < share < 1:
            raise_problems([f"--val-from-train {share:g}: must be above 0 and below 1"])


@dataclass(frozen=True)
class TestOptions:
    """The detector, and what is written beside its figures."""

    checkpoint: Path = option(positional=True, help="of tools/train.py")
    out: Path | None = option(None, help="all boxes as a .pkl file, for MMDetection's analysis tools")
    show_dir: Path | None = option(None, help="the images with their boxes, below this folder")
    mistakes: Path | None = option(None, help="false alarms, misses and confusions, listed and drawn, to this folder")
    tta: bool = option(False, help="test each image flipped, too")

    def __post_init__(self) -> None:
        problems = missing_checkpoint(self.checkpoint)
        if self.out is not None and (self.out.suffix not in (".pkl", ".pickle") or is_folder(self.out)):
            problems.append(f"--out {self.out}: must be a file that ends in .pkl, as in MMDetection")
        raise_problems(problems)


@dataclass(frozen=True)
class ExportOptions:
    """What is exported."""

    config: Path = option(positional=True, help="that the detector was trained with; it is Python and is run")
    checkpoint: Path = option(positional=True, help="of tools/train.py")
    folder: Path = option(positional=True, help="is made")
    size: int = option(512, help="side of the images in pixels, a multiple of the detector's largest stride")

    def __post_init__(self) -> None:
        size = [] if 1 <= self.size <= LARGEST_SIDE else [f"--size {self.size}: must be from 1 to {LARGEST_SIDE}"]
        raise_problems([*wrong_config(self.config), *missing_checkpoint(self.checkpoint), *size])


def wrong_config(path: Path) -> list[str]:
    """Say what is wrong with the path of a config, if anything is."""
    if not is_file(path):
        return [f"{path}: no such file; name a config, such as configs/_hivit_/hivit_base_SSDD.py"]
    if path.suffix != ".py":
        return [f"{path}: is no config, which ends in .py, such as configs/_hivit_/hivit_base_SSDD.py"]
    try:
        compile(path.read_bytes(), path, "exec")
    except OSError as error:
        return [f"{path} cannot be read: {first_line(error)}"]
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return [f"{path} cannot be read as a config, which is Python: {first_line(error)}"]
    return []


def missing_checkpoint(path: Path) -> list[str]:
    """Say so if a checkpoint is not there."""
    return [] if is_file(path) else [f"{path}: no such file; give the path of a checkpoint"]
