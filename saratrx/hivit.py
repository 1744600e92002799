"""HiViT, the hierarchical vision transformer (Zhang et al., ICLR 2023), with published checkpoints' parameter names.

Every 16x16 patch is one token from the start: two cheap stages of MLPs work on the 4x4, then 2x2, inner grid of a
patch, and only the last stage attends between patches. A masked autoencoder can therefore drop patches at the input.

    import saratrx                                                # registers the models with timm
    model = timm.create_model("hivit_base_patch16_224", num_classes=10)
    maps = timm.create_model("hivit_base_patch16_224", features_only=True)(images)   # strides 4, 8, 16

The encoder sees three channels. A SAR amplitude in [0, 1] is repeated three times; there is no mean/std normalisation.
"""

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import DropPath, Mlp, to_2tuple, trunc_normal_
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from torch import nn

from saratrx.device import fast_bf16
from saratrx.position import Grid, relative_position_index, resize_bias_table, resize_position_embedding

INNER = 4  # a patch enters as a 4x4 inner grid of cells; each merge halves it: 4, 2, 1
CELLS = INNER * INNER
LAYER_NORM_EPS = 1e-6
HAS_BF16_PRODUCTS = fast_bf16() is not None

SIZES: dict[str, dict[str, Any]] = {  # the published ones; ours: micro for tests, 0.1 M, and nano, 3 M parameters
    "micro": {"embed_dim": 32, "depths": (1, 1, 2), "num_heads": 2},
    "nano": {"embed_dim": 192, "depths": (1, 1, 6), "num_heads": 3},
    "tiny": {"embed_dim": 384, "depths": (1, 1, 10), "num_heads": 6},
    "small": {"embed_dim": 384, "depths": (2, 2, 20), "num_heads": 6},
    "base": {"embed_dim": 512, "depths": (2, 2, 20), "num_heads": 8},
    "large": {"embed_dim": 768, "depths": (4, 4, 36), "num_heads": 12},
}


def layer_norm(width: int) -> nn.LayerNorm:
    """LayerNorm with the epsilon of every published model."""
    return nn.LayerNorm(width, eps=LAYER_NORM_EPS)


class PatchEmbed(nn.Module):
    """Image to patches to tokens. `proj` is shaped as a convolution, but its stride is its kernel: a linear layer.

    The 16 cells of a patch are kept in merge order: the four that the first merge joins are neighbours, and so are the
    four that the second joins, so that a merge copies nothing. Among four, (row, column) go (0, 0), (1, 0), (0, 1),
    (1, 1), as published weights expect.
    """

    def __init__(self, patch_size: int, in_chans: int, width: int) -> None:
        super().__init__()
        self.cell = patch_size // INNER
        self.proj = nn.Conv2d(in_chans, width, kernel_size=self.cell, stride=self.cell)
        self.norm = layer_norm(width)

    def split(self, images: torch.Tensor) -> torch.Tensor:
        """Images [B, C, H, W] -> pixels of each cell [B, N, 16, C * cell * cell], patches in row-major order."""
        batch, channels, height, width = images.shape
        patch = INNER * self.cell
        rows, columns = height // patch, width // patch
        # an inner row or column is 2 * (its half) + (its place in the half)
        cells = images.reshape(batch, channels, rows, 2, 2, self.cell, columns, 2, 2, self.cell)
        cells = cells.permute(0, 2, 6, 7, 3, 8, 4, 1, 5, 9)  # B, rows, columns, halves, places, C, cell, cell
        return cells.reshape(batch, rows * columns, CELLS, -1)

    def embed(self, cells: torch.Tensor) -> torch.Tensor:
        """Cells [B, N, 16, C * cell * cell] -> tokens [B, N, 16, width]."""
        return self.norm(F.linear(cells, self.proj.weight.flatten(1), self.proj.bias))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images [B, C, H, W] -> tokens [B, N, 16, width]."""
        return self.embed(self.split(images))


class MlpBlock(nn.Module):
    """Pre-norm MLP on every cell of the inner grid: the block of stages 1 and 2. Shape-preserving."""

    def __init__(self, width: int, mlp_ratio: float, drop_path: float) -> None:
        super().__init__()
        self.norm2 = layer_norm(width)
        self.mlp = Mlp(width, int(width * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.drop_path(self.mlp(self.norm2(x)))


class PatchMerge(nn.Module):
    """Halve the inner grid and double the channels: [B, N, 4 n, C] -> [B, N, n, 2C], cells in merge order."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = layer_norm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.reduction(self.norm(x.unflatten(2, (-1, 4)).flatten(3)))


class Attention(nn.Module):
    """Multi-head self-attention over patches [B, N, C], with an optional additive bias [1, heads, N, N]."""

    def __init__(self, width: int, num_heads: int, bias_table_rows: int = 0) -> None:
        super().__init__()
        self.num_heads = num_heads
        if bias_table_rows:
            self.relative_position_bias_table = nn.Parameter(torch.zeros(bias_table_rows, num_heads))
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(x).reshape(batch, length, 3, self.num_heads, width // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        bias = None if bias is None else bias.to(query.dtype)
        is_written_out = HAS_BF16_PRODUCTS and query.dtype == torch.bfloat16 and query.requires_grad
        attend = attend_in_full if is_written_out and query.device.type == "cpu" else F.scaled_dot_product_attention
        x = attend(query, key, value, attn_mask=bias)
        return self.proj(x.transpose(1, 2).reshape(batch, length, width))


def attend_in_full(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attn_mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Compute what `F.scaled_dot_product_attention` does, [B, heads, N, d], with [B, heads, N, N] weights in memory.

    On CPUs that multiply matrices in bfloat16, and in that precision, training is the faster for it.
    """
    weights = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    if attn_mask is not None:
        weights = weights + attn_mask
    return weights.softmax(dim=-1) @ value


class AttentionBlock(nn.Module):
    """Pre-norm transformer block over patches [B, N, C]: the block of stage 3 and of the decoder. Shape-preserving."""

    def __init__(
        self, width: int, num_heads: int, mlp_ratio: float, drop_path: float = 0.0, bias_table_rows: int = 0
    ) -> None:
        super().__init__()
        self.norm1 = layer_norm(width)
        self.attn = Attention(width, num_heads, bias_table_rows)
        self.norm2 = layer_norm(width)
        self.mlp = Mlp(width, int(width * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x), bias))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class HiViT(nn.Module):
    """The encoder: images -> tokens of stage 3. What stages add to it stands in classes that inherit from it.

    Args:
        img_size: side (or (H, W)) in pixels that the position embeddings are made for; other multiples of
            `patch_size` are accepted by `forward`, with the embeddings resized bicubically.
        patch_size: side of a patch in pixels, a multiple of 4.
        in_chans: channels of the input.
        embed_dim: width D of stage 3; stages 1 and 2 have D/4 and D/2.
        depths: stages 1 and 2 have twice the number given here of MLP blocks, stage 3 that of attention blocks.
        num_heads: attention heads of stage 3.
        stem_mlp_ratio: hidden width of the MLPs of stages 1 and 2, relative to theirs.
        mlp_ratio: the same for stage 3.
        rpe: add a trained relative position bias in every attention block, as some published ImageNet weights have it.
        ape: add a trained absolute position embedding before stage 3.
        drop_path_rate: stochastic depth of the last block, rising linearly from 0 at the first.

    Raises:
        ValueError: for an image or patch size that does not fit.

    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        in_chans: int = 3,
        embed_dim: int = 512,
        depths: tuple[int, int, int] = (2, 2, 20),
        num_heads: int = 8,
        stem_mlp_ratio: float = 3.0,
        mlp_ratio: float = 4.0,
        rpe: bool = False,
        ape: bool = True,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if patch_size % INNER:
            raise ValueError(f"patch_size must be a multiple of {INNER}, not {patch_size}")
        self.patch_size = patch_size
        self.num_features = self.head_hidden_size = embed_dim
        self.grid = self.grid_of(*to_2tuple(img_size))
        rows, columns = self.grid
        if ape:
            self.absolute_pos_embed = nn.Parameter(torch.zeros(1, rows * columns, embed_dim))
        self.ape, self.rpe = ape, rpe
        if rpe:
            self.register_buffer("relative_position_index", relative_position_index(self.grid))

        self.patch_embed = PatchEmbed(patch_size, in_chans, embed_dim // 4)
        block_count = sum(depths) + sum(depths[:-1])
        drop_path = (drop_path_rate * i / (block_count - 1) for i in range(block_count))
        blocks: list[nn.Module] = []
        for stage, width in enumerate((embed_dim // 4, embed_dim // 2)):
            blocks += [MlpBlock(width, stem_mlp_ratio, next(drop_path)) for _ in range(2 * depths[stage])]
            blocks.append(PatchMerge(width))
        bias_table_rows = (2 * rows - 1) * (2 * columns - 1) if rpe else 0
        blocks += [
            AttentionBlock(embed_dim, num_heads, mlp_ratio, next(drop_path), bias_table_rows) for _ in range(depths[2])
        ]
        self.blocks = nn.ModuleList(blocks)
        self.add_parts()
        self.apply(initialise)
        if ape:
            trunc_normal_(self.absolute_pos_embed, std=0.02)

    def add_parts(self) -> None:
        """Add what a subclass has beside the encoder and initialises like it; the order of draws is the seed's."""

    def grid_of(self, height: int, width: int) -> Grid:
        """Rows and columns of patches in an image of height x width pixels.

        Raises:
            ValueError: if a side is not a positive multiple of the patch.

        """
        if height % self.patch_size or width % self.patch_size or min(height, width) < self.patch_size:
            raise ValueError(f"image sides must be multiples of {self.patch_size} px, not {height}x{width}")
        return height // self.patch_size, width // self.patch_size

    def position_embedding(self, grid: Grid) -> torch.Tensor | float:
        """Give what is added to the tokens before stage 3: [1, N, D], or 0 without an absolute embedding."""
        return resize_position_embedding(self.absolute_pos_embed, self.grid, grid) if self.ape else 0.0

    def attention_bias(self, attention: Attention, grid: Grid) -> torch.Tensor | None:
        """Relative position bias [1, heads, N, N] of one attention layer, None without `rpe`."""
        if not self.rpe:
            return None
        table: torch.Tensor = attention.relative_position_bias_table
        index = self.get_buffer("relative_position_index")
        if grid != self.grid:
            table = resize_bias_table(table, self.grid, grid)
            index = relative_position_index(grid).to(table.device)
        return table[index].permute(2, 0, 1)[None]

    def forward_stages(
        self, tokens: torch.Tensor, position: torch.Tensor | float, grid: Grid
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Run the blocks on any set of patches.

        Args:
            tokens: [B, N, 16, D/4] from `patch_embed`.
            position: [1 or B, N, D], added before stage 3.
            grid: patches of the whole image; matters only with `rpe`.

        Returns:
            What each stage ends with: [B, N, 16, D/4], [B, N, 4, D/2] (cells in merge order) and [B, N, D].

        """
        stages = []
        x = tokens
        for block in self.blocks:
            if isinstance(block, PatchMerge):
                stages.append(x)
                x = block(x)
                if len(stages) == 2:  # the inner grid is down to one cell: from here a token is a vector
                    x = x.flatten(2) + position
            elif isinstance(block, AttentionBlock):
                x = block(x, self.attention_bias(block.attn, grid))
            else:
                x = block(x)
        stage1, stage2 = stages
        return stage1, stage2, x

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Images [B, C, H, W] -> tokens of stage 3 [B, N, D], without a final norm."""
        grid = self.grid_of(*x.shape[-2:])
        return self.forward_stages(self.patch_embed(x), self.position_embedding(grid), grid)[-1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images [B, C, H, W] -> tokens of stage 3 [B, N, D]."""
        return self.forward_features(x)

    def decay_layer(self, name: str) -> int:
        """Layer of a parameter, for fine-tuning with rates that decay from the last layer to the first.

        0 for all up to the first attention block, 1, 2, ... for the attention blocks, one more for what follows them.
        """
        first = next(i for i, block in enumerate(self.blocks) if isinstance(block, AttentionBlock))
        if name.startswith("blocks."):
            return max(int(name.split(".")[1]) - first + 1, 0)
        return 0 if name.startswith(("patch_embed.", "absolute_pos_embed")) else len(self.blocks) - first + 1


class HiViTClassifier(HiViT):
    """HiViT with a head on its mean token, under timm's names.

    Args:
        num_classes: width of the classifier; 0 leaves the pooled, normalised features.
        **encoder: `HiViT`'s arguments.

    """

    def __init__(self, num_classes: int = 1000, **encoder: Any) -> None:
        self.num_classes = num_classes
        super().__init__(**encoder)
        width = self.num_features
        self.feature_info = [  # timm's description of the three maps
            {"num_chs": width // 4, "reduction": self.patch_size // 4, "module": "stage1"},
            {"num_chs": width // 2, "reduction": self.patch_size // 2, "module": "stage2"},
            {"num_chs": width, "reduction": self.patch_size, "module": "stage3"},
        ]

    def add_parts(self) -> None:
        """Add the norm and the head."""
        self.fc_norm: nn.Module = layer_norm(self.num_features)
        self.reset_classifier(self.num_classes)

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Tokens [B, N, D] -> logits [B, num_classes], or the normalised mean token [B, D] with `pre_logits`."""
        x = self.fc_norm(x.mean(dim=1))
        return x if pre_logits else self.head(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images [B, C, H, W] -> logits [B, num_classes]."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        """Give the last layer."""
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last layer; 0 classes leave the features."""
        self.num_classes = num_classes
        self.head: nn.Module = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def forward_intermediates(
        self,
        x: torch.Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[torch.Tensor] | tuple[torch.Tensor, list[torch.Tensor]]:
        """Compute maps at the ends of the stages: [B, D/4, H/4, W/4], [B, D/2, H/8, W/8], [B, D, H/16, W/16].

        Args:
            x: images [B, C, H, W].
            indices: which of the maps 0, 1, 2, in timm's convention (an int n: the last n; None: all).
            norm: not available, since the encoder ends without one.
            output_fmt: "NCHW" or "NHWC".
            intermediates_only: leave out the tokens [B, N, D] that come first otherwise.

        """
        if norm or output_fmt not in ("NCHW", "NHWC"):
            raise ValueError(f"HiViT gives maps without a norm, as NCHW or NHWC (asked: norm={norm}, {output_fmt})")
        take_indices, _ = feature_take_indices(3, indices)
        grid = self.grid_of(*x.shape[-2:])
        stages = self.forward_stages(self.patch_embed(x), self.position_embedding(grid), grid)
        maps = [unfold_inner_grid(stages[i], grid) for i in take_indices]
        if output_fmt == "NHWC":
            maps = [m.permute(0, 2, 3, 1) for m in maps]
        return maps if intermediates_only else (stages[-1], maps)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop what maps do not need; returns the indices that `forward_intermediates` takes."""
        take_indices, _ = feature_take_indices(3, indices)
        if prune_norm:
            self.fc_norm = nn.Identity()
        if prune_head:
            self.reset_classifier(0)
        return take_indices


def row_major(tokens: torch.Tensor) -> torch.Tensor:
    """Bring the cells of tokens from merge order to rows and columns: [B, N, s * s, C] -> [B, N, s, s, C]."""
    if tokens.shape[2] == CELLS:
        halves_and_places = tokens.unflatten(2, (2, 2, 2, 2))  # column half, row half, column place, row place
        return halves_and_places.permute(0, 1, 3, 5, 2, 4, 6).flatten(4, 5).flatten(2, 3)
    side = 2 if tokens.shape[2] == 4 else 1
    return tokens.unflatten(2, (side, side)).transpose(2, 3)


def unfold_inner_grid(tokens: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Tokens [B, N, s * s, C], or [B, N, C] for s = 1 -> map [B, C, rows * s, columns * s]."""
    cells = row_major(tokens[:, :, None] if tokens.ndim == 3 else tokens)
    maps = cells.unflatten(1, grid).permute(0, 5, 1, 3, 2, 4)  # B, C, rows, inner row, columns, inner column
    return maps.flatten(4).flatten(2, 3)


def initialise(module: nn.Module) -> None:
    """Linear weights truncated normal with std 0.02, biases 0, LayerNorm 1 and 0; for `nn.Module.apply`."""
    if isinstance(module, nn.Linear):
        trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)


def hivit_tiny(**kwargs: Any) -> HiViTClassifier:
    """D = 384, depths 1-1-10. Takes `HiViTClassifier`'s arguments."""
    return HiViTClassifier(**SIZES["tiny"] | kwargs)


def hivit_small(**kwargs: Any) -> HiViTClassifier:
    """D = 384, depths 2-2-20. Takes `HiViTClassifier`'s arguments."""
    return HiViTClassifier(**SIZES["small"] | kwargs)


def hivit_base(**kwargs: Any) -> HiViTClassifier:
    """D = 512, depths 2-2-20: the published SARATR-X. Takes `HiViTClassifier`'s arguments."""
    return HiViTClassifier(**SIZES["base"] | kwargs)


def hivit_large(**kwargs: Any) -> HiViTClassifier:
    """D = 768, depths 4-4-36. Takes `HiViTClassifier`'s arguments."""
    return HiViTClassifier(**SIZES["large"] | kwargs)


default_cfgs = generate_default_cfgs(
    {
        f"hivit_{size}_patch16_224": {
            "input_size": (3, 224, 224),
            "fixed_input_size": False,
            "num_classes": 1000,
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "mean": (0.0, 0.0, 0.0),
            "std": (1.0, 1.0, 1.0),
            "first_conv": "patch_embed.proj",
            "classifier": "head",
            "license": "cc-by-nc-4.0",
        }
        for size in SIZES
    }
)


def _register(size: str) -> None:
    """Make a size known to timm as `hivit_<size>_patch16_224`."""

    def create(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        feature_cfg = {"out_indices": (0, 1, 2), "feature_cls": "getter"}
        arguments = SIZES[size] | kwargs
        return build_model_with_cfg(HiViTClassifier, create.__name__, pretrained, feature_cfg=feature_cfg, **arguments)

    create.__name__ = f"hivit_{size}_patch16_224"
    globals()[create.__name__] = register_model(create)  # timm lists it in this module's __all__


for _size in SIZES:
    _register(_size)
