import math

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate
from torchvision.transforms import InterpolationMode, v2

from util.augment import Augmentation, Crop
from util.resample import GROUP_SIZE, collate_crops, resize_crops, taps
from util.seeds import CROP, derived_seed


def speckle(height, width, seed=0):
    """Multiplied noise around a gradient: contrasts at all scales, and overshoots on scaling."""
    rng = np.random.default_rng(seed)
    values = np.linspace(20, 90, width) * rng.exponential(size=(height, width))
    return torch.from_numpy(values.clip(0, 255).astype(np.uint8))[None]


SIZES = [(128, 128), (190, 141), (40, 300), (33, 20), (9, 15), (1, 1), (900, 700), (128, 200), (64, 64)]


def test_one_image_is_augmented_as_torchvision_composes_it():
    published = v2.Compose(
        [
            v2.RandomResizedCrop(64, scale=(0.2, 1.0), interpolation=InterpolationMode.BICUBIC),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(contrast=0.5),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    augmentation = Augmentation(64, seed=7, on_device=False)
    state = torch.get_rng_state()
    for index, size in enumerate(SIZES * 4):
        image = speckle(*size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(CROP, 7, 3, index))
            expected = published(image)
        found_index, found = augmentation.sample(3, index, image)
        assert found_index == index
        assert torch.equal(found, expected)
    assert torch.equal(state, torch.get_rng_state())


def test_what_is_drawn_has_the_published_distribution():
    augmentation = Augmentation(224, 0, on_device=True)
    image = torch.empty(1, 150, 180, dtype=torch.uint8)
    crops = [augmentation.draw(0, index, image) for index in range(3000)]
    area = np.array([c.height * c.width / (150 * 180) for c in crops])
    aspect = np.array([math.log(c.width / c.height) for c in crops])
    contrast = np.array([c.contrast for c in crops])
    rng = np.random.default_rng(1)  # the same distribution, by its definition
    share, ratio = rng.uniform(0.2, 1, 100_000), np.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3), 100_000))
    fits = (share * ratio <= 180 / 150) & (share / ratio <= 150 / 180)
    levels = (0, 0.1, 0.25, 0.5, 0.75, 0.9)
    assert np.quantile(area, levels) == pytest.approx(np.quantile(share[fits], levels), abs=0.02)
    assert 0.9 < area.max() <= 1
    assert abs(aspect).max() < math.log(4 / 3) + 0.03
    assert aspect.mean() == pytest.approx(0, abs=0.03)
    assert np.mean([c.flip for c in crops]) == pytest.approx(0.5, abs=0.03)
    assert contrast.min() >= 0.5
    assert contrast.max() <= 1.5
    assert contrast.mean() == pytest.approx(1, abs=0.02)
    assert contrast.std() == pytest.approx(1 / math.sqrt(12), abs=0.01)
    assert all(0 <= c.top <= 150 - c.height and 0 <= c.left <= 180 - c.width for c in crops)
    assert len({(c.top, c.left, c.height, c.width) for c in crops}) > 2950


@pytest.mark.parametrize("size", [32, 224])
def test_a_batch_is_augmented_as_its_images_one_by_one(size):
    """One by one rounds to whole grey levels three times, the last time down; as a batch, never.

    So they differ by half a level on average where the contrast changes, and by the filter's gain where more adds up.
    """
    augmentation = Augmentation(size, 0, on_device=True)
    images = [speckle(*shape, seed) for seed, shape in enumerate(SIZES * 5)]
    samples = [augmentation.sample(2, index, image) for index, image in enumerate(images)]
    assert {crop.flip for _, _, crop in samples} == {True, False}
    batch = collate_crops(samples)
    assert len(batch.groups) > 2
    assert max(len(group.shapes[0]) for group in batch.groups) == GROUP_SIZE
    found = resize_crops(batch, size)
    assert batch.indices.tolist() == list(range(45))
    assert found.shape == (45, 1, size, size)
    assert found.dtype == torch.float32
    assert found.min() >= 0
    assert found.max() <= 1
    expected = torch.stack(
        [augmentation.apply(image, crop) for image, (_, _, crop) in zip(images, samples, strict=True)]
    )
    difference = (found - expected) * 255
    assert difference.abs().max() < 3
    assert difference.mean() == pytest.approx(0.5, abs=0.2)
    assert difference.mean(dim=(1, 2, 3)).abs().max() < 1.1


def test_without_contrast_a_batch_differs_by_rounding_alone():
    images = [speckle(*shape, seed) for seed, shape in enumerate(SIZES)]
    crops = [Crop(0, 0, *image.shape[1:], flip=bool(i % 2), contrast=1.0) for i, image in enumerate(images)]
    found = resize_crops(collate_crops([(i, x, c) for i, (x, c) in enumerate(zip(images, crops, strict=True))]), 96)
    one_by_one = Augmentation(96, 0, on_device=False)
    expected = torch.stack([one_by_one.apply(x, c) for x, c in zip(images, crops, strict=True)])
    difference = (found - expected) * 255
    assert difference.abs().max() < 2
    assert difference.mean(dim=(1, 2, 3)).abs().max() < 0.1


def bicubic_matrix(inputs, outputs):
    """Dense antialiased bicubic resampling [outputs, inputs] in float64, one weight at a time."""
    scale = inputs / outputs
    stretch = max(scale, 1.0)
    matrix = np.zeros((outputs, inputs))
    for row in range(outputs):
        for column in range(inputs):
            x = abs(column + 0.5 - (row + 0.5) * scale) / stretch
            if x < 1:
                matrix[row, column] = 1.5 * x**3 - 2.5 * x**2 + 1
            elif x < 2:
                matrix[row, column] = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return matrix / matrix.sum(axis=1, keepdims=True)


def test_scaling_is_bicubic_to_float_precision():
    """Against dense matrices, up and down, flipped or not; neither a batch's company nor its order matters."""
    shapes = [(50, 70), (20, 31), (64, 48), (150, 9), (300, 20)]
    images = [speckle(*shape, seed) for seed, shape in enumerate(shapes)]
    contrasts = [1.0, 0.6, 1.4, 1.0, 0.5]
    samples = [
        (i, image, Crop(0, 0, *image.shape[1:], flip=i in {1, 2}, contrast=contrasts[i]))
        for i, image in enumerate(images)
    ]
    found = resize_crops(collate_crops(samples), 48)
    for i, image in enumerate(images):
        pixels = image[0].double().numpy()
        pixels = (pixels @ bicubic_matrix(pixels.shape[1], 48).T).clip(0, 255)
        pixels = (bicubic_matrix(pixels.shape[0], 48) @ pixels).clip(0, 255) / 255
        pixels = pixels[:, ::-1] if i in {1, 2} else pixels
        pixels = (contrasts[i] * pixels + (1 - contrasts[i]) * pixels.mean()).clip(0, 1)
        assert np.abs(found[i, 0].numpy() - pixels).max() < 1e-5
        alone = resize_crops(collate_crops([samples[i]]), 48)
        assert torch.allclose(alone[0], found[i], atol=1e-6)


def test_taps_stay_inside_and_sum_to_one():
    lengths = torch.tensor([1, 2, 7, 64, 65, 1000])
    indices, weights = taps(lengths, 1000, 64, torch.zeros_like(lengths))
    assert indices.min() == 0
    assert (indices.amax(dim=(1, 2)) == lengths - 1).all()
    assert torch.allclose(weights.sum(-1), torch.ones(6, 64))
    assert taps(lengths[:4], 64, 64, torch.zeros(4))[0].shape[2] == 4  # no more than scaling up needs


def test_a_batch_pins_and_moves_as_a_tuple():
    sample = Augmentation(32, 0, on_device=True).sample(0, 5, speckle(40, 40))
    batch = collate_crops([sample])
    assert isinstance(batch, tuple)  # which DataLoader pins field by field
    moved = batch.to(torch.device("meta"))
    assert moved.indices.tolist() == [5]
    assert {t.device.type for t in (moved.contrasts, moved.groups[0].columns, moved.groups[0].shapes)} == {"meta"}
    assert default_collate([(3, torch.zeros(1))])[0].tolist() == [3]
