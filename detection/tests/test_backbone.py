"""The backbone against the published one's values, and against plain forms."""

import golden
import pytest
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.optim import build_optim_wrapper
from torch import nn

from hivit_det import HiViTBackbone, HiViTLayerDecayOptimizerConstructor
from hivit_det.backbone import join_windows, split_windows
from saratrx.checkpoint import CheckpointError, save_checkpoint
from saratrx.errors import InputError
from saratrx.hivit import SIZES, HiViTClassifier

MICRO = SIZES["micro"] | {"depths": (1, 1, 3), "img_size": 64}
LEVELS = {"out_indices": ("H", "M", 2, 2), "global_indices": (1,), "window_size": 3}


def micro(**kwargs):
    torch.manual_seed(0)
    model = HiViTBackbone(**MICRO | LEVELS | kwargs)
    nn.init.normal_(model.absolute_pos_embed)
    return model


def test_levels_agree_with_the_published_code():
    arrays, facts = golden.load("detection")
    model = MODELS.build({"type": "HiViT", "use_checkpoint": True})
    assert golden.keys_and_shapes(model) == facts["keys"]
    golden.fill(model)
    with torch.no_grad():
        levels = model(golden.image("scene", (1, 3, 256, 320)))
    for i, level in enumerate(levels):
        assert list(level.shape) == arrays[f"level{i}_shape"].values.tolist()
        assert golden.relative_error(level[:, ::9, ::3, ::3], arrays[f"level{i}"]) < golden.TOLERANCE


def test_levels_of_one_window_are_the_encoders():
    """On an image of the trained size that fits one window, the detector's encoder is the classifier's."""
    model = micro(window_size=4, with_fpn=False).eval()
    encoder = HiViTClassifier(**MICRO).eval()
    encoder.load_state_dict(encoder.state_dict() | model.state_dict())  # the classifier's norm takes no part
    image = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        fine, middle, coarse, again = model(image)
        expected = encoder.forward_intermediates(image, intermediates_only=True)
    assert [list(m.shape) for m in (fine, middle, coarse)] == [[2, 8, 16, 16], [2, 16, 8, 8], [2, 32, 4, 4]]
    assert torch.equal(coarse, again)
    for found, wanted in zip((fine, middle, coarse), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_windows_by_a_loop():
    rows, columns, side = 5, 7, 3
    tokens = torch.randn(2, rows * columns, 4)
    image = tokens.reshape(2, rows, columns, 4)
    expected = []
    for one in image:
        for top in range(0, rows, side):
            for left in range(0, columns, side):
                window = torch.zeros(side, side, 4)
                part = one[top : top + side, left : left + side]
                window[: part.shape[0], : part.shape[1]] = part
                expected.append(window.flatten(0, 1))
    windows = split_windows(tokens, (rows, columns), side)
    assert torch.equal(windows, torch.stack(expected))
    assert torch.equal(join_windows(windows, (rows, columns), side, 2), tokens)


def test_windows_do_not_see_each_other_and_the_global_block_does():
    image = torch.rand(1, 3, 96, 96)
    changed = image.clone()
    changed[..., :16, :16] = 0
    for global_indices, sees in (((), False), ((1,), True)):
        model = micro(global_indices=global_indices, with_fpn=False).eval()
        with torch.no_grad():
            before, after = model(image)[-1], model(changed)[-1]
        assert not torch.equal(before[..., :3, :3], after[..., :3, :3])
        assert torch.equal(before[..., 3:, 3:], after[..., 3:, 3:]) != sees


def test_positions_are_stretched_by_a_tenth_more():
    model = micro()
    table = model.absolute_pos_embed.reshape(1, 4, 4, 32).permute(0, 3, 1, 2)
    expected = F.interpolate(table, scale_factor=(6.1 / 4, 5.1 / 4), mode="bicubic")
    assert expected.shape[-2:] == (6, 5)
    torch.testing.assert_close(model.position_embedding((6, 5)), expected.flatten(2).mT)
    assert model.position_embedding((4, 4)) is model.absolute_pos_embed


def test_levels_come_in_order_of_depth_and_missing_ones_are_made():
    image = torch.rand(1, 3, 64, 96)
    for out_indices in (("H", "M", 1, 2), (2, "M", 1, "H"), ("H", 0, 1, 2), (0, 1, 2, 2)):
        model = micro(out_indices=out_indices)
        assert [96 // level.shape[-1] for level in model(image)] == [4, 8, 16, 32], out_indices
        assert isinstance(model.fpn1, nn.Sequential) == ("H" not in out_indices)
        assert isinstance(model.fpn2, nn.ConvTranspose2d) == ("M" not in out_indices)
    assert [level.shape[1] for level in micro()(image)] == [8, 16, 32, 32]
    with pytest.raises(InputError, match=r"out_indices 3: must be 'H', 'M', or an attention block from 0 to 2"):
        micro(out_indices=("H", "M", 2, 3))
    for out_indices in (("H", "M", 2), ("M", 0, 1, 2)):
        with pytest.raises(InputError, match="with_fpn needs four levels, and 'H' where 'M' is"):
            micro(out_indices=out_indices)


def test_the_middle_level_of_every_size_has_its_width():
    for depths in ((1, 1, 1), (2, 2, 1), (4, 4, 1)):
        shapes = [
            level.shape[1:] for level in micro(depths=depths, out_indices=("H", "M", 0, 0))(torch.rand(1, 3, 64, 64))
        ]
        assert shapes == [(8, 16, 16), (16, 8, 8), (32, 4, 4), (32, 2, 2)], depths


def test_activation_checkpoints_change_no_gradient():
    gradients = []
    for use_checkpoint in (False, True):
        model = micro(use_checkpoint=use_checkpoint).train()
        torch.manual_seed(1)
        sum(level.square().mean() for level in model(torch.rand(1, 3, 64, 96))).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    assert all(torch.equal(value, gradients[1][name]) for name, value in gradients[0].items())


def test_frozen_parts():
    def trained(stages):
        names = [name for name, parameter in micro(frozen_stages=stages).named_parameters() if parameter.requires_grad]
        return {".".join(name.split(".")[:2]) for name in names}

    everything = trained(-1)
    assert everything - trained(0) == {"patch_embed.proj", "patch_embed.norm"}
    assert everything - trained(2) == {"patch_embed.proj", "patch_embed.norm", "blocks.0", "blocks.1"}


def test_a_pretraining_checkpoint_fills_all_but_the_pyramid(tmp_path, capsys):
    torch.manual_seed(3)
    weights = {k: v for k, v in HiViTClassifier(**MICRO).state_dict().items() if not k.startswith(("fc_norm", "head"))}
    path = tmp_path / "checkpoint-8.pth"
    save_checkpoint(path, model=weights | {"mask_token": torch.zeros(1, 1, 32), "norm.weight": torch.ones(32)})
    model = micro(init_cfg={"type": "Pretrained", "checkpoint": str(path)})
    before = {name: p.clone() for name, p in model.named_parameters() if name.startswith("fpn")}
    model.init_weights()
    state = model.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in weights.items())
    assert all(torch.equal(value, state[key]) for key, value in before.items())
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == ["  new     fpn1 (2), fpn2 (2), fpn3 (2), fpn4 (2)", "  ignored mask_token (1), norm (1)"]
    with pytest.raises(CheckpointError, match="does not fit this model"):
        micro(embed_dim=64, init_cfg={"checkpoint": str(path)}).init_weights()


class Detector(nn.Module):
    """A backbone with something behind it."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.bbox_head = nn.Linear(4, 2)


def groups(backbone, **paramwise):
    config = {
        "optimizer": {"type": "AdamW", "lr": 1.0, "weight_decay": 0.05},
        "constructor": "mmdet.HiViTLayerDecayOptimizerConstructor",
        "paramwise_cfg": paramwise,
    }
    model = Detector(backbone)
    wrapper = build_optim_wrapper(model, config)
    found = {id(p): (g["lr"], g["weight_decay"]) for g in wrapper.optimizer.param_groups for p in g["params"]}
    return {name: found.get(id(p)) for name, p in model.named_parameters()}


def test_rates_agree_with_the_published_code():
    _, facts = golden.load("detection")
    arguments = facts["layer_decay_args"]
    paramwise = {"num_layers": arguments["num_layers"], "layer_decay_rate": arguments["layer_decay_rate"]}
    found = groups(HiViTBackbone(), **paramwise)
    assert {name for name in found if name.startswith("backbone.")} == set(facts["layer_decay"])
    for name, expected in facts["layer_decay"].items():
        assert found[name] == pytest.approx(tuple(expected), rel=1e-6), name
    assert found["bbox_head.weight"] == (1.0, 0.05)


def test_rates_by_hand():
    assert OPTIM_WRAPPER_CONSTRUCTORS.get("HiViTLayerDecayOptimizerConstructor") is HiViTLayerDecayOptimizerConstructor
    found = groups(micro(frozen_stages=0), num_layers=3, layer_decay_rate=0.5)
    assert found["backbone.patch_embed.proj.weight"] is None  # frozen: in no group
    assert found["backbone.absolute_pos_embed"] == (0.0625, 0.05)
    assert found["backbone.blocks.6.norm1.bias"] == (0.125, 0.0)
    assert found["backbone.blocks.8.attn.qkv.weight"] == (0.5, 0.05)
    assert found["backbone.fpn1.weight"] == found["bbox_head.bias"] == (1.0, 0.0)
    with pytest.raises(InputError, match="num_layers 20: the backbone has 3 attention blocks"):
        groups(micro(), num_layers=20, layer_decay_rate=0.9)
