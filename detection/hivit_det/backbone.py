"""HiViT as a detector's backbone: maps at strides 4, 8, 16 and 32, and attention in windows."""

import math
from collections.abc import Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import nn
from torch.utils.checkpoint import checkpoint

from saratrx import tuning
from saratrx.checkpoint import load_encoder
from saratrx.errors import InputError, raise_problems
from saratrx.hivit import LAYER_NORM_EPS, AttentionBlock, HiViT, PatchMerge, unfold_inner_grid
from saratrx.position import Grid

H_BLOCK, M_BLOCK = 1, 4  # the published 'H' and 'M' levels come after these blocks; of HiViT-B, 4 is the first merge


class MapNorm(nn.LayerNorm):
    """LayerNorm over the channels of a map [B, C, H, W]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@MODELS.register_module(name="HiViT")
class HiViTBackbone(HiViT):
    """The encoder, giving a map per level of `out_indices`, in order of depth.

    Args:
        img_size: side in pixels of the images that the position embedding was trained for.
        out_indices: "H" (stride 4, D/4 channels), "M" (stride 8, D/2), or the number of an attention block, from 0
            (stride 16, D); a number can stand twice.
        global_indices: attention blocks that see the whole image; the others see windows.
        window_size: side of a window in patches.
        frozen_stages: -1: nothing is frozen; 0: the patch embedding; n: the first n blocks too.
        use_checkpoint: compute the attention blocks again in the backward pass, which saves memory.
        with_fpn: bring the four maps to strides 4, 8, 16 and 32, each normalised.
        tune: what is trained of the encoder: "all", "head" (nothing), "last_k" or "lora"; the layers of `with_fpn` and
            the rest of the detector always are. Frozen blocks have no stochastic depth.
        last_k: of "last_k", the number of last attention blocks that are trained.
        lora_rank: of "lora", the rank of the changes of matrices (Hu et al., ICLR 2022).
        lora_alpha: of "lora", their scale, divided by the rank.
        lora_targets: of "lora", the matrices: "qkv" and "proj" of the attention, "mlp".
        init_cfg: {"type": "Pretrained", "checkpoint": FILE} loads the encoder of any checkpoint.
        **kwargs: of `HiViT`.

    Raises:
        InputError: for levels, weights or ways to tune that do not fit.

    """

    def __init__(
        self,
        img_size: int = 224,
        out_indices: Sequence[str | int] = ("H", "M", 19, 19),
        global_indices: Sequence[int] = (4, 9, 14, 19),
        window_size: int = 14,
        frozen_stages: int = -1,
        use_checkpoint: bool = False,
        with_fpn: bool = True,
        tune: str = "all",
        last_k: int = 1,
        lora_rank: int = 8,
        lora_alpha: float = 16.0,
        lora_targets: Sequence[str] = tuning.TARGETS,
        init_cfg: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(window_size, int) or window_size < 1:
            raise InputError(f"model.backbone.window_size {str(window_size)[:30]}: must be a whole number from 1")
        raise_problems(wrong_tuning(tune, last_k, lora_rank, lora_alpha, lora_targets))
        super().__init__(img_size=img_size, **kwargs)
        self.window_size, self.use_checkpoint, self.init_cfg = window_size, use_checkpoint, init_cfg
        self.first_attention = next(i for i, block in enumerate(self.blocks) if isinstance(block, AttentionBlock))
        self.global_blocks = {self.first_attention + i for i in global_indices}
        self.taken = sorted(self.block_of(index) for index in out_indices)
        if with_fpn:
            self.add_pyramid(out_indices)
        self.with_fpn = with_fpn
        tuning.freeze(
            self,
            [name for name, _ in self.named_children() if name.startswith("fpn")],
            tune,
            last_k=("model.backbone.last_k", last_k),
            rank=("model.backbone.lora_rank", lora_rank),
            alpha=lora_alpha,
            targets=lora_targets,
        )
        self.freeze(frozen_stages)

    def block_of(self, index: str | int) -> int:
        """Tell the block after which a level is taken."""
        merges = [i for i, block in enumerate(self.blocks) if isinstance(block, PatchMerge)]
        if index == "H":
            return H_BLOCK
        if index == "M":
            return M_BLOCK if merges[0] <= M_BLOCK < merges[1] else merges[0]
        depth = len(self.blocks) - self.first_attention
        if not isinstance(index, int) or not 0 <= index < depth:
            raise InputError(f"out_indices {index!r}: must be 'H', 'M', or an attention block from 0 to {depth - 1}")
        return self.first_attention + index

    def add_pyramid(self, out_indices: Sequence[str | int]) -> None:
        """Add layers that bring four levels to strides 4 to 32; fine ones that are missing are made of coarse ones."""
        if len(out_indices) != 4 or ("M" in out_indices and "H" not in out_indices):
            raise InputError(f"out_indices {list(out_indices)}: with_fpn needs four levels, and 'H' where 'M' is")
        width = self.num_features

        def enlarge() -> nn.Module:
            return nn.ConvTranspose2d(width, width, kernel_size=2, stride=2)

        def norm(channels: int) -> MapNorm:
            return MapNorm(channels, eps=LAYER_NORM_EPS)

        self.fpn1 = norm(width // 4) if "H" in out_indices else nn.Sequential(enlarge(), nn.GELU(), enlarge())
        self.fpn2 = norm(width // 2) if "M" in out_indices else enlarge()
        self.fpn3 = norm(width)
        self.fpn4 = nn.Sequential(nn.MaxPool2d(kernel_size=2, stride=2), norm(width))

    def freeze(self, stages: int) -> None:
        """Keep the first parts as they are; see `frozen_stages`."""
        frozen = ([self.patch_embed] if stages >= 0 else []) + list(self.blocks[: max(stages, 0)])
        for module in frozen:
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Put the backbone into training or evaluation mode; frozen blocks are always in the latter."""
        super().train(mode)
        tuning.rest_frozen_blocks(self)
        return self

    def init_weights(self) -> None:
        """Load the checkpoint that `init_cfg` names, if any; MMEngine calls this once."""
        if self.init_cfg:
            load_encoder(self, self.init_cfg["checkpoint"], missing_ok=("fpn",))

    def position_embedding(self, grid: Grid) -> torch.Tensor | float:
        """Give the trained embedding at the size of the token grid, [1, N, D].

        It is stretched by (rows + 0.1) / trained rows, as published: the tenth keeps rounding from losing a row.
        """
        if not self.ape or grid == self.grid:
            return self.absolute_pos_embed if self.ape else 0.0
        table = self.absolute_pos_embed.reshape(1, *self.grid, -1).permute(0, 3, 1, 2)
        scale = tuple((new + 0.1) / old for new, old in zip(grid, self.grid, strict=True))
        return F.interpolate(table, scale_factor=scale, mode="bicubic", align_corners=False).flatten(2).mT

    def forward(  # type: ignore[override]  # MMDetection wants levels, the encoder gives tokens
        self, x: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Images [B, 3, H, W], sides multiples of 16 (of 32 with `with_fpn`) -> a map per level."""
        grid = self.grid_of(*map(int, x.shape[-2:]))  # numbers, also where the model is traced
        x = self.patch_embed(x)
        levels = []
        for i, block in enumerate(self.blocks):
            if i == self.first_attention:
                x = x.flatten(2) + self.position_embedding(grid)
            if i < self.first_attention:
                x = block(x)
            elif self.use_checkpoint and self.training:
                x = checkpoint(self.attend, x, i, grid, use_reentrant=False)
            else:
                x = self.attend(x, i, grid)
            levels += [unfold_inner_grid(x, grid)] * self.taken.count(i)
        if self.with_fpn:
            pyramid = (self.fpn1, self.fpn2, self.fpn3, self.fpn4)
            levels = [layer(level) for layer, level in zip(pyramid, levels, strict=True)]
        return tuple(levels)

    def attend(self, x: torch.Tensor, i: int, grid: Grid) -> torch.Tensor:
        """Attention block i on tokens [B, N, D], over the image or in windows."""
        block = self.blocks[i]
        if i in self.global_blocks:
            return block(x)
        # All of the block runs in windows, its first norm included: published weights were trained so
        windows = block(split_windows(x, grid, self.window_size))
        return join_windows(windows, grid, self.window_size, len(x))


def wrong_tuning(tune: Any, last_k: Any, rank: Any, alpha: Any, targets: Any) -> list[str]:
    """Say what is wrong with the arguments of `HiViTBackbone` that say what is trained."""
    problems = []
    if tune not in tuning.TUNES:
        problems.append(f"model.backbone.tune {str(tune)[:30]}: unknown; choose one of {', '.join(tuning.TUNES)}")
    for name, value in (("last_k", last_k), ("lora_rank", rank)):
        if type(value) is not int or value < 1:
            problems.append(f"model.backbone.{name} {str(value)[:30]}: must be a whole number from 1")
    if type(alpha) not in (int, float) or not 0 < alpha < math.inf:
        problems.append(f"model.backbone.lora_alpha {str(alpha)[:30]}: must be a finite number above 0")
    if not isinstance(targets, list | tuple) or not targets or not all(each in tuning.TARGETS for each in targets):
        wanted = ", ".join(tuning.TARGETS)
        problems.append(f"model.backbone.lora_targets {str(targets)[:30]}: choose one or more of {wanted}, as a list")
    return problems


def split_windows(tokens: torch.Tensor, grid: Grid, side: int) -> torch.Tensor:
    """Tokens [B, rows * columns, C] -> [B * windows, side * side, C], with zeros on the right and below."""
    batch, _, channels = tokens.shape
    rows, columns = grid
    padded = F.pad(tokens.reshape(batch, rows, columns, channels), (0, 0, 0, -columns % side, 0, -rows % side))
    down, across = padded.shape[1] // side, padded.shape[2] // side
    windows = padded.reshape(batch, down, side, across, side, channels).transpose(2, 3)
    return windows.reshape(batch * down * across, side * side, channels)


def join_windows(windows: torch.Tensor, grid: Grid, side: int, batch: int) -> torch.Tensor:
    """Undo `split_windows`, and leave its padding out: [B, rows * columns, C]."""
    rows, columns = grid
    down, across = -(-rows // side), -(-columns // side)
    padded = windows.reshape(batch, down, across, side, side, -1).transpose(2, 3)
    padded = padded.reshape(batch, down * side, across * side, -1)
    return padded[:, :rows, :columns].flatten(1, 2)
