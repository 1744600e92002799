"""What an encoder makes of images, drawn: its tokens as colours, where it attends, and how far each block looks.

    python -m saratrx.visualize CHECKPOINT IMAGES --output_dir drawn

Writes tokens.png, a row for each image: as the encoder sees it; the first three principal components of its tokens as
red, green and blue, so that like colours are alike to the encoder; and how much attention each place gets in the last
block. Of several images, the mean of each place over all of them is taken off its tokens first: it tells of the place
more than of what is there. distance.png: how far from a place its attention lies, for each head of each block.
"""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torchvision.transforms.v2.functional import center_crop, resize

from saratrx import sar_image
from saratrx.checkpoint import encoder_weights, load_checkpoint, load_encoder, size_of
from saratrx.command_line import between, option, parse
from saratrx.errors import InputError, exit_on_input_error, raise_problems
from saratrx.files import find_images, is_file, is_folder, refused_if_unwritable, try_writing, write_bytes
from saratrx.grey_scale import REMAPS, Remap
from saratrx.hivit import SIZES, Attention, HiViT
from saratrx.position import Grid
from saratrx.reporting import print_any_name

PATCH = 16  # px
MOST = 6  # images


@dataclass(frozen=True)
class Options:
    """What is drawn."""

    checkpoint: Path = option(help="of an encoder, of any stage", metavar="CHECKPOINT", positional=True)
    images: tuple[str, ...] = option(help=f"files, and folders of them; at most {MOST} are drawn", positional=True)
    output_dir: Path = option(help="where the pictures go", metavar="DIR")
    middle: int = option(0, help="side in pixels of what is cut from the middle of each image; 0 for all of it")
    remap: Remap = option(REMAPS[0], help="how amplitudes of more than 8 bits become grey")
    channel: str | None = option(None, help="of several: its name, its number from 0, or span", default_text="the one")

    def __post_init__(self) -> None:
        problems = between(0, 2**14, middle=self.middle)
        problems += [
            f"images {path}: no such file or folder" for path in self.images if not (is_file(path) or is_folder(path))
        ]
        raise_problems(problems)


def load(checkpoint: Path) -> tuple[HiViT, int]:
    """Make the encoder of a checkpoint, and tell the side in pixels of the images that it was trained on.

    Raises:
        InputError: if it is no HiViT of a known size.

    """
    weights = encoder_weights(load_checkpoint(checkpoint)["model"])
    size = size_of(weights)
    if not size:
        raise InputError(f"{checkpoint} is of no known size of HiViT")
    side = round(weights["absolute_pos_embed"].shape[1] ** 0.5) * PATCH
    has_bias = any(key.endswith("relative_position_bias_table") for key in weights)
    model = HiViT(**SIZES[size], img_size=side, rpe=has_bias)
    load_encoder(model, checkpoint)
    return model.eval(), side


def read(options: Options, side: int) -> tuple[list[str], torch.Tensor]:
    """Read images, evenly taken of those that there are, to [N, 1, S, S] in [0, 1]."""
    found = [path for each in options.images for path in (find_images(each, "images") if is_folder(each) else [each])]
    taken = [found[place] for place in np.linspace(0, len(found) - 1, min(MOST, len(found))).round().astype(int)]
    images = []
    for path in taken:
        image = torch.from_numpy(sar_image.read(path, remap=options.remap, channel=options.channel))[None]
        image = center_crop(image, [options.middle] * 2) if options.middle else image
        images.append(resize(image, [side, side], antialias=True))
    return taken, torch.stack(images).float() / 255


def attention_of(attention: Attention, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Compute the weights [B, heads, N, N] that an attention layer gives to tokens [B, N, D]; rows add up to 1."""
    batch, length, width = x.shape
    qkv = attention.qkv(x).reshape(batch, length, 3, attention.num_heads, width // attention.num_heads)
    query, key, _ = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    products = query @ key.mT / query.shape[-1] ** 0.5
    return (products if bias is None else products + bias).softmax(dim=-1)


@torch.no_grad()
def look(model: HiViT, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Compute tokens [N, T, D] of images [N, 1, S, S], and of each block the attention [N, heads, T, T]."""
    seen: list[torch.Tensor] = []

    def keep(attention: Attention, inputs: tuple[torch.Tensor, ...], _: torch.Tensor) -> None:
        seen.append(attention_of(attention, inputs[0], inputs[1] if len(inputs) > 1 else None))

    hooks = [module.register_forward_hook(keep) for module in model.modules() if isinstance(module, Attention)]
    try:
        return model.forward_features(images.expand(-1, 3, -1, -1)), seen
    finally:
        for hook in hooks:
            hook.remove()


def colours(tokens: torch.Tensor) -> NDArray[np.float64]:
    """Turn tokens [N, T, D] into colours [N, T, 3], 0 to 1: their first principal components, see above.

    They run from the 1 % quantile to that of 99 %.
    """
    values = tokens.double()
    values = (values - values.mean(dim=0 if len(values) > 1 else 1, keepdim=True)).flatten(0, 1)
    _, _, directions = torch.linalg.svd(values, full_matrices=False)
    components = (values @ directions[:3].mT).numpy()
    low, high = np.quantile(components, (0.01, 0.99), axis=0)
    return ((components - low) / np.maximum(high - low, 1e-12)).clip(0, 1).reshape(*tokens.shape[:2], 3)


def distances(attention: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Mean distance in pixels from a place to what it attends to, for each head: [N, heads, T, T] -> [heads]."""
    places = torch.cartesian_prod(*(torch.arange(side, dtype=attention.dtype) for side in grid)) * PATCH
    return (attention * torch.cdist(places, places)).sum(dim=-1).mean(dim=(0, 2))


def draw_tokens(images: torch.Tensor, tokens: torch.Tensor, attention: torch.Tensor, grid: Grid) -> Figure:
    """Draw a row for each image, see above."""
    figure = Figure(figsize=(6.6, 2.15 * len(images) + 0.3), layout="constrained")
    axes = figure.subplots(len(images), 3, squeeze=False)
    painted = colours(tokens).reshape(len(images), *grid, 3)
    received = attention.mean(dim=(1, 2)).reshape(len(images), *grid)
    for row, image, colour, share in zip(axes, images, painted, received, strict=True):
        row[0].imshow(image[0].numpy(), cmap="gray", vmin=0, vmax=1)
        row[1].imshow(colour)
        row[2].imshow(share.numpy(), cmap="cividis")
        for axis in row:
            axis.set_axis_off()
    for axis, title in zip(axes[0], ("image", "tokens: principal components", "attention, last block"), strict=True):
        axis.set_title(title, fontsize=9)
    return figure


def draw_distances(attention: list[torch.Tensor], grid: Grid) -> Figure:
    """Draw the distance of attention for each head of each block."""
    figure = Figure(figsize=(5.5, 3.5), layout="constrained")
    axes = figure.add_subplot()
    for block, each in enumerate(attention):
        far = distances(each, grid)
        axes.plot([block] * len(far), far.numpy(), "o", color="#0072B2", fillstyle="none")
        axes.plot(block, float(far.mean()), "_", color="#D55E00", markersize=18)
    axes.set(xlabel="attention block, from 0", ylabel="mean distance of attention, px", ylim=(0, None))
    axes.set_title("circles: heads; bars: their means", fontsize=9)
    axes.grid(alpha=0.3)
    return figure


def main() -> None:
    """Draw."""
    (options,) = parse((Options,), "Draw what an encoder makes of images.")
    model, side = load(options.checkpoint)
    paths, images = read(options, side)
    try_writing(options.output_dir, "--output_dir")
    tokens, attention = look(model, images)
    grid = (side // PATCH, side // PATCH)
    figures = {
        "tokens.png": draw_tokens(images, tokens, attention[-1], grid),
        "distance.png": draw_distances(attention, grid),
    }
    for name, figure in figures.items():
        png = BytesIO()
        figure.savefig(png, dpi=100)
        with refused_if_unwritable(options.output_dir / name):
            write_bytes(options.output_dir / name, png.getvalue())
    print(f"wrote {options.output_dir}/tokens.png, of {len(paths)} images, and distance.png")


if __name__ == "__main__":
    print_any_name()
    with exit_on_input_error():
        main()
