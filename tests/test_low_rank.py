"""Low-rank changes of matrices, and what becomes of them between checkpoints and models."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from saratrx.checkpoint import CheckpointError, load_encoder, save_checkpoint
from saratrx.hivit import SIZES, HiViTClassifier
from saratrx.tuning import TARGETS, LowRank, count, fitted, freeze, linears, merged

NEW = ("fc_norm.", "head.")


def classifier(tune="all", rank=2, seed=0):
    torch.manual_seed(seed)
    model = HiViTClassifier(num_classes=3, img_size=32, **SIZES["micro"])
    options = {"last_k": ("last_k", 1), "rank": ("rank", rank), "alpha": 3.0, "targets": TARGETS}
    freeze(model, ("fc_norm", "head"), tune, **options)
    for part in model.modules():
        if isinstance(part, LowRank):
            nn.init.normal_(part.up, std=0.3)
    return model.eval()


def test_a_low_rank_change_against_plain_formulas():
    torch.manual_seed(0)
    linear, x = nn.Linear(6, 5), torch.randn(4, 6)
    change = LowRank(linear, rank=2, alpha=3.0)
    nn.init.normal_(change.up)
    before = linear(x)
    parametrize.register_parametrization(linear, "weight", change)
    expected = before + 1.5 * ((x @ change.down.T) @ change.up.T)
    torch.testing.assert_close(linear(x), expected)


def test_parameters_are_counted_without_the_changes():
    plain, changed = classifier(), classifier("lora")
    total = sum(p.numel() for p in plain.parameters())
    factors = sum(2 * sum(linear.weight.shape) for _, linear in linears(plain, TARGETS))
    new = sum(p.numel() for name, p in plain.named_parameters() if name.startswith(NEW))
    assert count(plain) == (total, total)
    assert count(changed) == (factors + new, total)


def test_an_encoder_is_read_with_its_changes_added(tmp_path):
    changed, images = classifier("lora"), torch.rand(2, 3, 32, 32)
    save_checkpoint(tmp_path / "apart.pth", model=changed.state_dict())
    plain = classifier(seed=1)
    report = load_encoder(plain, tmp_path / "apart.pth")
    assert not report.new and not report.ignored
    torch.testing.assert_close(plain(images), changed(images), rtol=0, atol=1e-5)
    key = "blocks.7.attn.qkv.weight"
    matrix, part = changed.blocks[7].attn.qkv.parametrizations.weight.original, changed.blocks[7].attn.qkv
    low_rank = part.parametrizations.weight[0]
    torch.testing.assert_close(plain.state_dict()[key] - matrix, 1.5 * low_rank.up @ low_rank.down)


def test_a_plain_encoder_is_read_below_the_changes(tmp_path):
    plain, images = classifier(), torch.rand(2, 3, 32, 32)
    save_checkpoint(tmp_path / "plain.pth", model=plain.state_dict())
    changed = classifier("lora", seed=1)
    before = {key: value.clone() for key, value in changed.state_dict().items() if ".0." in key}
    load_encoder(changed, tmp_path / "plain.pth")
    for part in changed.modules():
        if isinstance(part, LowRank):
            assert any(torch.equal(part.up, value) for key, value in before.items() if key.endswith("up"))
            nn.init.zeros_(part.up)
    assert torch.equal(changed(images), plain(images))
    assert fitted(changed.state_dict(), changed.state_dict()).keys() == changed.state_dict().keys()


@pytest.mark.parametrize("damage", ["up", "down", "scale", "shape", "original"])
def test_changes_that_do_not_fit_are_refused(tmp_path, damage):
    weights = classifier("lora").state_dict()
    start = "blocks.7.attn.qkv.parametrizations.weight."
    if damage == "shape":
        weights[start + "0.up"] = torch.zeros(96, 5)
    else:
        del weights[start + damage if damage == "original" else f"{start}0.{damage}"]
    save_checkpoint(tmp_path / "damaged.pth", model=weights)
    with pytest.raises(CheckpointError, match=r"it lacks blocks\.7\.attn\.qkv\.weight"):
        load_encoder(classifier(), tmp_path / "damaged.pth")
    assert "blocks.7.attn.qkv.weight" not in merged(weights)
