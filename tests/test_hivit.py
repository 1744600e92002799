import golden
import pytest
import timm
import torch
import torch.nn.functional as F

from saratrx import hivit, position
from saratrx.checkpoint import load_encoder, save_checkpoint


def micro(**kwargs):
    arguments = {"img_size": 64, "num_classes": 3, "embed_dim": 32, "depths": (1, 1, 2), "num_heads": 2}
    return hivit.HiViTClassifier(**arguments | kwargs).eval()


@pytest.mark.parametrize("rpe", [False, True])
def test_classifier_agrees_with_the_published_code(rpe):
    arrays, facts = golden.load("pretrain")
    name = "rpe" if rpe else "norpe"
    model = hivit.hivit_base(num_classes=10, rpe=rpe)
    found, expected = golden.keys_and_shapes(model), facts["keys"][f"hivit_base_{name}_10classes"]
    assert list(found.items()) == list(expected.items())
    golden.fill(model)
    images = golden.image("rgb", (2, 3, 224, 224))
    with torch.no_grad():
        assert golden.relative_error(model(images), arrays[f"hivit_{name}_logits"]) < golden.TOLERANCE
        if not rpe:
            tokens = model.forward_features(images)[:, ::13, ::16]
            assert golden.relative_error(tokens, arrays["hivit_norpe_features_sub"]) < golden.TOLERANCE


def test_sincos_table_agrees_with_the_published_code():
    arrays, _ = golden.load("pretrain")
    table = position.sincos_table(512, (14, 14))[::5, ::7]
    assert golden.relative_error(table, arrays["sincos_512_14"]) < golden.TOLERANCE


def test_sincos_table_at_one_place():
    table = position.sincos_table(16, (3, 5))
    row, column, i = 2, 4, 3
    angle = 10000 ** (-i / 4)
    cell = table[row * 5 + column]
    expected = torch.tensor([column * angle, column * angle, row * angle, row * angle])
    expected = torch.stack([expected[0].sin(), expected[1].cos(), expected[2].sin(), expected[3].cos()])
    torch.testing.assert_close(cell[[i, 4 + i, 8 + i, 12 + i]], expected)


def test_relative_position_index_by_a_loop():
    rows, columns = 2, 3
    index = position.relative_position_index((rows, columns))
    for a in range(rows * columns):
        for b in range(rows * columns):
            (ra, ca), (rb, cb) = divmod(a, columns), divmod(b, columns)
            assert index[a, b] == (ra - rb + rows - 1) * (2 * columns - 1) + (ca - cb + columns - 1)


def test_patch_embedding_is_the_convolution_of_its_weights():
    embed = hivit.PatchEmbed(16, 3, 8)
    images = torch.rand(2, 3, 32, 48)
    maps = F.conv2d(images, embed.proj.weight, embed.proj.bias, stride=4)
    tokens = embed(images)
    for patch in range(6):
        row, column = divmod(patch, 3)
        corner = maps[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].permute(0, 2, 3, 1)
        torch.testing.assert_close(hivit.row_major(tokens)[:, patch], embed.norm(corner))


def test_merge_takes_the_corners_in_the_published_order():
    """Of the grid of each step: (0::2, 0::2), (1::2, 0::2), (0::2, 1::2), (1::2, 1::2), side by side as channels."""
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    cells = hivit.PatchEmbed(4, 1, 1).split(image)
    grid = image.reshape(1, 1, 4, 4, 1)
    assert torch.equal(hivit.row_major(cells), grid)
    for width in (1, 4):
        merge = hivit.PatchMerge(width)
        merge.norm, merge.reduction = torch.nn.Identity(), torch.nn.Identity()
        cells = merge(cells)
        grid = torch.cat([grid[:, :, r::2, c::2] for r, c in ((0, 0), (1, 0), (0, 1), (1, 1))], dim=-1)
        assert torch.equal(hivit.row_major(cells), grid)


def test_stages_move_information_as_they_should():
    """Until stage 3 a patch sees itself alone; after it, every patch."""
    model = micro(rpe=False)
    images = torch.rand(1, 3, 64, 64)
    changed = images.clone()
    changed[..., :16, :16] += 0.5
    with torch.no_grad():
        before = model.forward_intermediates(images, intermediates_only=True)
        after = model.forward_intermediates(changed, intermediates_only=True)
    for map_before, map_after, side in zip(before[:2], after[:2], (4, 2), strict=True):
        differs = (map_before != map_after).any(dim=1)[0]
        assert differs[:side, :side].all()
        assert differs.sum() == side * side
    assert (before[2] != after[2]).any(dim=1).all()


@pytest.mark.parametrize("size", hivit.SIZES)
def test_timm_creates_every_size(size):
    name = f"hivit_{size}_patch16_224"
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=10)
    assert model.head.weight.shape == (10, hivit.SIZES[size]["embed_dim"])
    assert name in hivit.__all__
    assert callable(getattr(hivit, name))  # as `from saratrx.hivit import *` asks
    assert not model.rpe
    assert sum(isinstance(b, hivit.AttentionBlock) for b in model.blocks) == hivit.SIZES[size]["depths"][2]


def test_timm_gives_maps_at_strides_4_8_16():
    model = timm.create_model("hivit_tiny_patch16_224", features_only=True).eval()
    assert model.feature_info.reduction() == [4, 8, 16]
    assert model.feature_info.channels() == [96, 192, 384]
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        maps = model(images)
        tokens = model.model.forward_features(images)
    assert [list(m.shape) for m in maps] == [[1, 96, 16, 24], [1, 192, 8, 12], [1, 384, 4, 6]]
    torch.testing.assert_close(maps[2].flatten(2).mT, tokens)
    last = timm.create_model("hivit_tiny_patch16_224", features_only=True, out_indices=(-1,))
    assert last.feature_info.reduction() == [16]


def test_unfolded_inner_grid_is_in_image_order():
    grid = (2, 3)
    cells = torch.arange(8 * 12.0).reshape(1, 8, 12)  # a map of 2x3 patches of 4x4 cells
    tokens = hivit.PatchEmbed(4, 1, 1).split(cells[:, None])
    assert torch.equal(hivit.unfold_inner_grid(tokens, grid)[:, 0], cells)
    tokens = hivit.row_major(tokens)[:, :, ::2, ::2].transpose(2, 3).flatten(2, 3)  # 2x2 cells in merge order
    assert torch.equal(hivit.unfold_inner_grid(tokens, grid)[:, 0], cells[:, ::2, ::2])


@pytest.mark.parametrize("rpe", [False, True])
def test_another_image_size_is_what_a_model_of_that_size_computes(rpe, tmp_path):
    model = micro(rpe=rpe)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    save_checkpoint(tmp_path / "a.pth", model=model.state_dict())
    other = micro(rpe=rpe, img_size=(48, 96))
    report = load_encoder(other, tmp_path / "a.pth")
    assert "absolute_pos_embed" in report.resized
    images = torch.rand(2, 3, 48, 96)
    with torch.no_grad():
        torch.testing.assert_close(model(images), other(images))


def test_image_sides_must_be_multiples_of_16():
    with pytest.raises(ValueError, match="multiples of 16 px, not 60x64"):
        micro()(torch.rand(1, 3, 60, 64))
    with pytest.raises(ValueError, match="multiples of 16"):
        micro(img_size=200)


def test_stochastic_depth_rises_over_all_blocks_but_merges():
    model = micro(depths=(1, 2, 3), drop_path_rate=0.4)
    rates = [block.drop_path.drop_prob for block in model.blocks if not isinstance(block, hivit.PatchMerge)]
    assert rates == pytest.approx([0.4 * i / 8 for i in range(9)])
    model.train()
    images = torch.rand(4, 3, 64, 64)
    torch.manual_seed(0)
    first = model(images)
    assert not torch.equal(first, model(images))
    model.eval()
    assert torch.equal(model(images), model(images))


@pytest.mark.parametrize("has_bias", [False, True])
def test_attention_written_out_is_attention(monkeypatch, has_bias):
    """Values and gradients in float64; and in bfloat16, where it is used, as exact as PyTorch's own."""
    torch.manual_seed(0)
    attention = hivit.Attention(32, 2, bias_table_rows=1 if has_bias else 0)
    tokens, bias = torch.randn(3, 10, 32), torch.randn(1, 2, 10, 10) if has_bias else None
    asked = []

    def attend(*inputs, **masks):
        asked.append(True)
        return in_full(*inputs, **masks)

    def found(dtype, written_out):
        monkeypatch.setattr(hivit, "HAS_BF16_PRODUCTS", written_out)
        attention.zero_grad()
        with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
            attention(tokens, bias).square().sum().backward()
        return torch.cat([p.grad.flatten() for p in attention.qkv.parameters()])

    in_full = hivit.attend_in_full
    monkeypatch.setattr(hivit, "attend_in_full", attend)
    exact = found(torch.float32, True)
    assert not asked  # in float32 PyTorch's is the faster one
    errors = [(found(torch.bfloat16, written_out) - exact).norm() / exact.norm() for written_out in (False, True)]
    assert len(asked) == 1
    assert errors[1] < 1.5 * errors[0] < 0.03
    query, key, value = torch.randn(3, 2, 2, 10, 16, dtype=torch.float64)
    bias = None if bias is None else bias.double()
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    torch.testing.assert_close(in_full(query, key, value, attn_mask=bias), expected)


def test_bias_tables_start_at_zero_and_matter():
    model = micro(rpe=True)
    attention = model.blocks[-1].attn
    assert not attention.relative_position_bias_table.any()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = model(images)
        attention.relative_position_bias_table.normal_()
        assert not torch.equal(before, model(images))


def test_layers_of_decaying_rates_are_the_published_ones():
    _, facts = golden.load("detection")
    arguments = facts["layer_decay_args"]
    model = hivit.hivit_base(rpe=False)
    top = model.decay_layer("fc_norm.weight")
    assert top == arguments["num_layers"] + 1
    found = {f"backbone.{name}": model.decay_layer(name) for name, _ in model.named_parameters()}
    published = {name: scale for name, (scale, _) in facts["layer_decay"].items() if name in found}
    assert len(published) > 250
    for name, scale in published.items():
        assert arguments["layer_decay_rate"] ** (top - found[name]) == pytest.approx(scale, rel=1e-6), name


def test_layers_of_decaying_rates_by_hand():
    model = hivit.hivit_tiny(rpe=False)  # blocks.0 to blocks.5: stages 1 and 2 with their merges; then 10 of attention
    places = {"absolute_pos_embed": 0, "patch_embed.norm.bias": 0, "blocks.5.norm.weight": 0}
    places |= {"blocks.6.attn.qkv.weight": 1, "blocks.15.mlp.fc2.bias": 10, "head.bias": 11}
    assert {name: model.decay_layer(name) for name in places} == places
