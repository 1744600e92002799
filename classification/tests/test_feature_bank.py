"""The bank gives what pushing the images through the encoder gives."""

import json
import random
import threading
from pathlib import Path

import pytest
import torch
from PIL import Image
from small_sets import draw, parse, vehicles

from dassl.data.datasets import build_dataset
from dassl.data.transforms import build_transform
from dassl.engine import build_trainer
from dassl.utils import read_image, set_random_seed
from hivit_cls import encoder, feature_bank
from hivit_cls.configuration import setup_cfg
from hivit_cls.trainers.mim_linear import MIM_linear
from saratrx.errors import InputError

pytestmark = pytest.mark.usefixtures("undrawn")


def config(root, output, checkpoint, *opts, **kwargs):
    arguments = parse(root, output, "MODEL.INIT_WEIGHTS", checkpoint, *opts, flags=["--seed", 0], **kwargs)
    return setup_cfg(arguments)


def trained(cfg):
    """A trainer after its run, and the logits [N, C] of its test."""
    set_random_seed(cfg.SEED)
    trainer = build_trainer(cfg)
    trainer.train()
    return trainer, torch.cat(trainer.tested["score"])


@pytest.fixture
def bank(tmp_path, checkpoint):
    """The bank of a small set's test transform, its images, and its config."""
    cfg = config(vehicles(tmp_path), tmp_path / "out", checkpoint)
    frozen = encoder.FrozenEncoder(cfg, torch.device("cpu"))
    return feature_bank.FeatureBank(frozen, build_transform(cfg, is_train=False)), build_dataset(cfg).test, cfg


@pytest.mark.parametrize("shots", [2, 5])
def test_a_probe_on_the_bank_is_the_probe_on_the_images(tmp_path, checkpoint, shots, capsys):
    root = vehicles(tmp_path, train=12, test=25)
    common = ("OPTIM.MAX_EPOCH", 30, "DATASET.NUM_SHOTS", shots, "DATALOADER.TRAIN_X.BATCH_SIZE", 6)
    plain, expected = trained(config(root, tmp_path / "plain", checkpoint, *common, "FEATURE_BANK", False))
    assert "feature bank" not in capsys.readouterr().out
    banked, found = trained(config(root, tmp_path / "bank", checkpoint, *common))
    assert "100 to compute" in capsys.readouterr().out
    assert (plain.has_bank, banked.has_bank) == (False, True)
    assert plain.tested["impath"] == banked.tested["impath"]
    features = [torch.cat(trainer.tested["pooled"]) for trainer in (plain, banked)]
    torch.testing.assert_close(features[1], features[0], rtol=0, atol=1e-5)
    assert torch.equal(found.argmax(dim=1), expected.argmax(dim=1))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)
    assert found.argmax(dim=1).unique().numel() == 4  # it has learnt something that could differ


def test_probes_have_one_thread_and_features_all(tmp_path, checkpoint, monkeypatch):
    seen = []
    compute, train_probe = feature_bank.FeatureBank.compute, MIM_linear.forward_backward

    def watched(name, call):
        def watching(*args):
            seen.append((name, torch.get_num_threads()))
            return call(*args)

        return watching

    monkeypatch.setattr(feature_bank.FeatureBank, "compute", watched("features", compute))
    monkeypatch.setattr(MIM_linear, "forward_backward", watched("probe", train_probe))
    torch.set_num_threads(3)
    try:
        trained(config(vehicles(tmp_path), tmp_path / "out", checkpoint, "OPTIM.MAX_EPOCH", 2))
        assert set(seen) == {("features", 3), ("probe", 1)}
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(1)


def test_loader_workers_change_nothing(tmp_path, checkpoint):
    root = vehicles(tmp_path)
    alone, several = (
        trained(config(root, tmp_path / str(n), checkpoint, "FEATURE_BANK", False, "DATALOADER.NUM_WORKERS", n))[1]
        for n in (0, 2)
    )
    assert torch.equal(alone, several)


def test_random_transforms_turn_it_off(tmp_path, checkpoint, capsys):
    cfg = config(vehicles(tmp_path), tmp_path / "out", checkpoint, "INPUT.TRANSFORMS", "['random_flip']")
    assert not build_trainer(cfg).has_bank
    assert "feature bank: off, since INPUT.TRANSFORMS ['random_flip'] changes the images" in capsys.readouterr().out
    assert not (tmp_path / "out/feature_bank").exists()


def test_features_are_the_mean_tokens(bank, checkpoint):
    bank, images, cfg = bank
    model = encoder.build_encoder(cfg).eval()
    for item, feature in zip(images, bank.features(images), strict=True):
        image = bank.transform(read_image(item.impath))[None].expand(-1, 3, -1, -1)
        with torch.no_grad():
            expected = model.forward_features(image).mean(dim=1)[0]
        torch.testing.assert_close(feature, expected, rtol=0, atol=1e-5)


def test_what_is_known_is_not_computed_again(bank, monkeypatch):
    bank, images, _ = bank
    first = bank.features(images[:10])
    asked = []
    compute = bank.compute
    monkeypatch.setattr(bank, "compute", lambda missing: asked.append(len(missing)) or compute(missing))
    both = bank.features(images[::-1])
    assert asked == [len(images) - 10]
    assert torch.equal(both.flip(0)[:10], first)
    bank.features(images)
    assert len(asked) == 1
    Image.fromarray(draw(0, 999)).save(images[0].impath)  # a file of the same name, another image
    changed = bank.features(images)
    assert asked == [len(images) - 10, 1]
    assert not torch.equal(changed[0], first[0])
    assert torch.equal(changed[1:10], first[1:10])


def test_all_that_decides_a_feature_is_in_the_recipe(bank, checkpoint, tmp_path):
    bank, _, cfg = bank
    other_weights = tmp_path / "other.pth"
    other_weights.write_bytes(checkpoint.read_bytes() + b"x")
    folders = {bank.folder}
    changes = [
        {"MODEL.INIT_WEIGHTS": str(other_weights)},
        {"MODEL.INIT_WEIGHTS": "", "MODEL.RANDOM_INIT": True},
        {"INPUT.SIZE": (32, 32)},
        {"MODEL.PRECISION": "bf16"},
        {"MODEL.BACKBONE.NAME": "hivit_tiny"},
    ]
    for change in changes:
        changed = cfg.clone()
        changed.merge_from_list([word for pair in change.items() for word in pair])
        frozen = encoder.FrozenEncoder(changed, torch.device("cpu"))
        folders.add(feature_bank.FeatureBank(frozen, bank.transform).folder)
    cropped = build_transform(cfg, is_train=False, centre_crop=20)
    folders.add(feature_bank.FeatureBank(bank.encoder, cropped).folder)
    assert len(folders) == len(changes) + 2
    assert all(json.loads((folder / "recipe.json").read_text())["format"] == 2 for folder in folders)
    moved = tmp_path / "moved.pth"
    moved.write_bytes(checkpoint.read_bytes())
    cfg.MODEL.INIT_WEIGHTS = str(moved)  # the same weights under another name
    assert (
        feature_bank.FeatureBank(encoder.FrozenEncoder(cfg, torch.device("cpu")), bank.transform).folder == bank.folder
    )


def test_precision_is_what_it_says(bank):
    bank, images, cfg = bank
    cfg = cfg.clone()
    cfg.MODEL.PRECISION = "bf16"
    half = feature_bank.FeatureBank(encoder.FrozenEncoder(cfg, torch.device("cpu")), bank.transform).features(images)
    full = bank.features(images)
    assert half.dtype == torch.float32
    assert 1e-4 < (half - full).abs().max() / full.abs().max() < 0.05
    cfg.MODEL.PRECISION = "fp8"
    with pytest.raises(InputError, match=r"MODEL.PRECISION fp8: unknown; choose one of fp32, bf16"):
        encoder.FrozenEncoder(cfg, torch.device("cpu"))(torch.zeros(1, 1, 48, 48))


def test_several_runs_read_and_add_at_once(bank):
    bank, images, _ = bank
    expected = bank.features(images)
    for path in bank.folder.glob("*.safetensors"):
        path.unlink()
    found = {}

    def add(place):
        found[place] = bank.features(images[place:] + images[:place])

    threads = [threading.Thread(target=add, args=(place,)) for place in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    for place, features in found.items():
        torch.testing.assert_close(features.roll(place, 0), expected, rtol=0, atol=1e-5)
    assert not list(bank.folder.glob("*.tmp"))


def test_a_damaged_file_is_computed_again(bank, capsys):
    """Whatever byte of it is another; 300 such files, of which the encoder need compute but a few."""
    bank, images, _ = bank
    expected = bank.features(images)
    path = next(bank.folder.glob("*.safetensors"))
    whole = path.read_bytes()
    for torn in (b"", whole[:30], whole[:-5], b"x" * 100):
        path.write_bytes(torn)
        assert torch.equal(bank.features(images), expected)
        assert f"warning: {path} is damaged: its features are computed again\n" in capsys.readouterr().out
        assert path.read_bytes() == whole
    generator = random.Random(0)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[generator.randrange(len(whole))] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        assert bank.read() == {}
        assert not path.exists()


def test_many_images_are_saved_in_several_files(bank, monkeypatch):
    bank, images, cfg = bank
    cfg.DATALOADER.TEST.BATCH_SIZE = 5
    monkeypatch.setattr(feature_bank, "SAVED_TOGETHER", 10)
    features = bank.features(images)
    assert len(images) == 24
    assert len(list(bank.folder.glob("*.safetensors"))) == 3
    assert torch.equal(bank.features(images), features)


def test_images_of_one_content_share_a_feature(bank):
    bank, images, _ = bank
    copy = Path(images[0].impath).with_name("copy.jpeg")
    copy.write_bytes(Path(images[0].impath).read_bytes())
    twice = [images[0], type(images[0])(str(copy), 0), images[1]]
    features = bank.features(twice)
    assert torch.equal(features[0], features[1])
    assert not torch.equal(features[0], features[2])
