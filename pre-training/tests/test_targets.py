"""Every target against a form of its own, written plainly: dense convolutions, loops over cells, scikit-image."""

import json

import golden
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_runs import options, run_here
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hivit_mae.models.models_hivit_mae import mae_hivit_micro_dec32d1b as micro
from hivit_mae.models.published_form import DenseGradientFeature
from hivit_mae.models.targets import TARGETS, make_target, plain
from hivit_mae.models.targets.target import Target
from hivit_mae.run import panel
from saratrx.checkpoint import load_checkpoint, load_encoder, save_checkpoint
from saratrx.errors import InputError
from saratrx.hivit import SIZES, HiViTClassifier

SCALES = {"s1": 1, "s2": 3, "s3": 5, "s4": 9, "s5": 13, "s6": 17}


@pytest.fixture(scope="module")
def chips():
    return golden.image("targets", (2, 1, 64, 80))


def convolved(images, kernel):
    """Images [B, 1, H, W], padded by reflection, with one kernel; float64."""
    margin = kernel.shape[0] // 2
    return F.conv2d(F.pad(images.double(), (margin,) * 4, mode="reflect"), kernel.double()[None, None])


def dense_scale(images, r):
    """A scale of SARATR-X-v2 as its definition reads."""
    s = torch.sigmoid((images.double() - 0.2109) / 0.2178)
    side = 2 * r + 1
    if r == 1:
        kernel = torch.ones(3, 3)
        kernel[1, 1] = 0
        return torch.sigmoid(torch.log(convolved(s, kernel) + 1e-6))
    left = torch.zeros(side, side)
    left[:, :r] = 1
    logs = [torch.log(convolved(s, kernel) + 1e-6) for kernel in (left, left.flip(1), left.T, left.T.flip(0))]
    return torch.sigmoid(((logs[0] - logs[1]) ** 2 + (logs[2] - logs[3]) ** 2).sqrt())


def plain_histograms(gx, gy):
    """gx, gy [H, W] -> [9, H / 8, W / 8], pixel by pixel."""
    found = np.zeros((9, gx.shape[0] // 8, gx.shape[1] // 8))
    for (row, column), x in np.ndenumerate(gx):
        y = gy[row, column]
        degrees = np.degrees(np.arctan2(y, x)) % 180
        found[int(degrees // 20) % 9, row // 8, column // 8] += np.hypot(x, y) / 64
    return found / np.sqrt((found**2).sum(axis=0) + 1e-10)


def test_pixel_and_lowpass(chips):
    assert torch.equal(make_target("pixel")(chips), chips)
    torch.testing.assert_close(make_target("pixel_v2")(chips), (chips - 0.2109) / 0.2178)
    bell = torch.exp(-0.5 * (torch.arange(-6, 7).double() / 2) ** 2)
    blurred = convolved(chips, torch.outer(bell, bell) / bell.sum() ** 2)
    assert (make_target("lowpass")(chips) - blurred).abs().max() < 1e-6


def test_sar_jepa(chips):
    found = make_target("sar_jepa")(chips)
    assert (found - DenseGradientFeature((5, 9, 13, 17))(chips.double())).abs().max() < 1e-6


@pytest.mark.parametrize("name", SCALES)
def test_scales(chips, name):
    assert (make_target(name)(chips) - dense_scale(chips, SCALES[name])).abs().max() < 1e-6


def test_fused_is_the_weighted_sum_and_only_its_weights_are_trained(chips):
    scales = torch.cat([dense_scale(chips, r) for r in SCALES.values()], dim=1)
    fused, frozen = make_target("fused"), make_target("fused_frozen")
    for target in (fused, frozen):
        assert (target(chips) - scales.mean(dim=1, keepdim=True)).abs().max() < 1e-6
    assert [p.shape for p in fused.parameters()] == [(6,)]
    assert not list(frozen.parameters())
    assert not frozen.state_dict()
    weights = torch.tensor([0.5, 0.1, 0.1, 0.1, 0.1, 0.1])
    with torch.no_grad():
        fused.logits.copy_(weights.log() + 3)
    expected = (scales * weights[:, None, None]).sum(dim=1, keepdim=True)
    assert (fused(chips) - expected).abs().max() < 1e-6
    assert list(fused.figures().values()) == pytest.approx(weights.tolist())


def test_hog_is_that_of_scikit_image(chips):
    feature = pytest.importorskip("skimage.feature")
    for image, found in zip(chips[:, 0].numpy(), make_target("hog")(chips), strict=True):
        expected = feature.hog(image, 9, (8, 8), (1, 1), block_norm="L2", feature_vector=False)[:, :, 0, 0]
        np.testing.assert_allclose(found.numpy(), expected.transpose(2, 0, 1), atol=1e-5)


def test_hog_and_sar_hog_pixel_by_pixel(chips):
    left = torch.zeros(11, 11)
    left[:, :6] = 1
    sums = [convolved(chips + 0.01, kernel) for kernel in (left, left.flip(1), left.T, left.T.flip(0))]
    ratios = [torch.log(sums[0] / sums[1]), torch.log(sums[2] / sums[3])]
    gx, gy = torch.zeros_like(chips), torch.zeros_like(chips)
    gx[..., 1:-1] = chips[..., 2:] - chips[..., :-2]
    gy[..., 1:-1, :] = chips[..., 2:, :] - chips[..., :-2, :]
    for name, gradient in (("hog", (gx, gy)), ("sar_hog", ratios)):
        expected = [plain_histograms(x[0].numpy(), y[0].numpy()) for x, y in zip(*gradient, strict=True)]
        np.testing.assert_allclose(make_target(name)(chips).numpy(), np.stack(expected), atol=1e-4, err_msg=name)


def test_edges_fall_into_the_bin_of_their_direction():
    """An upright edge is in the first bin whichever side is bright; one of 45 degrees is in the third."""
    image = torch.zeros(3, 1, 32, 32)
    image[0, ..., 12:] = 1
    image[1] = 1 - image[0]
    row, column = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    image[2, 0] = (row + column > 31).float()
    found = make_target("hog")(image)
    for number, (cell, expected) in enumerate((((1, 1), 0), ((1, 1), 0), ((1, 2), 2))):
        assert found[number, :, cell[0], cell[1]].argmax() == expected
        assert found[number, expected, cell[0], cell[1]] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_keeps_to_the_interface(name, chips):
    target = make_target(name)
    extremes = torch.stack([torch.zeros(1, 64, 80), torch.ones(1, 64, 80), torch.full((1, 64, 80), 0.3)])
    images = torch.cat([chips, extremes])
    maps = target(images)
    assert maps.shape == (5, target.channels, 64 // target.cell, 80 // target.cell)
    assert maps.dtype == torch.float32
    assert maps.isfinite().all()
    assert maps.requires_grad == (name == "fused")
    assert target.picture(maps).shape == (5, len(target.titles), *maps.shape[2:])
    is_called_alone = torch.equal(target(images[:1]), maps[:1])
    assert is_called_alone
    network = torch.compile(target, fullgraph=True, dynamic=False, backend="eager")
    torch.testing.assert_close(network(images), maps)


@pytest.mark.parametrize("name", TARGETS)
def test_a_model_learns_it(name):
    """Ten steps on two images and a black one lower the loss; mixed precision does not reach the target."""
    torch.manual_seed(0)
    model, noise = micro(img_size=64, target=name), torch.rand(3, 16)
    images = torch.cat([golden.image("learn", (2, 1, 64, 64)), torch.zeros(1, 1, 64, 64)])
    assert model.decoder_pred.out_features == model.patchify(model.decoder_target(images)).shape[2]
    optimizer, found = torch.optim.AdamW(model.parameters(), lr=3e-3), []
    for _ in range(10):
        with torch.autocast("cpu", torch.bfloat16):
            loss, pred, _ = model(images, 0.75, noise)
        loss.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
        optimizer.step()
        optimizer.zero_grad()
        found.append(loss.item())
    assert found[-1] < found[0]
    maps = model.decoder_target(images)
    assert torch.equal(model.unpatchify(model.patchify(maps)), maps)
    assert pred.shape == (3, 16, model.decoder_pred.out_features)
    is_normalised = model.decoder_target.normalised
    assert model.norm_pix_loss == (is_normalised is not False)
    assert micro(img_size=64, target=name, norm_pix_loss=False).norm_pix_loss == (is_normalised is True)


def test_what_checkpoints_hold_beside_the_published_keys():
    keys = {name: micro(img_size=64, target=name).state_dict().keys() for name in ("mgf", "hog", "fused")}
    kernels = {key for key in keys["mgf"] if key.startswith("sarfeature")}
    assert len(kernels) == 12
    assert keys["hog"] == keys["mgf"] - kernels
    assert keys["fused"] == keys["hog"] | {"decoder_target.logits"}


@pytest.mark.parametrize("name", ["lowpass", "sar_hog", "sar_jepa", "s1", "fused"])
def test_the_panel_shows_any_target(name):
    model, images = micro(img_size=64, target=name), golden.image("panel", (2, 1, 64, 64))
    titles = model.decoder_target.titles
    figure = panel.draw(model, images, 0.75)
    shown = [axis.images[0].get_array() for axis in figure.axes]
    assert len(shown) == 2 * (2 + 2 * len(titles))
    removed = np.ma.getmaskarray(shown[1])
    cell = model.decoder_target.cell
    assert removed.mean() == 0.75
    for picture in shown[2 + len(titles) : 2 + 2 * len(titles)]:
        assert np.array_equal(np.ma.getmaskarray(picture), ~removed[::cell, ::cell])


def logged(output):
    return [json.loads(line) for line in (output / "log.txt").read_text().splitlines()]


def test_the_weights_of_fused_are_trained_kept_and_logged(images, tmp_path):
    run_here(options(images, tmp_path, target="fused", image_every=2))
    names = [f"weight_s{number}" for number in range(1, 7)]
    content = load_checkpoint(tmp_path / "checkpoint-2.pth")
    last = [logged(tmp_path)[1][name] for name in names]
    assert sum(last) == pytest.approx(1)
    assert len(set(last)) > 1
    assert last == pytest.approx(content["model"]["decoder_target.logits"].softmax(dim=0).tolist())
    events = EventAccumulator(str(tmp_path)).Reload()
    assert set(names) <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("weight_s6")] == [1000, 2000]
    assert [event.value for event in events.Scalars("weight_s6")][1] == pytest.approx(last[5])
    assert (tmp_path / "reconstruction-2.png").exists()
    model = HiViTClassifier(**SIZES["micro"], img_size=48, num_classes=2)  # other stages take its encoder
    assert "decoder_target.logits" in load_encoder(model, tmp_path / "checkpoint-2.pth", ("head.", "fc_norm.")).ignored


def test_a_collapse_of_fused_onto_one_scale_is_seen_in_the_log(images, tmp_path):
    """Brought about by a rate that is far too large; onto which scale depends on the seed."""
    run_here(options(images, tmp_path, target="fused", epochs=8, lr=0.2))
    weights = np.array([[entry[f"weight_s{number}"] for number in range(1, 7)] for entry in logged(tmp_path)])
    assert abs(weights[0] - 1 / 6).max() < 0.1
    assert weights[-1].max() > 0.35
    assert weights[-1].min() < 0.05


def test_a_run_goes_on_with_its_own_target_only(images, tmp_path):
    run_here(options(images, tmp_path / "a", epochs=1, target="pixel"))
    first = tmp_path / "a" / "checkpoint-1.pth"
    assert load_checkpoint(first)["args"]["target"] == "pixel"
    for words in ({"resume": "auto"}, {"resume": first}, {"resume": first, "target": "s5"}):
        sentence = r"checkpoint-1.pth is of a run with --target pixel, and this one has --target (mgf|s5): give it that"
        with pytest.raises(InputError, match=sentence):
            run_here(options(images, tmp_path / "a", **words))
    assert "target pixel" in run_here(options(images, tmp_path / "a", target="pixel", resume="auto"))

    # a decoder that is as wide by chance is not taken from another target; all else is
    printed = run_here(options(images, tmp_path / "b", epochs=1, lr=0, target="s5", init_weights=first))
    assert f"decoder_pred is new: {first} was trained for the target pixel, and this run is for s5" in printed
    old, new = (load_checkpoint(tmp_path / name / "checkpoint-1.pth")["model"] for name in ("a", "b"))
    assert old.keys() == new.keys()
    differing = {key for key in old if not torch.equal(old[key], new[key])}
    assert differing == {"decoder_pred.weight", "decoder_pred.bias"}


def test_a_file_without_a_target_is_of_gradient_features(images, tmp_path):
    run_here(options(images, tmp_path / "a", epochs=1))
    content = load_checkpoint(tmp_path / "a" / "checkpoint-1.pth")
    del content["args"]["target"]
    save_checkpoint(tmp_path / "a" / "checkpoint-1.pth", **content)
    assert "continuing" in run_here(options(images, tmp_path / "a", resume="auto"))
    save_checkpoint(tmp_path / "bare.pth", model=content["model"])
    printed = run_here(options(images, tmp_path / "b", epochs=1, init_weights=tmp_path / "bare.pth"))
    assert "decoder_pred" in printed
    assert "new" not in printed
    printed = run_here(options(images, tmp_path / "c", epochs=1, target="hog", init_weights=tmp_path / "bare.pth"))
    assert "trained for the target mgf, and this run is for hog" in printed
    assert "sarfeature1 (4)" in printed
    encoder = {
        key: value for key, value in content["model"].items() if not key.startswith(("decoder_", "mask_", "sarf"))
    }
    save_checkpoint(tmp_path / "encoder.pth", model=encoder)
    printed = run_here(options(images, tmp_path / "d", epochs=1, target="hog", init_weights=tmp_path / "encoder.pth"))
    assert "decoder_pred (2)" in printed.partition("  new ")[2].splitlines()[0]
    assert "trained for the target" not in printed


class Toy(Target):
    """Brightness in cells of 4 px, and its square; tells how often it was asked."""

    channels, cell, titles = 2, 4, ("mean", "square")
    asked = 0

    def forward(self, images):
        self.asked += 1
        means = F.avg_pool2d(images, 4)
        return torch.cat([means, means.square()], dim=1)

    def figures(self):
        return {"asked": float(self.asked)}


def test_a_new_target_is_one_class_and_one_line(images, tmp_path, monkeypatch):
    monkeypatch.setattr(plain, "Toy", Toy, raising=False)
    monkeypatch.setitem(TARGETS, "toy", ("targets.plain:Toy",))
    run_here(options(images, tmp_path, target="toy", image_every=1, eval_data=images, eval_every=1))
    assert [entry["asked"] for entry in logged(tmp_path)] == [5, 12]  # 5 steps an epoch; twice for the panel
    assert all(0 <= entry["eval/probe"] <= 100 for entry in logged(tmp_path))
    scalars = EventAccumulator(str(tmp_path)).Reload().Tags()["scalars"]
    assert {"asked", "eval/knn", "eval/probe"} <= set(scalars)
    content = load_checkpoint(tmp_path / "checkpoint-2.pth")
    assert content["args"]["target"] == "toy"
    assert content["model"]["decoder_pred.weight"].shape[0] == 2 * 4 * 4
    assert {"reconstruction-2.png", "checkpoint-best.pth"} <= {path.name for path in tmp_path.iterdir()}
