"""The options of pre-training: the published ones with their defaults, and what was added."""

import argparse

from models.models_hivit_mae import MODELS
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

    data = parser.add_argument_group("data")
    data.add_argument("--data_path", nargs="+", required=True, metavar="DIR", help="folders of images, at any depth")
    data.add_argument("--max_bad", type=float, default=0.01, help="share of unreadable images to tolerate")
    data.add_argument("--num_workers", type=int, default=10, help="loader processes; no more than there are cores")
    data.add_argument("--pin_mem", action="store_true", default=True, help="pin host memory for faster copies to a GPU")
    data.add_argument("--no_pin_mem", action="store_false", dest="pin_mem", help="do not")

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
        help="mixed precision; auto: bf16 on a GPU that has it, else off",
    )

    output = parser.add_argument_group("output and resuming")
    output.add_argument("--output_dir", default="./output_dir", metavar="DIR", help="checkpoints, log.txt, panels")
    output.add_argument("--log_dir", default=None, metavar="DIR", help="TensorBoard (None: --output_dir)")
    output.add_argument(
        "--save_every", type=int, default=100, help="epochs between checkpoints; the last is always kept"
    )
    output.add_argument("--keep", type=int, default=0, help="newest checkpoints to keep (0: all)")
    output.add_argument("--image_every", type=int, default=20, help="epochs between reconstruction panels (0: none)")
    output.add_argument(
        "--resume", default="", metavar="FILE", help="checkpoint to continue; auto: the newest in --output_dir, if any"
    )
    output.add_argument("--start_epoch", type=int, default=0, help="epochs counted as done, where nothing is resumed")

    machine = parser.add_argument_group("device and processes")
    machine.add_argument("--device", default="auto", help="auto (CUDA if it is there), cuda or cpu")
    machine.add_argument("--dist_on_itp", action="store_true", help="processes were started by OpenMPI")
    machine.add_argument("--dist_url", default="env://", help="where the processes meet")
    machine.add_argument("--world_size", type=int, default=1, help="set by the launcher, which has the last word")
    machine.add_argument("--local_rank", "--local-rank", type=int, default=-1, help="set by the launcher, like it")

    args = parser.parse_args(argv)
    check(args)
    args.log_dir = args.log_dir or args.output_dir
    return args


def check(args: argparse.Namespace) -> None:
    """Refuse values that cannot work, before anything is read or written."""
    if args.model not in MODELS:
        raise InputError(f"--model {args.model}: unknown; choose one of {', '.join(MODELS)}")
    if args.input_size % 16 or args.input_size < 32:
        raise InputError(f"--input_size {args.input_size}: must be a multiple of 16, and at least 32")
    patches = (args.input_size // 16) ** 2
    if not 0 < args.mask_ratio < 1 or not 1 <= int(patches * (1 - args.mask_ratio)) < patches:
        raise InputError(f"--mask_ratio {args.mask_ratio}: must leave and remove some of the {patches} patches")
    for name in ("batch_size", "accum_iter", "epochs", "save_every"):
        if getattr(args, name) < 1:
            raise InputError(f"--{name} {getattr(args, name)}: must be at least 1")
    counts = ("num_workers", "keep", "image_every", "start_epoch", "seed")
    for name in (*counts, "max_bad", "warmup_epochs", "lr", "blr", "min_lr", "weight_decay"):
        if (getattr(args, name) or 0) < 0:
            raise InputError(f"--{name} {getattr(args, name)}: must not be negative")
    if args.clip_grad is not None and args.clip_grad <= 0:
        raise InputError(f"--clip_grad {args.clip_grad}: must be positive; leave it out not to clip")
