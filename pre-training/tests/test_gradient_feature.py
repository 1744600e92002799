import golden
import numpy as np
import pytest
import torch

from hivit_mae.models.gradient_feature import GradientFeature
from hivit_mae.models.published_form import DenseGradientFeature


def test_agrees_with_the_published_code():
    arrays, facts = golden.load("pretrain")
    images = golden.image("gf", (2, 1, 96, 96))
    features = GradientFeature(facts["radii"])(images)
    assert features.dtype == torch.float32
    for scale, radius in enumerate(facts["radii"]):
        found = features[:, scale : scale + 1]
        exact, published = arrays[f"gf_r{radius}_float64"], arrays[f"gf_r{radius}"]
        assert golden.relative_error(found, exact) < 1e-6
        # the published float32 sums stray from its own float64 by up to 1.4e-5; no more is allowed between us and them
        own_error = np.abs(published.values - exact.values).max() / exact.largest
        assert golden.relative_error(found, published) < own_error + 1e-6


@pytest.mark.parametrize("shape", [(3, 1, 40, 96), (1, 1, 18, 19), (2, 1, 224, 224)])
def test_agrees_with_dense_convolutions_in_float64(shape):
    images = golden.image("dense", shape)
    exact = DenseGradientFeature()(images.double())
    assert (GradientFeature()(images) - exact).abs().max() < 1e-6


def test_extreme_images():
    """A black image has no gradient; a bright half has the same everywhere along its edge."""
    images = torch.zeros(1, 1, 64, 64)
    assert not GradientFeature()(images).any()
    images[..., 32:] = 1
    features = GradientFeature((9,))(images)[0, 0]
    dark, bright = 0.01, 1.01
    left, right = 10 * dark, dark + 9 * bright  # columns j-9..j and j..j+9 at j = 31, the last dark one
    torch.testing.assert_close(features[:, 31], torch.full((64,), right / left).log())


def test_speckle_scales_out():
    """The ratio of sums does not know how bright the image is, but for the small offset."""
    images = golden.image("scale", (1, 1, 64, 64)) + 0.2
    difference = GradientFeature()(images) - GradientFeature()(images * 0.5)
    assert difference.abs().max() < 0.02


def test_keeps_its_precision_under_autocast_and_needs_no_gradient():
    images = golden.image("autocast", (1, 1, 64, 64)).requires_grad_()
    plain = GradientFeature()(images)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = GradientFeature()(images)
    assert torch.equal(plain, mixed)
    assert not plain.requires_grad


@pytest.mark.parametrize("shape", [(1, 1, 17, 64), (1, 3, 64, 64), (1, 64, 64)])
def test_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=r"expected images \[B, 1, H, W\] with sides over 17 px"):
        GradientFeature()(torch.zeros(shape))
