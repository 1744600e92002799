"""The masked autoencoder of SARATR-X: a HiViT encoder of kept patches, and a light decoder to a target.

For example:
    model = mae_hivit_base_dec512d6b()
    loss, pred, mask = model(images, mask_ratio=0.75)     # images [B, 1, 224, 224], amplitude in [0, 1]
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from hivit_mae.models.gradient_feature import RADII
from hivit_mae.models.targets import DEFAULT, make_target
from hivit_mae.run.options import ModelOptions
from saratrx.hivit import SIZES, AttentionBlock, HiViT, initialise, layer_norm, row_major
from saratrx.position import sincos_table


class PublishedKernels(nn.Module):
    """The four 0/1 kernels [1, 1, 2r+1, 2r+1] of one radius, as buffers that published checkpoints hold.

    The features no longer need them (see `gradient_feature`), but the published code loads strictly, so they must be
    there to be written.
    """

    def __init__(self, radius: int) -> None:
        super().__init__()
        half = torch.zeros(1, 1, 2 * radius + 1, 2 * radius + 1)
        half[..., : radius + 1] = 1
        for name, kernel in {"x1": half, "x2": half.flip(-1), "y1": half.mT, "y2": half.mT.flip(-2)}.items():
            self.register_buffer(f"weight_{name}", kernel.contiguous())


class HiViTMaskedAutoencoder(HiViT):
    """HiViT with a decoder that predicts a target in removed patches.

    The encoder's token is hierarchical: what stages 1 and 2 end with and stage 3's output, 7 D values a patch.

    D' are the values of the target in a patch; those of the published one, "mgf", are 768.

    Args:
        decoder_embed_dim, decoder_depth, decoder_num_heads: the decoder's width, blocks and attention heads.
        norm_pix_loss: give each patch's target values zero mean and unit variance (published: always), where the
            target itself does not say.
        target: a name of `TARGETS`.
        **encoder: `HiViT`'s arguments but `rpe` and `ape`; images of another `img_size` are refused.

    """

    def __init__(
        self,
        decoder_embed_dim: int = 512,
        decoder_depth: int = 6,
        decoder_num_heads: int = 16,
        norm_pix_loss: bool = True,
        target: str = DEFAULT,
        **encoder: Any,
    ) -> None:
        super().__init__(rpe=False, ape=True, **encoder)
        decoder_target = make_target(target)
        self.norm_pix_loss = norm_pix_loss if decoder_target.normalised is None else decoder_target.normalised
        embed_dim = self.num_features
        feature_dim = 7 * embed_dim  # 4*4 * D/4 + 2*2 * D/2 + D
        target_dim = decoder_target.channels * (self.patch_size // decoder_target.cell) ** 2

        self.mask_token = nn.Parameter(torch.empty(1, 1, decoder_embed_dim).normal_(std=0.02))
        self.decoder_pos_embed = nn.Parameter(sincos_table(decoder_embed_dim, self.grid)[None], requires_grad=False)
        self.norm = layer_norm(feature_dim)
        for number, radius in enumerate(RADII if target == DEFAULT else (), start=1):
            self.add_module(f"sarfeature{number}", PublishedKernels(radius))
        self.decoder_embed = nn.Linear(feature_dim, decoder_embed_dim)
        self.decoder_blocks = nn.ModuleList(
            AttentionBlock(decoder_embed_dim, decoder_num_heads, mlp_ratio=4.0) for _ in range(decoder_depth)
        )
        self.decoder_norm = layer_norm(decoder_embed_dim)
        self.decoder_pred = nn.Linear(decoder_embed_dim, target_dim)
        for module in (self.norm, self.decoder_embed, self.decoder_blocks, self.decoder_norm, self.decoder_pred):
            module.apply(initialise)
        self.absolute_pos_embed.data.copy_(sincos_table(embed_dim, self.grid)[None])
        self.decoder_target = decoder_target

    def forward(  # type: ignore[override]  # another task than the encoder's alone
        self, images: torch.Tensor, mask_ratio: float = 0.75, noise: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Mask, encode, decode, compare.

        Args:
            images: [B, 1, H, W], amplitude in [0, 1], of the size that the model was made for.
            mask_ratio: share of patches to remove.
            noise: [B, L] numbers that decide which: the smallest are kept. None draws them uniformly.

        Returns:
            loss: mean squared error over removed patches, a float32 scalar.
            pred: [B, L, D'] predicted target of every patch.
            mask: [B, L], 1 = removed, 0 = kept.

        """
        if noise is None:
            noise = torch.rand(images.shape[0], self.grid[0] * self.grid[1], device=images.device)
        kept_ids, restore_ids, mask = random_masking(noise, mask_ratio)
        pred = self.forward_decoder(self.forward_encoder(images, kept_ids), restore_ids)
        return self.forward_loss(images, pred, mask), pred, mask

    def forward_encoder(self, images: torch.Tensor, kept_ids: torch.Tensor) -> torch.Tensor:
        """Images [B, 1, H, W], kept_ids [B, K] -> hierarchical tokens of the kept patches [B, K, 7 D]."""
        if self.grid_of(*images.shape[-2:]) != self.grid:
            raise ValueError(f"this model takes {self.grid} patches, not images of {tuple(images.shape[-2:])} px")
        # patches are dropped as pixels, before they are embedded: nothing is computed for them, nor sent back
        cells = self.patch_embed.split(images)
        cells = cells.flatten(2).take_along_dim(kept_ids[..., None], dim=1).unflatten(2, cells.shape[2:])
        cells = cells.repeat(1, 1, 1, 3)  # the channel comes before the pixel of a cell: three equal channels
        position = self.absolute_pos_embed.take_along_dim(kept_ids[..., None], dim=1)
        stage1, stage2, stage3 = self.forward_stages(self.patch_embed.embed(cells), position, self.grid)
        return self.norm(torch.cat([row_major(stage1).flatten(2), row_major(stage2).flatten(2), stage3], dim=2))

    def forward_decoder(self, tokens: torch.Tensor, restore_ids: torch.Tensor) -> torch.Tensor:
        """Tokens [B, K, 7 D] of kept patches, restore_ids [B, L] -> predicted target of all patches [B, L, D']."""
        x = self.decoder_embed(tokens)
        removed = self.mask_token.expand(x.shape[0], restore_ids.shape[1] - x.shape[1], -1)
        x = torch.cat([x, removed], dim=1).take_along_dim(restore_ids[..., None], dim=1)
        x = x + self.decoder_pos_embed
        for block in self.decoder_blocks:
            x = block(x)
        return self.decoder_pred(self.decoder_norm(x))

    def forward_loss(self, images: torch.Tensor, pred: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Mean squared error over removed patches, in float32 whatever the precision of `pred` [B, L, D']."""
        with torch.autocast(images.device.type, enabled=False):
            target = self.patchify(self.decoder_target(images))
        if self.norm_pix_loss:
            mean, std = self.patch_statistics(target)
            target = (target - mean) / std
        loss = (pred.float() - target).square().mean(dim=-1)
        return (loss * mask).sum() / mask.sum()

    @staticmethod
    def patch_statistics(target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and regularised standard deviation of each patch: [B, L, D'] -> 2 x [B, L, 1]."""
        variance, mean = torch.var_mean(target, dim=-1, keepdim=True)
        return mean, (variance + 1e-6).sqrt()

    def patchify(self, maps: torch.Tensor) -> torch.Tensor:
        """Cut maps [B, C, H / cell, W / cell] of the target into patches [B, L, D'], row-major, map after map."""
        (rows, columns), p = self.grid, self.patch_size // self.decoder_target.cell
        patches = maps.unflatten(3, (columns, p)).unflatten(2, (rows, p))  # B, C, rows, p, columns, p
        return patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)

    def unpatchify(self, patches: torch.Tensor) -> torch.Tensor:
        """Undo `patchify`: [B, L, D'] -> [B, C, H / cell, W / cell]."""
        (rows, columns), p = self.grid, self.patch_size // self.decoder_target.cell
        maps = patches.reshape(patches.shape[0], rows, columns, -1, p, p).permute(0, 3, 1, 4, 2, 5)
        return maps.flatten(4).flatten(2, 3)


def random_masking(noise: torch.Tensor, mask_ratio: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Choose the patches with the smallest noise.

    Args:
        noise: [B, L].
        mask_ratio: share to remove; int(L * (1 - mask_ratio)) patches are kept.

    Returns:
        kept_ids [B, K]; restore_ids [B, L], which undo the shuffle; mask [B, L], 1 = removed.

    """
    length = noise.shape[1]
    kept = int(length * (1 - mask_ratio))
    shuffle_ids = noise.argsort(dim=1)
    restore_ids = shuffle_ids.argsort(dim=1)
    mask = (restore_ids >= kept).float()
    return shuffle_ids[:, :kept], restore_ids, mask


def mae_hivit_micro_dec32d1b(**kwargs: Any) -> HiViTMaskedAutoencoder:
    """Build a model for tests that trains in a second."""
    decoder = {"decoder_embed_dim": 32, "decoder_depth": 1, "decoder_num_heads": 2}
    return HiViTMaskedAutoencoder(**SIZES["micro"] | decoder | kwargs)


def mae_hivit_nano_dec128d2b(**kwargs: Any) -> HiViTMaskedAutoencoder:
    """HiViT-N, 3 M parameters, with a light decoder: 128 wide, 2 blocks. For chips of 128 px on a CPU."""
    decoder = {"decoder_embed_dim": 128, "decoder_depth": 2, "decoder_num_heads": 4}
    return HiViTMaskedAutoencoder(**SIZES["nano"] | decoder | kwargs)


def mae_hivit_tiny_dec512d6b(**kwargs: Any) -> HiViTMaskedAutoencoder:
    """HiViT-T with the published decoder: 512 wide, 6 blocks. Takes the class's arguments."""
    return HiViTMaskedAutoencoder(**SIZES["tiny"] | kwargs)


def mae_hivit_small_dec512d6b(**kwargs: Any) -> HiViTMaskedAutoencoder:
    """HiViT-S with the published decoder."""
    return HiViTMaskedAutoencoder(**SIZES["small"] | kwargs)


def mae_hivit_base_dec512d6b(**kwargs: Any) -> HiViTMaskedAutoencoder:
    """HiViT-B with the published decoder: SARATR-X."""
    return HiViTMaskedAutoencoder(**SIZES["base"] | kwargs)


def mae_hivit_large_dec512d6b(**kwargs: Any) -> HiViTMaskedAutoencoder:
    """HiViT-L with the published decoder."""
    return HiViTMaskedAutoencoder(**SIZES["large"] | kwargs)


MODELS: dict[str, Callable[..., HiViTMaskedAutoencoder]] = {
    factory.__name__: factory
    for factory in (
        mae_hivit_micro_dec32d1b,
        mae_hivit_nano_dec128d2b,
        mae_hivit_tiny_dec512d6b,
        mae_hivit_small_dec512d6b,
        mae_hivit_base_dec512d6b,
        mae_hivit_large_dec512d6b,
    )
}


def build_model(options: ModelOptions, seed: int) -> HiViTMaskedAutoencoder:
    """Make the model with random weights, which follow from the seed."""
    torch.manual_seed(seed)
    return MODELS[options.model](
        img_size=options.input_size, norm_pix_loss=options.norm_pix_loss, target=options.target
    )
