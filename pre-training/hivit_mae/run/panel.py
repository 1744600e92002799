"""The reconstruction panel: for a few fixed images, what the model sees, what it should predict, what it predicts."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from hivit_mae.data.augment import whole_image
from hivit_mae.data.source import ImageSource
from hivit_mae.models.models_hivit_mae import HiViTMaskedAutoencoder
from hivit_mae.seeds import masking_noise
from saratrx.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def fixed_images(source: ImageSource, count: int) -> torch.Tensor:
    """Take some images of a source, always the same ones, without augmentation: [up to `count`, 1, S, S] in [0, 1]."""
    transform = whole_image(source.input_size)
    return torch.stack([transform(torch.from_numpy(image)[None]) for image in source.examples(count)]) / 255


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

    target = model.patchify(model.decoder_target(images.to(device)))
    if model.norm_pix_loss:
        mean, std = model.patch_statistics(target)
        pred = pred * std + mean
    picture, titles = model.decoder_target.picture, model.decoder_target.titles
    targets, preds = picture(model.unpatchify(target)).cpu(), picture(model.unpatchify(pred.float())).cpu()
    removed = mask.unflatten(1, (rows, 1, columns, 1)).bool().cpu()  # [B, rows, 1, columns, 1]

    figure = Figure(figsize=(2 * (2 + 2 * len(titles)), 2 * len(images) + 0.4), layout="constrained")
    axes = figure.subplots(len(images), 2 + 2 * len(titles), squeeze=False)
    for row, image_axes in enumerate(axes):
        show(image_axes[0], images[row, 0], "gray", (0, 1))
        show(image_axes[1], without(images[row, 0], removed[row]), "gray", (0, 1))
        for number, (wanted, found) in enumerate(zip(targets[row], preds[row], strict=True)):
            limits = wanted.quantile(0.005).item(), wanted.quantile(0.995).item()
            show(image_axes[2 + number], wanted, "magma", limits)
            show(image_axes[2 + len(titles) + number], without(found, ~removed[row]), "magma", limits)
    shown = [f"{kind} {title}".strip() for kind in ("target", "predicted") for title in titles]
    for axis, title in zip(axes[0], ["input", f"masked {mask_ratio:.0%}", *shown], strict=True):
        axis.set_title(title)
    return figure


def write(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG in one step; raises OSError."""
    content = io.BytesIO()
    figure.savefig(content, dpi=80, format="png")
    write_bytes(path, content.getvalue())


def without(image: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
    """Set patches of an image [h, w] to NaN where `patches` [rows, 1, columns, 1] says so."""
    rows, _, columns, _ = patches.shape
    cut = image.unflatten(1, (columns, -1)).unflatten(0, (rows, -1))
    return cut.masked_fill(patches, float("nan")).flatten(2).flatten(0, 1)


def show(axis: "Axes", image: torch.Tensor, colours: str, limits: tuple[float, float]) -> None:
    """Show [H, W] between the darkest and the brightest value; NaN is grey."""
    axis.set(xticks=[], yticks=[], facecolor="0.6")
    darkest, brightest = limits
    axis.imshow(
        np.ma.masked_invalid(image.numpy()), cmap=colours, vmin=darkest, vmax=brightest, interpolation="nearest"
    )
