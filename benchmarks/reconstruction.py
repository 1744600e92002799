"""Has a pre-trained model learnt anything? Its loss against plain guesses on the same removed patches.

    python benchmarks/reconstruction.py CHECKPOINT DIR [DIR ...]

The images are centre crops, without augmentation, with masks that are always the same. The guesses are the best of
their kind for these very images and masks, so a model is compared with more than a beginner could know:
    constant      one number for everything
    patch mean    each removed patch's own mean, for all of its 768 values
    scale means   each removed patch's own three means, one for each scale of the gradient
    mean patch    the average removed patch, position by position
"""

from pathlib import Path

import torch

from hivit_mae.data.folders import FolderImages
from hivit_mae.models.trained import load_trained
from hivit_mae.run import panel
from hivit_mae.seeds import masking_noise
from machine import parsed
from saratrx.command_line import Parser
from saratrx.errors import InputError, exit_on_input_error
from saratrx.files import write_json


def squared_error(guess: torch.Tensor, target: torch.Tensor) -> float:
    """Mean squared error of a guess that broadcasts to target [P, D']."""
    return (guess - target).square().mean().item()


@torch.no_grad()
def main() -> None:
    """Compare and print."""
    parser = Parser(description="Loss of a pre-trained model against plain guesses.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data_path", nargs="+", metavar="DIR")
    parser.add_argument("--images", type=int, default=512, help="how many, chosen at random but always the same")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    args = parsed(parser)

    trained = load_trained(args.checkpoint)
    if trained is None:
        raise InputError(f"{args.checkpoint} does not say of which model it is: take a checkpoint of main_pretrain.py")
    model, options = trained
    dataset = FolderImages(args.data_path, options["input_size"], seed=0, max_bad=0.01)
    images = panel.fixed_images(dataset, args.images)
    patches = model.grid[0] * model.grid[1]
    noise = masking_noise(0, 0, 0, len(images), patches, 0, 1, torch.device("cpu"))
    targets, losses = [], []
    for batch, batch_noise in zip(images.split(64), noise.split(64), strict=True):
        loss, _, mask = model(batch, options["mask_ratio"], batch_noise)
        target = model.patchify(model.decoder_target(batch))
        if model.norm_pix_loss:
            mean, std = model.patch_statistics(target)
            target = (target - mean) / std
        targets.append(target[mask.bool()])
        losses.append(loss * len(batch))
    target = torch.cat(targets)  # [P, D'], the removed patches of all images

    scales = target.unflatten(1, (model.decoder_target.channels, -1))
    found = {
        "constant": squared_error(target.mean(), target),
        "patch mean": squared_error(target.mean(dim=1, keepdim=True), target),
        "scale means": squared_error(scales.mean(dim=2, keepdim=True), scales),
        "mean patch": squared_error(target.mean(dim=0), target),
        "model": (torch.stack(losses).sum() / len(images)).item(),
    }
    print(f"{args.checkpoint}, {len(images)} images, {len(target)} removed patches")
    for name, loss in found.items():
        print(f"  {name:12} {loss:.4f}   {loss / found['constant']:.3f} of a constant's")
    if args.json:
        write_json(args.json, found, indent=1)


if __name__ == "__main__":
    with exit_on_input_error():
        main()
