"""The reconstruction panel: for a few fixed images, what the model sees, what it should predict, what it predicts."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torchvision.transforms import InterpolationMode, v2

from hivit_mae.data.source import ImageSource
from hivit_mae.models.gradient_feature import RADII
from hivit_mae.models.models_hivit_mae import HiViTMaskedAutoencoder
from hivit_mae.seeds import masking_noise
from saratrx.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def fixed_images(source: ImageSource, count: int) -> torch.Tensor:
    """Take some images of a source, always the same ones, without augmentation: [up to `count`, 1, S, S] in [0, 1]."""
    size = source.input_size
    transform = v2.Compose(
        [
            v2.Resize(size, interpolation=InterpolationMode.BICUBIC),
            v2.CenterCrop(size),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    return torch.stack([transform(torch.from_numpy(image)[None]) for image in source.examples(count)])


@torch.no_grad()
def draw(model: HiViTMaskedAutoencoder, images: torch.Tensor, mask_ratio: float) -> "Figure":
    """Draw a row per image: input, masked input, the targets, the predictions of removed patches.

    With normalised targets each predicted patch is shown at its target's mean and contrast, which the model does not
    know; kept patches are grey, since nothing is asked of the model there.

    Args:
        model: in any mode; left as it was.
        images: [B, 1, H, W] in [0, 1].
        mask_ratio: share of removed patches; which ones is fixed.

    """
    from matplotlib.figure import Figure  # noqa: PLC0415 -- takes a second, which most processes can do without

    device = model.mask_token.device
    rows, columns = model.grid
    noise = masking_noise(0, 0, 0, len(images), rows * columns, 0, 1, torch.device("cpu"))
    was_training = model.training
    model.eval()
    _, pred, mask = model(images.to(device), mask_ratio, noise.to(device))
    model.train(was_training)

    target = model.patchify(model.gradient_feature(images.to(device)))
    if model.norm_pix_loss:
        mean, std = model.patch_statistics(target)
        pred = pred * std + mean
    removed = model.unpatchify(mask[..., None].expand(-1, -1, pred.shape[2])).bool().cpu()
    target, pred = model.unpatchify(target).cpu(), model.unpatchify(pred.float()).cpu()
    masked_input = images.masked_fill(removed[:, :1], float("nan"))
    pred = pred.masked_fill(~removed, float("nan"))

    figure = Figure(figsize=(2 * (2 + 2 * len(RADII)), 2 * len(images) + 0.4), layout="constrained")
    axes = figure.subplots(len(images), 2 + 2 * len(RADII), squeeze=False)
    titles = ["input", f"masked {mask_ratio:.0%}"]
    titles += [f"target r={r}" for r in RADII] + [f"predicted r={r}" for r in RADII]
    for row, image_axes in enumerate(axes):
        show(image_axes[0], images[row, 0], "gray", 1.0)
        show(image_axes[1], masked_input[row, 0], "gray", 1.0)
        for scale in range(len(RADII)):
            brightest = float(target[row, scale].quantile(0.995))
            show(image_axes[2 + scale], target[row, scale], "magma", brightest)
            show(image_axes[2 + len(RADII) + scale], pred[row, scale], "magma", brightest)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title)
    return figure


def write(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG in one step; raises OSError."""
    content = io.BytesIO()
    figure.savefig(content, dpi=80, format="png")
    write_bytes(path, content.getvalue())


def show(axis: "Axes", image: torch.Tensor, colours: str, brightest: float) -> None:
    """Show [H, W] from 0 to `brightest`; NaN is grey."""
    axis.set(xticks=[], yticks=[], facecolor="0.6")
    axis.imshow(np.ma.masked_invalid(image.numpy()), cmap=colours, vmin=0, vmax=brightest, interpolation="nearest")
