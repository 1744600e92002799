"""Which values the keys of a config can have; told before anything is read or computed."""

import math
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from saratrx.errors import raise_problems
from saratrx.files import is_file
from saratrx.grey_scale import REMAPS

LARGEST_SIDE = 4096  # pixels of an input
MANY = 10**9
FOLDER = "local-dir:"  # begins a MODEL.BACKBONE.NAME that is a folder in timm's layout
FOLDER_FILES = ("config.json", "model.safetensors")
RANGES = {  # both ends are allowed
    "SEED": (-(2**31), 2**63 - 1),
    "INPUT.CROP_PADDING": (0, LARGEST_SIDE),
    "INPUT.MIDDLE": (0, 100_000),
    "INPUT.CUTOUT_N": (0, 10_000),
    "INPUT.CUTOUT_LEN": (1, LARGEST_SIDE),
    "INPUT.GN_STD": (0, MANY),
    "INPUT.RANDAUGMENT_N": (0, 100),
    "INPUT.RANDAUGMENT_M": (0, 30),
    "INPUT.COLORJITTER_B": (0, 100),
    "INPUT.COLORJITTER_C": (0, 100),
    "INPUT.GB_P": (0, 1),
    "INPUT.GB_K": (1, 255),
    "DATASET.NUM_SHOTS": (-1, MANY),
    "DATASET.CENTRE_CROP": (0, 100_000),
    "DATASET.MEASURED_SHARE": (0, 1),
    "DATALOADER.NUM_WORKERS": (0, 1024),
    "DATALOADER.K_TRANSFORMS": (1, 100),
    "DATALOADER.TRAIN_X.BATCH_SIZE": (1, 1_000_000),
    "DATALOADER.TRAIN_U.BATCH_SIZE": (1, 1_000_000),
    "DATALOADER.TEST.BATCH_SIZE": (1, 1_000_000),
    "OPTIM.WEIGHT_DECAY": (0, MANY),
    "OPTIM.MOMENTUM": (0, 1),
    "OPTIM.RMSPROP_ALPHA": (0, 1),
    "OPTIM.GAMMA": (0, 1000),
    "OPTIM.MAX_EPOCH": (1, 1_000_000),
    "OPTIM.WARMUP_EPOCH": (-1, 1_000_000),
    "OPTIM.WARMUP_CONS_LR": (0, MANY),
    "OPTIM.WARMUP_MIN_LR": (0, MANY),
    "OPTIM.BASE_LR_MULT": (0, MANY),
    "TRAIN.CHECKPOINT_FREQ": (0, MANY),
    "TRAIN.PRINT_FREQ": (1, MANY),
    "TRAINER.KNN.K": (1, MANY),
    "TRAINER.MIM_FINETUNE.LAST_K": (1, MANY),
    "TRAINER.MIM_FINETUNE.LORA.RANK": (1, MANY),
}
ABOVE_ZERO_TO = {
    "OPTIM.LR": math.inf,
    "TRAINER.KNN.TEMPERATURE": math.inf,
    "TRAINER.MIM_FINETUNE.LAYER_DECAY": 1,
    "TRAINER.MIM_FINETUNE.LORA.ALPHA": math.inf,
}
LORA_TARGETS = ("qkv", "proj", "mlp")
BELOW_ONE = (
    "OPTIM.ADAM_BETA1",
    "OPTIM.ADAM_BETA2",
    "TRAINER.MIM_FINETUNE.DROP_PATH",
    "TRAINER.MIM_FINETUNE.LABEL_SMOOTHING",
)
CHOICES = {
    "INPUT.REMAP": REMAPS,
    "TEST.SPLIT": ("test", "val"),
    "TEST.FINAL_MODEL": ("last_step", "best_val"),
    "MODEL.PRECISION": ("fp32", "bf16"),
    "MODEL.POOLING": ("mean", "mean_std", "cls"),
    "TRAINER.MIM_FINETUNE.TUNE": ("all", "head", "last_k", "lora"),
    "TRAINER.MIM_FINETUNE.LR_STEP": ("epoch", "batch"),
    "DATASET.SUBSAMPLE_CLASSES": ("all", "base", "new"),
    "DATASET.DUPLICATES": ("error", "drop", "warn"),
    "DATASET.SPLIT_BY": ("images", "groups"),
}


def refuse_bad_values(cfg: CfgNode) -> None:
    """Raise an InputError with a sentence for each value that cannot be, and for a file or folder that is not there."""
    problems = [
        f"{key} {value}: must be a finite number" for key, value in numbers(cfg) if not math.isfinite(value)
    ]  # the ranges below say nothing of these
    bad = {text.partition(" ")[0] for text in problems}
    for key, (low, high) in RANGES.items():
        value = get(cfg, key)
        if key not in bad and not low <= value <= high:
            problems.append(f"{key} {value}: must be from {low} to {high}")
    for key, highest in ABOVE_ZERO_TO.items():
        value = get(cfg, key)
        if key not in bad and not 0 < value <= highest:
            problems.append(f"{key} {value}: must be above 0" + (f", at most {highest}" if highest < math.inf else ""))
    for key in BELOW_ONE:
        value = get(cfg, key)
        if key not in bad and not 0 <= value < 1:
            problems.append(f"{key} {value}: must be at least 0 and below 1")
    for key, choices in CHOICES.items():
        value = get(cfg, key)
        if value not in choices:
            problems.append(f"{key} {value}: unknown; choose one of {', '.join(choices)}")
    if not cfg.OPTIM.STEPSIZE or not all(type(epoch) is int for epoch in cfg.OPTIM.STEPSIZE):
        problems.append(f"OPTIM.STEPSIZE {list(cfg.OPTIM.STEPSIZE)}: must be one or more whole numbers of epochs")
    targets = list(cfg.TRAINER.MIM_FINETUNE.LORA.TARGETS)
    if not targets or not set(targets) <= set(LORA_TARGETS):
        problems.append(f"TRAINER.MIM_FINETUNE.LORA.TARGETS {targets}: choose one or more of {', '.join(LORA_TARGETS)}")
    problems += bad_input_values(cfg) + bad_names(cfg) + missing_paths(cfg)
    raise_problems(problems)


def bad_input_values(cfg: CfgNode) -> list[str]:
    """Say what is wrong with the lists of numbers of INPUT."""
    problems = []
    size = list(cfg.INPUT.SIZE)
    if len(size) != 2 or not all(type(side) is int and 1 <= side <= LARGEST_SIDE for side in size):
        problems.append(f"INPUT.SIZE {tuple(size)}: must be height and width in pixels, from 1 to {LARGEST_SIDE}")
    scale = list(cfg.INPUT.RRCROP_SCALE)
    if len(scale) != 2 or not all(isinstance(part, int | float) for part in scale) or not 0 < scale[0] <= scale[1] <= 1:
        problems.append(f"INPUT.RRCROP_SCALE {tuple(scale)}: must be two shares of the area, such as (0.08, 1.0)")
    mean, std = list(cfg.INPUT.PIXEL_MEAN), list(cfg.INPUT.PIXEL_STD)
    if len(mean) != len(std) or not all(isinstance(part, int | float) and part > 0 for part in std):
        problems.append(f"INPUT.PIXEL_STD {std}: must be as many as INPUT.PIXEL_MEAN {mean}, and positive")
    if cfg.INPUT.GB_K % 2 == 0:
        problems.append(f"INPUT.GB_K {cfg.INPUT.GB_K}: must be odd")
    return problems


def bad_names(cfg: CfgNode) -> list[str]:
    """Say where a list of folders' names holds anything but texts, or one twice."""
    problems = []
    for key in ("DATASET.CLASSES", "DATASET.PARTS"):
        names = list(get(cfg, key))
        wrong = [name for name in names if not isinstance(name, str) or not name.strip()]
        if wrong:
            problems.append(f"{key} {names}: {wrong[0]!r} is no name; write the folder's name in quotes")
        elif len(set(names)) < len(names):
            problems.append(f"{key} {names}: names a folder twice")
    return problems


def missing_paths(cfg: CfgNode) -> list[str]:
    """Name the files and folders of the config that are not there."""
    problems = []
    if cfg.MODEL.INIT_WEIGHTS and not Path(cfg.MODEL.INIT_WEIGHTS).is_file():
        kind = "Is a directory" if Path(cfg.MODEL.INIT_WEIGHTS).is_dir() else "No such file or directory"
        problems.append(
            f"{cfg.MODEL.INIT_WEIGHTS} cannot be read: {kind}; set MODEL.INIT_WEIGHTS, or CHECKPOINT for a script, to "
            "a checkpoint"
        )
    if cfg.MODEL.BACKBONE.NAME.startswith(FOLDER):
        folder = Path(cfg.MODEL.BACKBONE.NAME.removeprefix(FOLDER)).expanduser()
        problems += [
            f"MODEL.BACKBONE.NAME {cfg.MODEL.BACKBONE.NAME}: {folder / name} is not there; give a folder with "
            f"{' and '.join(FOLDER_FILES)}"
            for name in FOLDER_FILES
            if not is_file(folder / name)
        ]
    if cfg.DATASET.ROOT and not Path(cfg.DATASET.ROOT).expanduser().is_dir():
        problems.append(f"DATASET.ROOT {cfg.DATASET.ROOT}: no such folder; give the one that holds the data set's")
    if cfg.RESUME and not Path(cfg.RESUME).is_dir():
        problems.append(f"RESUME {cfg.RESUME}: no such folder; give the output folder of a run")
    return problems


def get(cfg: CfgNode, key: str) -> Any:
    """Give the value of a key in full."""
    found: Any = cfg
    for part in key.split("."):
        found = found[part]
    return found


def numbers(cfg: CfgNode, prefix: str = "") -> list[tuple[str, float]]:
    """List all numbers that a config holds, those in lists included, with their keys in full."""
    found: list[tuple[str, float]] = []
    for key, value in cfg.items():
        if isinstance(value, dict):
            found += numbers(value, f"{prefix}{key}.")
        else:
            parts = value if isinstance(value, (list, tuple)) else [value]
            found += [(prefix + key, float(part)) for part in parts if isinstance(part, float)]
    return found
