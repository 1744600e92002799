"""How far does speckle move each target of pre-training? SARATR-X-v2 found steadier targets to transfer better.

    python benchmarks/speckle_drift.py DIR [DIR ...]
    python benchmarks/speckle_drift.py DIR --checkpoint checkpoint-800.pth      # and an encoder's features

Each image, in [0, 1], is multiplied twice by log-normal speckle, exp(sigma * a normal number for each pixel), and
clipped to [0, 1]. The drift of a target is the mean absolute difference between its values for the two copies, before
any normalisation of patches. So that targets of different ranges compare, the relative drift divides each map by the
standard deviation that it has over the images without speckle; features are taken per channel, alike.

The rank correlation is Spearman's, with the linear-probe accuracies that SARATR-X-v2 published (its table of targets):
-1 would be a drift that tells their order exactly. `fused` has equal weights here.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from scipy.stats import spearmanr

from hivit_mae.data.folders import FolderImages
from hivit_mae.models.targets import TARGETS, make_target
from hivit_mae.run.panel import fixed_images
from machine import parsed
from saratrx.checkpoint import encoder_weights, load_checkpoint, load_encoder, size_of
from saratrx.command_line import Parser
from saratrx.errors import InputError, exit_on_input_error
from saratrx.files import write_json

if TYPE_CHECKING:
    from saratrx.hivit import HiViT

Maps = Callable[[torch.Tensor], torch.Tensor]  # images [B, 1, S, S] in [0, 1] -> maps [B, C, h, w]

PUBLISHED = {  # % of a 10-shot linear probe on ATRNet-STAR SOC-50 (arXiv 2607.23238)
    "pixel_v2": 32.90, "s1": 35.20, "s2": 29.10, "s3": 33.63, "s4": 37.20, "s5": 38.40, "s6": 38.33, "fused": 39.17,
}  # fmt: skip
NEW_PARTS = ("fc_norm.", "head.")
BATCH = 50


def speckled(images: torch.Tensor, sigma: float, seed: int) -> torch.Tensor:
    """Multiply images in [0, 1] by log-normal speckle, and clip them; sigma is that of the logarithm."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    return (images * (sigma * noise).exp()).clamp(0, 1)


@torch.no_grad()
def drift(maps_of: Maps, images: torch.Tensor, sigma: float, seed: int) -> tuple[float, float]:
    """Mean absolute difference between two speckled copies: as it is, and in standard deviations of each map."""
    clean, differences = [], []
    copies = (speckled(images, sigma, 2 * seed), speckled(images, sigma, 2 * seed + 1))
    for batch, first, second in zip(images.split(BATCH), *(copy.split(BATCH) for copy in copies), strict=True):
        clean.append(maps_of(batch))
        differences.append((maps_of(first) - maps_of(second)).abs().mean(dim=(0, 2, 3)) * len(batch))
    each = torch.stack(differences).sum(dim=0) / len(images)
    deviation = torch.cat(clean).std(dim=(0, 2, 3)).clamp_min(1e-12)  # a map that is constant everywhere drifts by 0
    return each.mean().item(), (each / deviation).mean().item()


def features_of(path: Path, input_size: int) -> Maps:
    """Give what the encoder of a checkpoint of any stage ends with, [B, D, patches, 1]."""
    from saratrx.hivit import SIZES, HiViTClassifier  # noqa: PLC0415 -- with timm, which takes seconds

    weights = encoder_weights(load_checkpoint(path)["model"])
    size = size_of(weights)
    if not size:
        raise InputError(f"{path} is of no known size of HiViT: give a checkpoint of this project, of any stage")
    has_bias = any(key.endswith("relative_position_bias_table") for key in weights)
    model = HiViTClassifier(**SIZES[size], img_size=input_size, num_classes=0, rpe=has_bias).eval()
    load_encoder(model, path, NEW_PARTS)
    return tokens_of(model)


def tokens_of(model: "HiViT") -> Maps:
    """Give what computes an encoder's last tokens, [B, D, patches, 1]."""
    return lambda images: model.forward_features(images.expand(-1, 3, -1, -1)).mT[..., None]


def main() -> None:
    """Measure and print."""
    parser = Parser(description="Drift of each target of pre-training under speckle.")
    parser.add_argument("data", nargs="+", metavar="DIR", help="folders of images")
    parser.add_argument(
        "--checkpoint", nargs="+", type=Path, default=[], metavar="FILE", help="measure these encoders' features too"
    )
    parser.add_argument("--images", type=int, default=200, help="how many, chosen at random")
    parser.add_argument("--input_size", type=int, default=128, help="they are scaled and cut to this side, px")
    parser.add_argument("--sigma", nargs="+", type=float, default=[0.05, 0.1, 0.15, 0.3, 0.6], help="of the speckle")
    parser.add_argument("--seed", type=int, default=0, help="of the speckle")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    args = parsed(parser)

    images = fixed_images(FolderImages(args.data, args.input_size, seed=0, max_bad=0.01), args.images)
    measured: dict[str, Maps] = {name: make_target(name) for name in TARGETS if name != "fused_frozen"}
    measured |= {str(path): features_of(path, args.input_size) for path in args.checkpoint}
    found = {
        name: {sigma: drift(maps_of, images, sigma, args.seed) for sigma in args.sigma}
        for name, maps_of in measured.items()
    }
    correlations = {
        kind: {
            sigma: float(
                spearmanr([found[name][sigma][column] for name in PUBLISHED], list(PUBLISHED.values())).statistic
            )
            for sigma in args.sigma
        }
        for column, kind in enumerate(("drift", "relative drift"))
    }

    print(f"{len(images)} images of {args.input_size} px; drift (in standard deviations of the target) at sigma")
    print(" " * 12 + "".join(f"{sigma:>16g}" for sigma in args.sigma) + "   published, %")
    for name, row in found.items():
        cells = "".join(f"{absolute:9.4f} ({relative:.3f})".rjust(16) for absolute, relative in row.values())
        print(f"{name:12}{cells}   {PUBLISHED.get(name, '')}")
    for kind, row_of in correlations.items():
        print(f"rank correlation of {kind}: " + "  ".join(f"{sigma:g}: {value:.2f}" for sigma, value in row_of.items()))
    if args.json:
        content = {"images": len(images), "input_size": args.input_size, "seed": args.seed, "published": PUBLISHED}
        columns = ("drift", "relative drift")
        drifts = {
            name: {f"{sigma:g}": dict(zip(columns, pair, strict=True)) for sigma, pair in row.items()}
            for name, row in found.items()
        }
        write_json(args.json, content | {"targets": drifts, "rank_correlation": correlations}, indent=1)


if __name__ == "__main__":
    with exit_on_input_error():
        main()
