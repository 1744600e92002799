"""All options of a run, by concern. Without PyTorch, so that a wrong one is told at once."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hivit_mae.data.reading import channel_option
from hivit_mae.models.targets import DEFAULT, TARGETS
from saratrx.command_line import above_zero, at_least, between, option, parse
from saratrx.errors import raise_problems
from saratrx.files import is_file, is_folder
from saratrx.grey_scale import Remap
from saratrx.reading import Reading
from saratrx.sar_image import remap_option

DECODERS = (
    "micro_dec32d1b",
    "nano_dec128d2b",
    "tiny_dec512d6b",
    "small_dec512d6b",
    "base_dec512d6b",
    "large_dec512d6b",
)
MODEL_NAMES = tuple(f"mae_hivit_{size}" for size in DECODERS)
SMALLEST_INPUT, LARGEST_INPUT = 32, 4096  # px a side; attention is over all patches
TAR_NAME = re.compile(r"[^/]+\.(?:tar\.gz|tar|tgz)(?=$|\?)")  # of a path or URL, which may end in a query


def is_shards(path: str) -> bool:
    """Whether an entry of --data_path names shards: a tar file, a brace pattern of some, or a URL."""
    return path.startswith(("pipe:", "file:")) or "://" in path or TAR_NAME.search(path.rstrip("}")) is not None


@dataclass(frozen=True)
class ModelOptions:
    """Model."""

    model: str = option("mae_hivit_base_dec512d6b", help="|".join(MODEL_NAMES), metavar="NAME")
    input_size: int = option(224, help="side of the input in pixels, a multiple of 16")
    mask_ratio: float = option(0.75, help="share of patches to remove")
    target: str = option(DEFAULT, help="what is predicted: " + "|".join(TARGETS), metavar="NAME")
    norm_pix_loss: bool = option(
        True, help="normalise the target values of each patch, where the target does not always or never"
    )
    init_weights: str = option("", help="checkpoint to start from, e.g. of ImageNet", metavar="FILE")

    def __post_init__(self) -> None:
        problems = []
        if self.model not in MODEL_NAMES:
            problems.append(f"--model {self.model}: unknown; choose one of {', '.join(MODEL_NAMES)}")
        if self.target not in TARGETS:
            problems.append(f"--target {self.target}: unknown; choose one of {', '.join(TARGETS)}")
        is_size = self.input_size % 16 == 0 and SMALLEST_INPUT <= self.input_size <= LARGEST_INPUT
        if not is_size:
            problems.append(
                f"--input_size {self.input_size}: must be a multiple of 16 from {SMALLEST_INPUT} to {LARGEST_INPUT}"
            )
        patches = (self.input_size // 16) ** 2
        if not 0 < self.mask_ratio < 1 or (is_size and not 1 <= int(patches * (1 - self.mask_ratio)) < patches):
            problems.append(f"--mask_ratio {self.mask_ratio}: must leave and remove some of the {patches} patches")
        raise_problems(problems)


@dataclass(frozen=True)
class DataOptions:
    """Data."""

    data_path: tuple[str, ...] = option(
        help="folders of images, at any depth; or WebDataset shards: files or URLs of *.tar, braces allowed; "
        "pipe:COMMAND runs a command of yours",
        metavar="PATH",
    )
    cache: str = option("", help="decode all images once, into a file in this folder", metavar="DIR")
    remap: Remap = remap_option()  # noqa: RUF009 -- makes a field
    channel: str = channel_option()
    augment: Literal["loader", "device"] = option(
        "loader", help="crop and jitter image by image in the loader, or whole batches on the device"
    )
    max_bad: float = option(0.01, help="share of unreadable images to tolerate")
    num_workers: int = option(10, help="loader processes; no more than there are cores")
    pin_mem: bool = option(True, help="pin host memory for faster copies to a GPU", off="--no_pin_mem")

    def __post_init__(self) -> None:
        problems = at_least(0, num_workers=self.num_workers) + between(0, 1, max_bad=self.max_bad)
        problems += [
            f"--data_path {path}: no such folder"
            for path in self.data_path
            if not is_shards(path) and not is_folder(path)
        ]
        raise_problems(problems)

    @property
    def reading(self) -> Reading:
        """How images are read."""
        return Reading(self.remap, self.channel or None)


@dataclass(frozen=True)
class OptimisationOptions:
    """Training."""

    batch_size: int = option(1, help="images per process and iteration")
    accum_iter: int = option(1, help="iterations whose gradients make one step")
    epochs: int = option(300, help="passes over the data")
    warmup_epochs: float = option(5, help="epochs of linear warm-up")
    blr: float = option(1.5e-4, help="base rate: lr = blr * effective batch size / 256")
    lr: float | None = option(None, help="learning rate; overrides --blr", default_text="from --blr")
    min_lr: float = option(0.0, help="learning rate at the end")
    weight_decay: float = option(0.05, help="of AdamW, for weights with 2 dimensions or more")
    clip_grad: float | None = option(None, help="largest norm of the gradient", default_text="any")
    seed: int = option(0, help="of everything random, 0 included")
    max_nonfinite: int = option(
        10, help="steps in a row whose loss is not finite before the run goes back to its last checkpoint"
    )

    def __post_init__(self) -> None:
        problems = at_least(
            1,
            batch_size=self.batch_size,
            accum_iter=self.accum_iter,
            epochs=self.epochs,
            max_nonfinite=self.max_nonfinite,
        )
        problems += at_least(
            0,
            warmup_epochs=self.warmup_epochs,
            blr=self.blr,
            lr=self.lr,
            min_lr=self.min_lr,
            weight_decay=self.weight_decay,
            seed=self.seed,
        )
        raise_problems(problems + above_zero(clip_grad=self.clip_grad))


@dataclass(frozen=True)
class OutputOptions:
    """Output and resuming."""

    output_dir: str = option("./output_dir", help="checkpoints, log.txt, panels", metavar="DIR")
    log_dir: str | None = option(None, help="TensorBoard", metavar="DIR", default_text="--output_dir")
    save_every: int = option(100, help="epochs between checkpoints; the last is always kept")
    save_minutes: float = option(
        15,
        help="minutes between the states that are saved in the middle of an epoch (0: none); the newest two are kept",
    )
    keep: int = option(0, help="newest checkpoints of whole epochs to keep (0: all)")
    image_every: int = option(20, help="epochs between reconstruction panels (0: none)")
    resume: str = option("", help="checkpoint to continue; auto: the newest in --output_dir, if any", metavar="FILE")
    start_epoch: int = option(0, help="epochs counted as done, where nothing is resumed")

    def __post_init__(self) -> None:
        problems = at_least(1, save_every=self.save_every)
        problems += at_least(0, keep=self.keep, image_every=self.image_every, start_epoch=self.start_epoch)
        raise_problems(problems + at_least(0, save_minutes=self.save_minutes))

    @property
    def folder(self) -> Path:
        """Where the run writes."""
        return Path(self.output_dir)

    @property
    def log_folder(self) -> str:
        """Where TensorBoard's files go."""
        return self.log_dir or self.output_dir


@dataclass(frozen=True)
class EvaluationOptions:
    """Evaluation by labelled images."""

    eval_data: str = option(
        "",
        help="a folder of images per class, or such folders in train and in test",
        metavar="DIR",
        default_text="none",
    )
    eval_every: int = option(10, help="epochs between evaluations; there is one after the last epoch too")
    eval_shots: int = option(5, help="training images per class that the linear probe sees")
    eval_crop: int = option(0, help="side in pixels of the middle that is cut out first (0: all); 128 for MSTAR")

    def __post_init__(self) -> None:
        problems = at_least(1, eval_every=self.eval_every, eval_shots=self.eval_shots)
        problems += between(0, LARGEST_INPUT, eval_crop=self.eval_crop)
        if self.eval_data and not is_folder(self.eval_data):
            problems.append(f"--eval_data {self.eval_data}: no such folder")
        raise_problems(problems)


@dataclass(frozen=True)
class MachineOptions:
    """Device and processes."""

    device: str = option("auto", help="auto (CUDA if it is there), cuda or cpu")
    amp: Literal["auto", "off", "bf16", "fp16"] = option(
        "auto", help="mixed precision; auto: bf16 where the chip has it, else off (float32; TF32 on a GPU)"
    )
    compile: bool | None = option(None, help="compile the step into one graph", default_text="on a GPU")
    compile_mode: Literal["default", "combo", "max-autotune", "cudagraphs", "cudnn"] = option(
        "default", help="how it is compiled; any but the default implies --compile"
    )
    profile: bool = option(False, help="write a trace of five steps to --log_dir")
    grad_reduce: Literal["float32", "bf16"] = option(
        "float32", help="precision in which gradients are averaged over processes"
    )
    bucket_mb: float = option(25, help="MB of gradients that are averaged at once")
    hang_seconds: float = option(
        40, help="time without progress after which a process counts as hung, and ends all (0: never)"
    )
    dist_on_itp: bool = option(False, help="processes were started by OpenMPI")
    dist_url: str = option("env://", help="where the processes meet")
    world_size: int = option(1, help="set by the launcher, which has the last word")
    local_rank: int = option(-1, help="set by the launcher, like it", names=("--local-rank",))

    def __post_init__(self) -> None:
        problems = at_least(0, hang_seconds=self.hang_seconds) + above_zero(bucket_mb=self.bucket_mb)
        if self.compile is False and self.compile_mode != "default":
            problems.append(f"--compile_mode {self.compile_mode}: leave it out where there is --no-compile")
        raise_problems(problems)


@dataclass(frozen=True)
class Options:
    """The command line, by concern."""

    model: ModelOptions
    data: DataOptions
    optimisation: OptimisationOptions
    output: OutputOptions
    evaluation: EvaluationOptions
    machine: MachineOptions

    def __post_init__(self) -> None:
        problems = []
        if self.output.start_epoch > self.optimisation.epochs:
            problems.append(f"--start_epoch {self.output.start_epoch}: is beyond --epochs {self.optimisation.epochs}")
        if self.machine.compile_mode == "cudagraphs" and self.optimisation.accum_iter > 1:
            problems.append("--compile_mode cudagraphs: needs --accum_iter 1, as an iteration overwrites the last")
        for name, file in (("init_weights", self.model.init_weights), ("resume", self.output.resume)):
            if file not in ("", "auto") and not is_file(file):
                problems.append(f"--{name} {file}: no such file")
        raise_problems(problems)


def parse_options(argv: Sequence[str] | None = None) -> Options:
    """Read the command line (or `argv`) and refuse what cannot work.

    Raises:
        InputError: naming every option that is wrong.

    """
    classes = (ModelOptions, DataOptions, OptimisationOptions, OutputOptions, EvaluationOptions, MachineOptions)
    return Options(*parse(classes, "Pre-train a HiViT masked autoencoder on SAR images.", argv))
