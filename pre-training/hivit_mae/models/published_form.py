"""Pre-training as published, written plainly from its description: baseline of timings, independent form for tests.

It shares the parameters of our model, so that both can be given the same weights, and computes the same numbers:
twelve dense convolutions for the gradient features, softmax attention written out, every patch embedded by a
convolution before three quarters of them are dropped.
"""

from typing import Any

import torch
import torch.nn.functional as F

from hivit_mae.models.models_hivit_mae import HiViTMaskedAutoencoder
from hivit_mae.models.targets.target import Target
from saratrx.hivit import Attention, PatchMerge


class SoftmaxAttention(Attention):
    """Attention as matrix products and a softmax, with the [N, N] weights held in memory."""

    def forward(self, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        batch, length, width = x.shape
        head_dim = width // self.num_heads
        qkv = self.qkv(x).reshape(batch, length, 3, self.num_heads, head_dim).permute(2, 0, 3, 1, 4)
        weights = (qkv[0] * head_dim**-0.5) @ qkv[1].transpose(-2, -1)
        if bias is not None:
            weights = weights + bias
        x = weights.softmax(dim=-1) @ qkv[2]
        return self.proj(x.transpose(1, 2).reshape(batch, length, width))


class SlicedMerge(PatchMerge):
    """A merge of tokens whose cells stand in rows and columns: [B, N, s, s, C] -> [B, N, s/2, s/2, 2C]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        corners = [x[:, :, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(corners, dim=-1)))


class DenseGradientFeature(Target):
    """`GradientFeature` by dense (2r+1)^2 convolutions, four a radius, in the precision of the images."""

    def __init__(self, radii: tuple[int, ...] = (9, 13, 17)) -> None:
        super().__init__()
        self.radii, self.channels = radii, len(radii)
        for radius in radii:
            left = torch.zeros(1, 1, 2 * radius + 1, 2 * radius + 1)
            left[..., : radius + 1] = 1
            kernels = torch.cat([left, left.flip(-1), left.mT, left.mT.flip(-2)])
            self.register_buffer(f"kernels{radius}", kernels, persistent=False)

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = []
        for radius in self.radii:
            padded = F.pad(images, (radius,) * 4, mode="reflect") + 1e-2
            kernels = getattr(self, f"kernels{radius}").to(images.dtype)
            left, right, up, down = (F.conv2d(padded, kernel[None]) for kernel in kernels)
            features.append((torch.log(left / right) ** 2 + torch.log(up / down) ** 2).sqrt())
        return torch.cat(features, dim=1)


class PublishedForm(HiViTMaskedAutoencoder):
    """The masked autoencoder as published. Takes its class's arguments."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.decoder_target = DenseGradientFeature()
        for module in self.modules():
            if isinstance(module, Attention):
                module.__class__ = SoftmaxAttention
            elif isinstance(module, PatchMerge):
                module.__class__ = SlicedMerge

    def forward_encoder(self, images: torch.Tensor, kept_ids: torch.Tensor) -> torch.Tensor:
        (rows, columns), (batch, kept) = self.grid, kept_ids.shape
        x = self.patch_embed.proj(images.repeat(1, 3, 1, 1))  # [B, D/4, H/4, W/4]
        width = x.shape[1]
        x = x.view(batch, width, rows, 4, columns, 4).permute(0, 2, 4, 3, 5, 1)
        x = self.patch_embed.norm(x.reshape(batch, rows * columns, 4, 4, width))
        x = torch.gather(x, 1, kept_ids[:, :, None, None, None].expand(-1, -1, 4, 4, width))
        position = self.absolute_pos_embed.expand(batch, -1, -1)
        position = torch.gather(position, 1, kept_ids[:, :, None].expand(-1, -1, position.shape[2]))
        stages = self.forward_stages(x, position, self.grid)
        return self.norm(torch.cat([stage.reshape(batch, kept, -1) for stage in stages], dim=2))
