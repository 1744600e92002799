import golden
import numpy as np
import pytest
import torch
from timm.optim import param_groups_weight_decay

from hivit_mae.models.models_hivit_mae import MODELS, PublishedKernels, mae_hivit_base_dec512d6b, random_masking
from hivit_mae.models.models_hivit_mae import mae_hivit_micro_dec32d1b as micro
from hivit_mae.models.published_form import PublishedForm

MICRO = {
    "embed_dim": 32, "depths": (1, 1, 2), "num_heads": 2,
    "decoder_embed_dim": 32, "decoder_depth": 1, "decoder_num_heads": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def base():
    return golden.fill(mae_hivit_base_dec512d6b())


def gradient_norms(model):
    return [-1.0 if p.grad is None else p.grad.norm().item() for p in model.parameters()]


def test_keys_are_the_published_ones():
    _, facts = golden.load("pretrain")
    with torch.device("meta"):
        model = mae_hivit_base_dec512d6b()
    found, expected = golden.keys_and_shapes(model), facts["keys"]["mae_hivit_base_dec512d6b"]
    assert list(found.items()) == list(expected.items())
    parameters = dict(model.named_parameters())
    assert list(parameters) == facts["param_names"]
    assert [name for name, p in parameters.items() if p.requires_grad] == facts["trainable"]


def test_weight_decay_groups_are_the_published_ones():
    """In the published order too: the optimizer's state is stored by position."""
    _, facts = golden.load("pretrain")
    with torch.device("meta"):
        model = mae_hivit_base_dec512d6b()
    names = {p: name for name, p in model.named_parameters()}
    without, with_decay = param_groups_weight_decay(model, 0.05)
    assert (without["weight_decay"], with_decay["weight_decay"]) == (0.0, 0.05)
    assert [names[p] for p in without["params"]] == facts["no_decay"]
    assert [names[p] for p in with_decay["params"]] == [n for n in facts["trainable"] if n not in facts["no_decay"]]


@pytest.mark.parametrize("norm_pix_loss", [False, True])
def test_agrees_with_the_published_code(base, norm_pix_loss):
    arrays, facts = golden.load("pretrain")
    prefix = "mae_normpix_" if norm_pix_loss else "mae_"
    images = golden.image("chips", (2, 1, 224, 224))
    noise = torch.from_numpy(np.random.RandomState(facts["noise_seed"]).rand(2, 196).astype(np.float32))
    base.norm_pix_loss = norm_pix_loss
    base.zero_grad()
    loss, pred, mask = base(images, facts["mask_ratio"], noise)
    loss.backward()
    assert loss.item() == pytest.approx(float(arrays[prefix + "loss"].values), rel=golden.TOLERANCE)
    assert golden.relative_error(pred[:, ::7, ::29], arrays[prefix + "pred_sub"]) < golden.TOLERANCE
    assert np.array_equal(mask.numpy(), arrays[prefix + "mask"].values)
    assert gradient_norms(base) == pytest.approx(arrays[prefix + "gradnorms"].values.tolist(), rel=golden.TOLERANCE)


@pytest.mark.parametrize("mask_ratio", [0.3, 0.75])
def test_agrees_with_the_plain_form(mask_ratio):
    ours, plain = micro(img_size=64), PublishedForm(img_size=64, **MICRO)
    golden.fill(ours)
    plain.load_state_dict(ours.state_dict())
    images, noise = golden.image("plain", (3, 1, 64, 64)), torch.rand(3, 16)
    outputs = []
    for model in (ours, plain):
        loss, pred, mask = model(images, mask_ratio, noise)
        loss.backward()
        outputs.append((loss, pred, mask, {n: p.grad for n, p in model.named_parameters() if p.requires_grad}))
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-4, atol=1e-6)


def test_the_loss_by_hand():
    model = micro(img_size=64, norm_pix_loss=True)
    images = golden.image("loss", (2, 1, 64, 64))
    loss, pred, mask = model(images, 0.5, torch.rand(2, 16))
    features = model.decoder_target(images)
    errors = []
    for b in range(2):
        for patch in range(16):
            if mask[b, patch]:
                row, column = divmod(patch, 4)
                target = features[b, :, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16].flatten()
                target = (target - target.mean()) / (target.var() + 1e-6).sqrt()
                errors.append((pred[b, patch] - target).square().mean())
    assert len(errors) == 16
    torch.testing.assert_close(loss, torch.stack(errors).mean())


def test_patchify_is_undone():
    model = micro(img_size=64)
    maps = torch.rand(2, 3, 64, 64)
    patches = model.patchify(maps)
    assert patches.shape == (2, 16, 768)
    assert torch.equal(patches[1, 6, 256:512].reshape(16, 16), maps[1, 1, 16:32, 32:48])
    assert torch.equal(model.unpatchify(patches), maps)


def test_masking_keeps_the_smallest_noise():
    noise = torch.tensor([[0.3, 0.1, 0.9, 0.2], [0.4, 0.8, 0.5, 0.6]])
    kept_ids, restore_ids, mask = random_masking(noise, 0.5)
    assert kept_ids.tolist() == [[1, 3], [0, 2]]
    assert mask.tolist() == [[1, 0, 1, 0], [0, 1, 0, 1]]
    shuffled = torch.cat([kept_ids, torch.tensor([[0, 2], [3, 1]])], dim=1)
    assert torch.equal(shuffled.gather(1, restore_ids), torch.arange(4).expand(2, 4))


def test_removed_patches_do_not_reach_the_prediction():
    model = micro(img_size=64).eval()
    images, noise = golden.image("leak", (1, 1, 64, 64)), torch.rand(1, 16)
    with torch.no_grad():
        _, pred, mask = model(images, 0.75, noise)
        removed = model.unpatchify(mask[..., None].expand(-1, -1, 768))[:, :1].bool()
        _, same, _ = model(images.masked_fill(removed, 0.7), 0.75, noise)
        assert torch.equal(pred, same)
        _, other, _ = model(images.masked_fill(~removed, 0.7), 0.75, noise)
        assert not torch.equal(pred, other)


def test_the_decoder_knows_where_a_removed_patch_was():
    model = micro(img_size=64).eval()
    with torch.no_grad():
        _, pred, mask = model(torch.full((1, 1, 64, 64), 0.5), 0.75, torch.rand(1, 16))
    removed = pred[mask.bool()]
    assert torch.pdist(removed).min() > 1e-4


def test_published_kernels_give_the_rectangles():
    kernels = PublishedKernels(2)
    left, right, up, down = (kernels.get_buffer(f"weight_{n}")[0, 0] for n in ("x1", "x2", "y1", "y2"))
    assert left.tolist() == [[1, 1, 1, 0, 0]] * 5
    assert right.tolist() == [[0, 0, 1, 1, 1]] * 5
    assert torch.equal(up, left.T)
    assert torch.equal(down, right.T)


def test_mixed_precision_keeps_the_loss_in_float32():
    model, images, noise = micro(img_size=64), golden.image("amp", (2, 1, 64, 64)), torch.rand(2, 16)
    exact, _, _ = model(images, 0.75, noise)
    with torch.autocast("cpu", torch.bfloat16):
        loss, pred, _ = model(images, 0.75, noise)
    assert (loss.dtype, pred.dtype) == (torch.float32, torch.bfloat16)
    assert loss.item() == pytest.approx(exact.item(), rel=0.01)


def test_another_image_size_is_refused():
    with pytest.raises(ValueError, match=r"not images of \(48, 64\) px"):
        micro(img_size=64)(torch.zeros(1, 1, 48, 64))


@pytest.mark.parametrize("name", MODELS)
def test_every_size_is_made(name):
    with torch.device("meta"):
        model = MODELS[name](img_size=128)
    assert model.decoder_pred.weight.shape == (768, model.decoder_embed.weight.shape[0])
