"""What happens to an image between its file and the model."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from dassl.data.transforms import build_transform, is_random
from dassl.data.transforms.augment import Cutout, RandAugment, RandAugment2, Translation, apply
from dassl.data.transforms.transforms import FIXED, INTERPOLATION_MODES, RANDOM
from hivit_cls.configuration import extended_defaults
from saratrx.errors import InputError


@pytest.fixture
def cfg():
    cfg = extended_defaults()
    cfg.INPUT.SIZE, cfg.INPUT.INTERPOLATION = (32, 32), "bicubic"
    return cfg


@pytest.fixture
def image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80), dtype=np.uint8))


def as_tensor(image):
    return torch.from_numpy(np.asarray(image, np.float32))[None] / 255


def test_training_squeezes_the_whole_image(cfg, image):
    found = build_transform(cfg, is_train=True)(image)
    torch.testing.assert_close(found, as_tensor(image.resize((32, 32), Image.Resampling.BICUBIC)))


def test_test_keeps_the_shape_and_cuts_the_middle(cfg, image):
    smaller = image.resize((42, 32), Image.Resampling.BICUBIC)
    torch.testing.assert_close(build_transform(cfg, is_train=False)(image), as_tensor(smaller.crop((5, 0, 37, 32))))


@pytest.mark.parametrize("is_train", [True, False])
def test_the_centre_is_cut_before_anything_is_resized(cfg, image, is_train):
    middle = image.crop((20, 10, 60, 50)).resize((32, 32), Image.Resampling.BICUBIC)
    found = build_transform(cfg, is_train=is_train, centre_crop=40)(image)
    torch.testing.assert_close(found, as_tensor(middle))


def test_a_transform_is_random_if_it_is_called_so(cfg, image):
    for choices in ([], ["center_crop"], ["normalize"], ["instance_norm"], *([name] for name in RANDOM)):
        cfg.INPUT.TRANSFORMS = choices
        transform = build_transform(cfg, is_train=True)
        torch.manual_seed(0)
        several = [transform(image) for _ in range(20)]
        differs = any(not torch.equal(several[0], other) for other in several)
        assert differs == is_random(cfg) == (not set(choices) <= set(FIXED)), choices
        assert all(one.shape[-2:] == (32, 32) and one.dtype == torch.float32 for one in several), choices


def test_tests_are_not_augmented(cfg, image):
    plain = build_transform(cfg, is_train=False)(image)
    cfg.INPUT.TRANSFORMS = list(RANDOM)
    torch.testing.assert_close(build_transform(cfg, is_train=False)(image), plain)


def test_flips_go_both_ways(cfg, image):
    plain = build_transform(cfg, is_train=True)(image)
    cfg.INPUT.TRANSFORMS = ["random_flip"]
    transform = build_transform(cfg, is_train=True)
    seen = {transform(image).numpy().tobytes() for _ in range(60)}
    assert seen == {plain.flip(axes).contiguous().numpy().tobytes() for axes in ((), (1,), (2,), (1, 2))}


def test_randaugment_has_the_operations_of_sar(image):
    assert RandAugment.operations == ("identity", "rotate", "brightness", "sharpness")
    assert RandAugment2.operations == ("identity", "brightness")
    assert apply("identity", image, 0.7) is image
    for name, kind in (("brightness", ImageEnhance.Brightness), ("sharpness", ImageEnhance.Sharpness)):
        for strength, factor in ((0.0, 0.1), (0.5, 1.0), (1.0, 1.9)):
            assert np.array_equal(apply(name, image, strength), kind(image).enhance(factor)), (name, strength)
    turned = {np.asarray(apply("rotate", image, 1.0)).tobytes() for _ in range(20)}
    assert turned == {np.asarray(image.rotate(angle)).tobytes() for angle in (45, -45)}


def test_normalisation_gives_the_channels_of_its_means(cfg, image):
    plain = build_transform(cfg, is_train=False)(image)
    cfg.INPUT.TRANSFORMS = ["normalize"]
    mean, std = (torch.tensor(values)[:, None, None] for values in (cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD))
    torch.testing.assert_close(build_transform(cfg, is_train=False)(image), (plain - mean) / std)
    cfg.INPUT.TRANSFORMS = ["instance_norm"]
    torch.testing.assert_close(
        build_transform(cfg, is_train=False)(image), (plain - plain.mean()) / plain.std(), atol=1e-5, rtol=1e-5
    )


def test_cutout_and_translation(image):
    torch.manual_seed(3)
    counts = {int((Cutout(1, 8)(torch.ones(1, 30, 30)) == 0).sum()) for _ in range(200)}
    assert max(counts) == 64
    assert min(counts) < 64  # cut by the border
    moved = Translation((16, 24), INTERPOLATION_MODES["bicubic"], p=1.0)(image)
    assert moved.size == (24, 16)
    assert Translation((16, 24), INTERPOLATION_MODES["bicubic"], p=0.0)(image) is image


def test_unknown_names_are_refused(cfg):
    with pytest.raises(InputError, match=r"INPUT.TRANSFORMS autoaugment: unknown; choose of center_crop"):
        build_transform(cfg, choices=["autoaugment"])
    cfg.INPUT.INTERPOLATION = "cubic"
    with pytest.raises(InputError, match=r"INPUT.INTERPOLATION cubic: unknown"):
        build_transform(cfg)
