"""Encoders of other kinds, under the protocol of our own."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from small_sets import options, parse, vehicles
from torchvision.transforms.v2 import functional

import train
from dassl.data.datasets import build_dataset
from dassl.data.transforms import build_transform
from dassl.engine import build_trainer
from dassl.modeling import BACKBONE_REGISTRY, Backbone
from dassl.utils import read_image
from hivit_cls import encoder
from hivit_cls.baselines import hog, mgf_histogram, raw_pixels
from hivit_cls.configuration import setup_cfg
from hivit_cls.feature_bank import FeatureBank
from hivit_cls.timm_encoder import TimmEncoder, build_timm_encoder
from saratrx import sar_image
from saratrx.errors import InputError, exit_on_input_error

pytestmark = pytest.mark.usefixtures("undrawn")
VIT = {"embed_dim": 16, "depth": 2, "num_heads": 2, "img_size": 32, "patch_size": 8}
CPU = torch.device("cpu")
RANDOM = ("MODEL.RANDOM_INIT", True)


def config(root, output, name, *opts, **kwargs):
    words = ("MODEL.BACKBONE.NAME", name, *opts)
    return setup_cfg(parse(root, output, *words, flags=["--seed", 0], **kwargs))


def folder_of_vit(folder, architecture="vit_tiny_patch16_224", args=VIT, head=3):
    """A small model in timm's layout, and the model."""
    torch.manual_seed(5)
    model = timm.create_model(architecture, num_classes=head, **args)
    folder.mkdir(exist_ok=True)
    known = {"mean": [0.2, 0.3, 0.4], "std": [0.5, 0.6, 0.7], "input_size": [3, 32, 32], "classifier": "head"}
    content = {"architecture": architecture, "num_classes": head, "model_args": args, "pretrained_cfg": known}
    (folder / "config.json").write_text(json.dumps(content))
    save_file(model.state_dict(), folder / "model.safetensors")
    return model.eval()


@pytest.fixture(scope="module")
def images():
    return torch.from_numpy(np.random.default_rng(0).gamma(1.0, 0.2, (3, 1, 128, 128)).clip(0, 1)).float()


def test_hog_against_scikit_image(images):
    reference = pytest.importorskip("skimage.feature", reason="scikit-image is not installed").hog
    found = hog((128, 128))(images)
    for image, feature in zip(images[:, 0].double().numpy(), found, strict=True):
        expected = reference(image, 9, (16, 16), (2, 2), "L2-Hys", feature_vector=False)
        expected = expected.transpose(4, 2, 3, 0, 1).reshape(-1)
        np.testing.assert_allclose(feature.numpy(), expected, atol=1e-5)
    assert found.shape == (3, hog((128, 128)).out_features)


def test_gradients_against_plain_loops():
    side, rng = 40, np.random.default_rng(1)
    image = rng.gamma(1.0, 0.2, (side, side)).clip(0, 1)
    expected = []
    for radius in (9, 13, 17):
        padded = np.pad(image, radius, mode="reflect") + 0.01
        counts = np.zeros((8, 4, 4))
        for row in range(side):
            for column in range(side):
                window = padded[row : row + 2 * radius + 1, column : column + 2 * radius + 1]
                parts = [window[:, radius:], window[:, : radius + 1], window[radius:], window[: radius + 1]]
                right, left, below, above = (part.sum() for part in parts)
                size = math.hypot(math.log(right / left), math.log(below / above))
                counts[min(int(size / 0.25), 7), row // 10, column // 10] += 1 / 100
        expected.append(counts)
    found = mgf_histogram((side, side))(torch.from_numpy(image).float()[None, None])
    np.testing.assert_allclose(found[0].numpy(), np.stack(expected).reshape(-1), atol=0.0101)  # one pixel at an edge
    assert np.abs(found[0].numpy() - np.stack(expected).reshape(-1)).sum() < 0.05


def test_raw_pixels_are_those_of_the_benchmark(tmp_path):
    """The middle 64 px of 128, scaled to 32: the same neighbours as of the benchmark's plain form."""
    root = vehicles(tmp_path, train=8, test=6, side=140)
    cfg = config(root, tmp_path / "out", "raw_pixels", "INPUT.SIZE", "(128, 128)")
    data, transform = build_dataset(cfg), build_transform(cfg, is_train=False)
    bank = FeatureBank(encoder.FrozenEncoder(cfg, CPU), transform)
    plain, banked = [], []
    for part in (data.train_x, data.test):
        read = [torch.from_numpy(sar_image.read(item.impath))[None] for item in part]
        middle = [functional.resize(functional.center_crop(image, 64), 32, antialias=True) for image in read]
        plain.append(torch.stack([image.flatten() for image in middle]).float())
        banked.append(bank.features(part))
        torch.testing.assert_close(banked[-1] * 255, plain[-1], rtol=0, atol=1.0)  # the benchmark's are whole numbers
    distances = [torch.cdist(test, train) for train, test in (plain, banked)]
    chosen = distances[0].gather(1, distances[1].argmin(dim=1, keepdim=True))
    torch.testing.assert_close(chosen[:, 0], distances[0].amin(dim=1), rtol=1e-3, atol=0)  # ties but for rounding


@pytest.mark.parametrize("name", ["raw_pixels", "hog", "mgf_histogram"])
def test_baselines_need_no_weights(tmp_path, name):
    root = vehicles(tmp_path)
    train.main(options(root, tmp_path / name, "MODEL.BACKBONE.NAME", name, trainer="kNN", flags=["--seed", 0]))
    found = json.loads((tmp_path / name / "results.json").read_text())
    assert found["encoder"] == {"name": name, "pooling": "mean", "mirror": False, "weights": "none"}
    recipe = json.loads(next((tmp_path / name / "feature_bank").glob("*/recipe.json")).read_text())
    assert (recipe["backbone"], recipe["weights"], len(recipe["code"])) == (name, "none", 64)


def test_pooling_is_timms_own(images):
    swin = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2), "img_size": 128, "window_size": 8}
    vit = VIT | {"img_size": 128, "fc_norm": False}
    for pooling, pool, name, args in (
        ("mean", "avg", "vit_tiny_patch16_224", vit),
        ("cls", "token", "vit_tiny_patch16_224", vit),
        ("mean", "avg", "resnet10t", {}),
        ("mean", "avg", "swin_tiny_patch4_window7_224", swin),
    ):
        torch.manual_seed(0)
        model = timm.create_model(name, num_classes=0, global_pool=pool, **args).eval()
        ours = TimmEncoder(model, name, pooling, [0.1, 0.2, 0.3], [1.0, 2.0, 3.0])
        shift, scale = (torch.tensor(x)[:, None, None] for x in ([0.1, 0.2, 0.3], [1.0, 2.0, 3.0]))
        with torch.no_grad():
            found, expected = ours.pool(images), model((images.repeat(1, 3, 1, 1) - shift) / scale)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        assert found.shape[1] == ours.out_features


def test_a_folder_is_read_resized_and_reported(tmp_path, images, capsys):
    """The classifier is left out, position embeddings are resized as timm resizes them."""
    model = folder_of_vit(tmp_path / "vit")
    cfg = config(tmp_path, tmp_path / "out", f"local-dir:{tmp_path / 'vit'}", "INPUT.SIZE", "(64, 64)")
    found = encoder.FrozenEncoder(cfg, CPU)
    printed = capsys.readouterr().out
    assert "loaded  blocks (24), cls_token (1), norm (2), patch_embed (2), pos_embed (1)" in printed
    assert "ignored head (2)" in printed
    small = images[:, :, :64, :64]
    model.set_input_size(img_size=(64, 64))
    normed = (small.expand(-1, 3, -1, -1) - torch.tensor([0.2, 0.3, 0.4])[:, None, None]) / torch.tensor(
        [0.5, 0.6, 0.7]
    )[:, None, None]
    with torch.no_grad():
        expected = model.forward_features(normed)[:, 1:].mean(dim=1)
    torch.testing.assert_close(found(small), expected, rtol=0, atol=1e-5)
    assert found.width == 16
    assert found.identity["normalisation"] == {"mean": [0.2, 0.3, 0.4], "std": [0.5, 0.6, 0.7]}
    assert found.identity["timm"] == timm.__version__


def test_all_that_decides_is_in_the_recipe(tmp_path):
    model = folder_of_vit(tmp_path / "vit")
    name = f"local-dir:{tmp_path / 'vit'}"

    def identity(*opts):
        return encoder.FrozenEncoder(config(tmp_path, tmp_path, name, "INPUT.SIZE", "(32, 32)", *opts), CPU).identity

    first = identity()
    assert identity("MODEL.POOLING", "cls") == first | {"pooling": "cls"}
    save_file({key: value + 1 for key, value in model.state_dict().items()}, tmp_path / "vit/model.safetensors")
    assert identity()["weights"] != first["weights"]
    content = json.loads((tmp_path / "vit/config.json").read_text())
    content["pretrained_cfg"]["mean"] = [0.0, 0.0, 0.0]
    (tmp_path / "vit/config.json").write_text(json.dumps(content))
    assert identity()["normalisation"]["mean"] == [0.0, 0.0, 0.0]


def test_recipes_of_a_hivit_stay_as_they_were(tmp_path, checkpoint):
    cfg = config(tmp_path, tmp_path, "hivit_micro", "MODEL.INIT_WEIGHTS", checkpoint)
    found = encoder.FrozenEncoder(cfg, CPU)
    assert list(found.identity) == ["weights", "backbone", "input size", "precision", "device", "torch"]
    assert found.width == 32
    assert encoder._frozen.get(found.key) is None  # made when it is first asked


@pytest.mark.parametrize("name", ["hivit_micro", "vit_tiny_patch16_224", "resnet10t", "swin_tiny_patch4_window7_224"])
def test_mean_and_deviation_of_tokens_over_an_image_and_its_mirror_image(tmp_path, name):
    torch.manual_seed(5)
    images = torch.rand(3, 1, 64, 64)
    cfg = config(tmp_path, tmp_path, name, *RANDOM, "INPUT.SIZE", "(64, 64)", "MODEL.POOLING", "mean_std")
    plain = encoder.FrozenEncoder(cfg, CPU)
    model = plain.encoder()
    with torch.no_grad():
        inner = model if name == "hivit_micro" else model.model
        mean, std = (0, 1) if name == "hivit_micro" else (model.mean, model.std)
        tokens = inner.forward_features((images.expand(-1, 3, -1, -1) - mean) / std).numpy()
    width = plain.width // 2
    axis = next(place for place in range(1, tokens.ndim) if tokens.shape[place] == width)
    tokens = np.moveaxis(tokens, axis, -1).reshape(3, -1, width)[:, 1 if name.startswith("vit") else 0 :]
    expected = np.concatenate([tokens.mean(axis=1), tokens.std(axis=1)], axis=1)
    np.testing.assert_allclose(plain(images), expected, rtol=1e-4, atol=1e-5)

    both = encoder.FrozenEncoder(merged(cfg, "MODEL.MIRROR", True), CPU)
    np.testing.assert_allclose(both(images), (plain(images) + plain(images.flip(3))) / 2, rtol=1e-5, atol=1e-6)
    assert both.identity == plain.identity | {"mirror": True}
    assert plain.identity["pooling"] == "mean_std"


def merged(cfg, *words):
    cfg = cfg.clone()
    cfg.defrost()
    cfg.merge_from_list(list(words))
    return cfg


def test_the_middle_is_cut_after_the_data_sets_own(tmp_path):
    picture = Image.fromarray(np.arange(40 * 48, dtype=np.uint16).reshape(40, 48).astype(np.uint8))
    cfg = config(tmp_path, tmp_path, "raw_pixels", "INPUT.SIZE", "(8, 8)", "INPUT.MIDDLE", 8)
    found = build_transform(cfg, is_train=False, centre_crop=32)(picture)
    np.testing.assert_array_equal((found[0] * 255).round().numpy(), np.asarray(picture)[16:24, 20:28])


@pytest.mark.parametrize("words", [("MODEL.POOLING", "mean_std"), ("MODEL.MIRROR", True)])
def test_fine_tuning_knows_the_mean_token_alone(root, tmp_path, capsys, words):
    words_ = ("MODEL.BACKBONE.NAME", "hivit_micro", *RANDOM, *words)
    sentence = f"{words[0]} {words[1]}: MIM_finetune trains a head on the mean token alone; leave it out"
    refused(capsys, root, tmp_path, words_, sentence, trainer="MIM_finetune")


@pytest.mark.parametrize("trainer", ["MIM_linear", "kNN"])
@pytest.mark.parametrize("name", ["resnet10t", "folder"])
def test_trainers_take_them_all(tmp_path, trainer, name):
    root, opts = vehicles(tmp_path), ("MODEL.RANDOM_INIT", True)
    if name == "folder":
        folder_of_vit(tmp_path / "vit")
        name, opts = f"local-dir:{tmp_path / 'vit'}", ("MODEL.POOLING", "cls")
    words = ("MODEL.BACKBONE.NAME", name, *opts)
    train.main(options(root, tmp_path / "out", *words, trainer=trainer, flags=["--seed", 0]))
    found = json.loads((tmp_path / "out/results.json").read_text())
    assert found["encoder"]["name"] == name
    assert found["images"] == 24


def test_trained_weights_of_timm_are_loaded_strictly(tmp_path, images):
    torch.manual_seed(3)
    model = timm.create_model("resnet10t", num_classes=7).eval()
    torch.save(model.state_dict(), tmp_path / "resnet.pth")
    cfg = config(tmp_path, tmp_path, "resnet10t", "MODEL.INIT_WEIGHTS", tmp_path / "resnet.pth")
    found = build_timm_encoder(cfg).eval()
    with torch.no_grad():
        expected = model.forward_features((images.expand(-1, 3, -1, -1) - found.mean) / found.std).mean(dim=(2, 3))
        torch.testing.assert_close(found.pool(images), expected)
    torch.save(model.state_dict() | {"extra.weight": torch.ones(1)}, tmp_path / "resnet.pth")
    with pytest.raises(InputError, match=r"resnet.pth does not fit this model.*extra.weight"):
        build_timm_encoder(cfg)


class brightness(Backbone):  # noqa: N801
    """All that an encoder of one's own needs."""

    has_weights, out_features = False, 2

    def __init__(self, **kwargs):
        super().__init__()

    def forward(self, images):
        return torch.stack([images.mean(dim=(1, 2, 3)), images.std(dim=(1, 2, 3))], dim=1)


def test_an_encoder_of_ones_own_is_one_class(tmp_path, monkeypatch):
    monkeypatch.setattr(BACKBONE_REGISTRY, "objects", dict(BACKBONE_REGISTRY.objects))
    BACKBONE_REGISTRY.register(brightness)
    cfg = config(vehicles(tmp_path), tmp_path / "out", "brightness")
    trainer = build_trainer(cfg)
    trainer.train()
    items = trainer.dm.dataset.test
    transform = build_transform(cfg, is_train=False)
    pictures = torch.stack([transform(read_image(item.impath)) for item in items])
    expected = torch.stack([pictures.mean(dim=(1, 2, 3)), pictures.std(dim=(1, 2, 3))], dim=1)
    bank = FeatureBank(trainer.encoder, transform)
    assert (bank.folder / "recipe.json").is_file()
    torch.testing.assert_close(bank.features(items), expected)
    torch.testing.assert_close(torch.cat(trainer.tested["pooled"]), expected)


def test_a_stand_in_for_ours_has_its_own_features(tmp_path, monkeypatch):
    class hivit_micro(brightness):  # noqa: N801
        out_features = 0

    monkeypatch.setattr(BACKBONE_REGISTRY, "objects", BACKBONE_REGISTRY.objects | {"hivit_micro": hivit_micro})
    cfg = config(tmp_path, tmp_path, "hivit_micro")
    with pytest.raises(InputError, match=r'"hivit_micro": its out_features must say how many features it gives'):
        encoder.FrozenEncoder(cfg, CPU)
    hivit_micro.out_features = 2
    found = encoder.FrozenEncoder(cfg, CPU)
    assert (found.width, len(found.identity["code"])) == (2, 64)
    assert found(torch.rand(3, 1, 48, 48)).shape == (3, 2)


def refused(capsys, root, output, words, sentence, trainer="kNN"):
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop, exit_on_input_error():
        train.main(options(root, output, *words, trainer=trainer))
    told = capsys.readouterr().err
    assert stop.value.code == 2
    assert sentence in told, told
    assert told.startswith("error: ")
    assert told.count("\n") == 1, told


WRONG = {
    ("vit_tiny_patch16_225", *RANDOM): "a model of timm, such as vit_tiny_patch16_224 or ",
    ("hf-hub:timm/vit_tiny_patch16_224", *RANDOM): "or local-dir:<folder>; nothing is downloaded",
    ("vit_tiny_patch16_224.nope", *RANDOM): "timm cannot make it: Invalid pretrained tag (nope)",
    ("resnet10t",): "MODEL.INIT_WEIGHTS names no checkpoint: give one, or MODEL.RANDOM_INIT True",
    ("resnet10t", *RANDOM, "MODEL.POOLING", "cls"): "MODEL.POOLING cls: resnet10t has no class token; choose mean",
    ("hog", "MODEL.POOLING", "cls"): "MODEL.POOLING cls: hog has no class token; choose mean",
    ("hivit_micro", *RANDOM, "MODEL.POOLING", "cls"): "MODEL.POOLING cls: hivit_micro has no class token",
    ("hog", "MODEL.POOLING", "mean_std"): "MODEL.POOLING mean_std: hog gives no tokens to pool; choose mean",
    ("hog", "INPUT.MIDDLE", -1): "INPUT.MIDDLE -1: must be from 0 to 100000",
    ("hog", "MODEL.POOLING", "max"): "MODEL.POOLING max: unknown; choose one of mean, mean_std, cls",
    ("hog", *RANDOM): "MODEL.RANDOM_INIT True: hog has no weights; leave it out",
    ("hog", "INPUT.SIZE", "(16, 16)"): "INPUT.SIZE (16, 16): hog takes 32 px or more",
    ("cait_xxs24_224", *RANDOM): "INPUT.SIZE (48, 48): does not fit cait_xxs24_224: it takes (224, 224) alone",
    ("resnet10t", *RANDOM, "INPUT.TRANSFORMS", "['normalize']"): "resnet10t normalises images itself; leave it out",
}


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_encoder_gets_one_sentence(root, tmp_path, capsys, words):
    refused(capsys, root, tmp_path, ("MODEL.BACKBONE.NAME", *words), WRONG[words])


def test_weights_of_another_model(root, tmp_path, checkpoint, capsys):
    words = ("MODEL.BACKBONE.NAME", "resnet10t", "MODEL.INIT_WEIGHTS", checkpoint)
    refused(capsys, root, tmp_path, words, f"{checkpoint} does not fit this model")


FOLDERS = {  # what is wrong in config.json: the sentence
    "{": "config.json cannot be read",
    "[]": "config.json names no architecture that timm has (None)",
    '{"architectures": ["ViTModel"]}': "names no architecture that timm has (None); give timm's config",
    '{"architecture": "hf-hub:a/b"}': "names no architecture that timm has (hf-hub:a/b)",
    '{"architecture": "resnet10t", "model_args": [1]}': "model_args must be an object, not [1]",
    '{"architecture": "resnet10t", "model_args": {"checkpoint_path": "a.pkl"}}': "must not hold checkpoint_path",
    '{"architecture": "resnet10t", "model_args": {"depth": 3}}': "timm cannot make it: ",
    '{"architecture": "resnet10t"}': "model.safetensors does not fit this model",
}


@pytest.mark.parametrize("content", FOLDERS)
def test_a_folder_with_another_config(root, tmp_path, capsys, content):
    folder_of_vit(tmp_path / "vit")
    (tmp_path / "vit/config.json").write_text(content)
    refused(capsys, root, tmp_path / "out", ("MODEL.BACKBONE.NAME", f"local-dir:{tmp_path / 'vit'}"), FOLDERS[content])


@pytest.mark.parametrize("key", ["mean", "std"])
@pytest.mark.parametrize("value", [[], "half", [0.5], [0.0, 1.0, None]])
def test_a_folder_with_odd_normalisation(root, tmp_path, capsys, key, value):
    folder_of_vit(tmp_path / "vit")
    path = Path(tmp_path, "vit/config.json")
    content = json.loads(path.read_text())
    content["pretrained_cfg"][key] = value
    path.write_text(json.dumps(content))
    refused(
        capsys,
        root,
        tmp_path / "out",
        ("MODEL.BACKBONE.NAME", f"local-dir:{tmp_path / 'vit'}"),
        f"its {key}" if len(value) != 1 else "are not of the images it takes",
    )


def test_a_folder_without_its_files(root, tmp_path, capsys):
    folder_of_vit(tmp_path / "vit")
    name = f"local-dir:{tmp_path / 'vit'}"
    both = ("MODEL.BACKBONE.NAME", name, *RANDOM)
    refused(capsys, root, tmp_path / "out", both, f"MODEL.RANDOM_INIT True: {name} brings its weights; leave it out")
    (tmp_path / "vit/config.json").unlink()
    sentence = f"{tmp_path / 'vit/config.json'} is not there; give a folder with config.json and model.safetensors"
    refused(capsys, root, tmp_path / "out", ("MODEL.BACKBONE.NAME", name), sentence)


def test_baselines_take_any_shape(images):
    for kind in (raw_pixels, hog, mgf_histogram):
        model = kind((96, 64))
        assert model(images[:, :, :96, :64]).shape == (3, model.out_features)
