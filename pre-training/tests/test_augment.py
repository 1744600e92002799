import math

import numpy as np
import pytest
import torch
from torch.utils.data._utils.pin_memory import pin_memory
from torchvision.transforms import InterpolationMode, v2

from hivit_mae.data import resample
from hivit_mae.data.augment import Augmentation, Crop
from hivit_mae.data.resample import GROUP_SIZE, collate_crops, resize_crops, taps


def speckle(height, width, seed=0):
    """Multiplied noise around a gradient: contrasts at all scales, and overshoots on scaling."""
    rng = np.random.default_rng(seed)
    values = np.linspace(20, 90, width) * rng.exponential(size=(height, width))
    return values.clip(0, 255).astype(np.uint8)


SIZES = [(128, 128), (190, 141), (40, 300), (33, 20), (9, 15), (1, 1), (900, 700), (128, 200), (64, 64)]


def test_one_image_is_augmented_as_torchvision_composes_it():
    """With what torchvision draws replaced by what was drawn here."""
    augmentation = Augmentation(64, seed=7, on_device=False)
    state = torch.get_rng_state()
    for index, size in enumerate(SIZES * 4):
        image, drawn = speckle(*size), augmentation.draw(3, index, *size)
        crop = v2.RandomResizedCrop(64, scale=(0.2, 1.0), interpolation=InterpolationMode.BICUBIC)
        box = {"top": drawn.top, "left": drawn.left, "height": drawn.height, "width": drawn.width}
        crop.make_params = lambda _, box=box: box
        jitter = v2.ColorJitter(contrast=(drawn.contrast, drawn.contrast))
        flip = v2.RandomHorizontalFlip(p=float(drawn.flip))
        with torch.random.fork_rng():
            expected = v2.Compose([crop, flip, jitter, v2.ToDtype(torch.float32, scale=True)])(
                torch.tensor(image)[None]
            )
        found_index, found = augmentation.sample(3, index, image)
        assert found_index == index
        assert torch.equal(found, expected)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("size", [(150, 180), (128, 128), (100, 260), (12, 9)])
def test_what_is_drawn_has_the_distribution_of_torchvision(size):
    count, image = 4000, torch.empty(1, *size, dtype=torch.uint8)
    augmentation = Augmentation(224, 0, on_device=True)
    ours = [augmentation.draw(0, index, *size) for index in range(count)]
    crop = v2.RandomResizedCrop(224, scale=(0.2, 1.0))
    jitter = v2.ColorJitter(contrast=0.5)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = [
            Crop(**crop.make_params([image]), flip=bool(torch.rand(1) < 0.5), **contrast_of(jitter, image))
            for _ in range(count)
        ]
    features = {
        "area": lambda c: c.height * c.width / (size[0] * size[1]),
        "aspect": lambda c: math.log(c.width / c.height),
        "vertical place": lambda c: (c.top + 0.5) / (size[0] - c.height + 1),
        "horizontal place": lambda c: (c.left + 0.5) / (size[1] - c.width + 1),
        "flip": lambda c: float(c.flip),
        "contrast": lambda c: c.contrast,
    }
    for name, feature in features.items():
        found, expected = (np.sort([feature(c) for c in crops]) for crops in (ours, theirs))
        both = np.concatenate([found, expected])
        shares = [np.searchsorted(values, both, side="right") / count for values in (found, expected)]
        assert np.abs(shares[0] - shares[1]).max() < 0.043, name  # Kolmogorov-Smirnov at p = 0.001
    assert all(0 <= c.top <= size[0] - c.height and 0 <= c.left <= size[1] - c.width for c in ours)
    if min(size) > 100:
        assert len({(c.top, c.left, c.height, c.width) for c in ours}) > 0.98 * count
    # what is drawn for an image says nothing of the next one, nor one feature of another
    drawn = np.array([[feature(c) for feature in features.values()] for c in ours])
    varied = drawn[:, drawn.std(axis=0) > 0]
    assert np.abs(np.corrcoef(varied[:-1].T, varied[1:].T)[: varied.shape[1], varied.shape[1] :]).max() < 0.06


def contrast_of(jitter, image):
    return {"contrast": jitter.make_params([image])["contrast_factor"]}


@pytest.mark.parametrize("size", [(10, 100), (100, 10), (1, 1), (300, 3)])
def test_where_no_crop_fits_the_middle_is_taken_as_by_torchvision(size, monkeypatch):
    monkeypatch.setattr("hivit_mae.data.augment.ATTEMPTS", 0)
    found = Augmentation(224, 0, on_device=True).draw(0, 0, *size)
    crop = v2.RandomResizedCrop(224, scale=(50.0, 60.0))  # larger than the image
    expected = crop.make_params([torch.empty(1, *size)])
    assert {"top": found.top, "left": found.left, "height": found.height, "width": found.width} == expected


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
    assert max(group.crops for group in batch.groups) == GROUP_SIZE
    found = resize_crops(batch, size)
    assert batch.indices == list(range(45))
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
    crops = [Crop(0, 0, *image.shape, flip=bool(i % 2), contrast=1.0) for i, image in enumerate(images)]
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
        (i, image, Crop(0, 0, *image.shape, flip=i in {1, 2}, contrast=contrasts[i])) for i, image in enumerate(images)
    ]
    found = resize_crops(collate_crops(samples), 48)
    for i, image in enumerate(images):
        pixels = image.astype(np.float64)
        pixels = (pixels @ bicubic_matrix(pixels.shape[1], 48).T).clip(0, 255)
        pixels = (bicubic_matrix(pixels.shape[0], 48) @ pixels).clip(0, 255) / 255
        pixels = pixels[:, ::-1] if i in {1, 2} else pixels
        pixels = (contrasts[i] * pixels + (1 - contrasts[i]) * pixels.mean()).clip(0, 1)
        assert np.abs(found[i, 0].numpy() - pixels).max() < 1e-5
        alone = resize_crops(collate_crops([samples[i]]), 48)
        assert torch.allclose(alone[0], found[i], atol=1e-6)


def taps_of_one(length, size, count, is_flipped):
    """Indices and weights [S, K] of one crop, an output and an input at a time, in float64."""
    scale = length / size
    stretch = max(scale, 1.0)
    indices, weights = np.zeros((size, count), int), np.zeros((size, count))
    for output in range(size):
        centre = (output + 0.5) * scale
        first, stop = max(int(centre - 2 * stretch + 0.5), 0), min(int(centre + 2 * stretch + 0.5), length)
        for k in range(count):
            x = abs(first + k + 0.5 - centre) / stretch
            near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
            weights[output, k] = (near if x < 1 else far if x < 2 else 0) * (first + k < stop)
            indices[output, k] = min(first + k, length - 1)
    weights /= weights.sum(axis=1, keepdims=True)
    return (indices[::-1], weights[::-1]) if is_flipped else (indices, weights)


@pytest.mark.parametrize("size", [48, 64])
def test_the_taps_of_crops_of_odd_sizes_are_found_together(size):
    lengths, flips = [1, 2, 7, 63, 64, 65, 131, 445, 1000], [0, 1, 0, 1, 0, 1, 0, 1, 1]
    starts = [100 * number for number in range(len(lengths))]
    count = math.ceil(4 * 1000 / size)
    as_float64 = [torch.tensor(values, dtype=torch.float64) for values in (lengths, flips, starts)]
    found, weights = taps(as_float64[0], size, 1000, *as_float64[1:])
    assert found.dtype == torch.int32
    assert weights.dtype == torch.float32
    for number, (length, flip, start) in enumerate(zip(lengths, flips, starts, strict=True)):
        indices, expected = taps_of_one(length, size, count, flip)
        part = slice(number * size, (number + 1) * size)
        assert np.array_equal(found[part].numpy() - start, indices), length
        assert np.abs(weights[part].numpy() - expected).max() < 1e-6, length
        assert torch.allclose(weights[part].sum(1), torch.ones(size), atol=1e-6)


def test_a_batch_is_augmented_on_the_device_from_one_tensor_of_which_nothing_is_read_back():
    """On a device without values, where every reading and every other copy is an error; a large crop reorders it."""
    images = [speckle(*shape) for shape in [(300, 400), (40, 40), (33, 20)]]
    batch = collate_crops([Augmentation(32, 0, on_device=True).sample(0, 5 + i, x) for i, x in enumerate(images)])
    assert not batch.is_sorted
    assert sum(isinstance(part, torch.Tensor) for part in batch) == 1
    moved = batch.to(torch.device("meta"))
    assert moved.data.device.type == "meta"
    assert moved.indices == [5, 6, 7]
    assert resize_crops(moved, 32).shape == (3, 1, 32, 32)


def test_a_batch_is_pinned_by_one_copy(monkeypatch):
    """As DataLoader does it, with a stand-in for the copy: PyTorch pins for GPUs alone."""
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: (pinned.append(self), self.clone())[1])
    batch = collate_crops([Augmentation(32, 0, on_device=True).sample(0, i, speckle(40, 40)) for i in range(3)])
    found = pin_memory(batch)
    assert len(pinned) == 1
    assert found.indices is batch.indices
    assert torch.equal(resize_crops(found, 32), resize_crops(batch, 32))


def test_without_opencv_a_batch_is_the_same(monkeypatch):
    samples = [Augmentation(32, 0, on_device=True).sample(0, i, speckle(*size)) for i, size in enumerate(SIZES)]
    expected = collate_crops(samples)
    monkeypatch.setattr(resample, "transpose", np.transpose)
    assert torch.equal(collate_crops(samples).data, expected.data)
