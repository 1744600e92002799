"""The options of pre-training: the published ones with their defaults, and what was added."""

import argparse

from hivit_mae.models.models_hivit_mae import MODELS
from saratrx.errors import InputError


def parse_options(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line (or `argv`) and refuse what cannot work.

    Raises:
        InputError: naming the option.

    """
    parser = argparse.ArgumentParser(
        description="Pre-train a HiViT masked autoencoder on SAR images.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_model_options(parser)
    add_data_options(parser)
    add_training_options(parser)
    add_output_options(parser)
    add_machine_options(parser)
    args = parser.parse_args(argv)
    check(args)
    args.log_dir = args.log_dir or args.output_dir
    return args


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """What is trained, and on which task."""
    model = parser.add_argument_group("model")
    model.add_argument("--model", default="mae_hivit_base_dec512d6b", metavar="NAME", help="|".join(MODELS))
    model.add_argument("--input_size", type=int, default=224, help="side of the input in pixels, a multiple of 16")
    model.add_argument("--mask_ratio", type=float, default=0.75, help="share of patches to remove")
    model.add_argument(
        "--norm_pix_loss",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="normalise the target values of each patch",
    )
    model.add_argument("--init_weights", default="", metavar="FILE", help="checkpoint to start from, e.g. of ImageNet")


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """What it sees."""
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data_path",
        nargs="+",
        required=True,
        metavar="PATH",
        help="folders of images, at any depth; or WebDataset shards: files or URLs of *.tar, braces allowed",
    )
    data.add_argument("--cache", default="", metavar="DIR", help="decode all images once, into a file in this folder")
    data.add_argument(
        "--augment",
        choices=("loader", "device"),
        default="loader",
        help="crop and jitter image by image in the loader, or whole batches on the device",
    )
    data.add_argument("--max_bad", type=float, default=0.01, help="share of unreadable images to tolerate")
    data.add_argument("--num_workers", type=int, default=10, help="loader processes; no more than there are cores")
    data.add_argument("--pin_mem", action="store_true", default=True, help="pin host memory for faster copies to a GPU")
    data.add_argument("--no_pin_mem", action="store_false", dest="pin_mem", help="do not")


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """How it is trained."""
    training = parser.add_argument_group("training")
    training.add_argument("--batch_size", type=int, default=1, help="images a process and iteration")
    training.add_argument("--accum_iter", type=int, default=1, help="iterations whose gradients make one step")
    training.add_argument("--epochs", type=int, default=300, help="passes over the data")
    training.add_argument("--warmup_epochs", type=float, default=5, help="epochs of linear warm-up")
    training.add_argument("--blr", type=float, default=1.5e-4, help="base rate: lr = blr * effective batch size / 256")
    training.add_argument("--lr", type=float, default=None, help="learning rate; overrides --blr")
    training.add_argument("--min_lr", type=float, default=0.0, help="learning rate at the end")
    training.add_argument(
        "--weight_decay", type=float, default=0.05, help="of AdamW, for weights with 2 dimensions or more"
    )
    training.add_argument("--clip_grad", type=float, default=None, help="largest norm of the gradient (None: any)")
    training.add_argument("--seed", type=int, default=0, help="of everything random, 0 included")
    training.add_argument(
        "--amp",
        choices=("auto", "off", "bf16", "fp16"),
        default="auto",
        help="mixed precision; auto: bf16 where the chip has it, else off (float32; TF32 on a GPU)",
    )
    training.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="compile the step into one graph (None: on a GPU)",
    )
    training.add_argument(
        "--max_nonfinite",
        type=int,
        default=10,
        help="steps in a row whose loss is not finite before the run goes back to its last checkpoint",
    )


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """What is written, and what is continued."""
    output = parser.add_argument_group("output and resuming")
    output.add_argument("--output_dir", default="./output_dir", metavar="DIR", help="checkpoints, log.txt, panels")
    output.add_argument("--log_dir", default=None, metavar="DIR", help="TensorBoard (None: --output_dir)")
    output.add_argument(
        "--save_every", type=int, default=100, help="epochs between checkpoints; the last is always kept"
    )
    output.add_argument(
        "--save_minutes",
        type=float,
        default=15,
        help="minutes between the states that are saved in the middle of an epoch (0: none); the newest two are kept",
    )
    output.add_argument("--keep", type=int, default=0, help="newest checkpoints of whole epochs to keep (0: all)")
    output.add_argument("--image_every", type=int, default=20, help="epochs between reconstruction panels (0: none)")
    output.add_argument(
        "--resume", default="", metavar="FILE", help="checkpoint to continue; auto: the newest in --output_dir, if any"
    )
    output.add_argument("--start_epoch", type=int, default=0, help="epochs counted as done, where nothing is resumed")


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    """Where it runs."""
    machine = parser.add_argument_group("device and processes")
    machine.add_argument("--device", default="auto", help="auto (CUDA if it is there), cuda or cpu")
    machine.add_argument("--profile", action="store_true", help="write a trace of five steps to --log_dir")
    machine.add_argument(
        "--grad_reduce",
        choices=("float32", "bf16"),
        default="float32",
        help="precision in which gradients are averaged over processes",
    )
    machine.add_argument("--bucket_mb", type=float, default=25, help="MB of gradients that are averaged at once")
    machine.add_argument(
        "--hang_seconds",
        type=float,
        default=40,
        help="time without progress after which a process counts as hung, and ends all (0: never)",
    )
    machine.add_argument("--dist_on_itp", action="store_true", help="processes were started by OpenMPI")
    machine.add_argument("--dist_url", default="env://", help="where the processes meet")
    machine.add_argument("--world_size", type=int, default=1, help="set by the launcher, which has the last word")
    machine.add_argument("--local_rank", "--local-rank", type=int, default=-1, help="set by the launcher, like it")


def check(args: argparse.Namespace) -> None:
    """Refuse values that cannot work, before anything is read or written."""
    if args.model not in MODELS:
        raise InputError(f"--model {args.model}: unknown; choose one of {', '.join(MODELS)}")
    if args.input_size % 16 or args.input_size < 32:
        raise InputError(f"--input_size {args.input_size}: must be a multiple of 16, and at least 32")
    patches = (args.input_size // 16) ** 2
    if not 0 < args.mask_ratio < 1 or not 1 <= int(patches * (1 - args.mask_ratio)) < patches:
        raise InputError(f"--mask_ratio {args.mask_ratio}: must leave and remove some of the {patches} patches")
    for name in ("batch_size", "accum_iter", "epochs", "save_every", "max_nonfinite"):
        if getattr(args, name) < 1:
            raise InputError(f"--{name} {getattr(args, name)}: must be at least 1")
    counts = ("num_workers", "keep", "image_every", "start_epoch", "seed")
    rates = ("max_bad", "warmup_epochs", "lr", "blr", "min_lr", "weight_decay", "save_minutes", "hang_seconds")
    for name in (*counts, *rates):
        if (getattr(args, name) or 0) < 0:
            raise InputError(f"--{name} {getattr(args, name)}: must not be negative")
    if args.bucket_mb <= 0:
        raise InputError(f"--bucket_mb {args.bucket_mb}: must be positive")
    if args.clip_grad is not None and args.clip_grad <= 0:
        raise InputError(f"--clip_grad {args.clip_grad}: must be positive; leave it out not to clip")
