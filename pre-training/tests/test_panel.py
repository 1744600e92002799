import golden
import numpy as np
import pytest
import torch
from PIL import Image

from hivit_mae.data.folders import FolderImages
from hivit_mae.models.models_hivit_mae import mae_hivit_micro_dec32d1b as micro
from hivit_mae.run import panel


@pytest.mark.parametrize("norm_pix_loss", [False, True])
def test_the_panel_shows_predictions_of_removed_patches_only(norm_pix_loss):
    model = micro(img_size=64, norm_pix_loss=norm_pix_loss).train()
    images = golden.image("panel", (3, 1, 64, 64))
    figure = panel.draw(model, images, 0.75)
    assert model.training
    shown = [axis.images[0].get_array() for axis in figure.axes]
    titles = [axis.get_title() for axis in figure.axes[:8]]
    assert titles == ["input", "masked 75%"] + [
        f"{kind} r={r}" for kind in ("target", "predicted") for r in (9, 13, 17)
    ]
    assert len(shown) == 3 * 8
    for row in range(3):
        original, masked_input, *maps = shown[8 * row : 8 * row + 8]
        removed = np.ma.getmaskarray(masked_input)
        assert removed.mean() == 0.75
        assert np.array_equal(original, images[row, 0])
        for target, predicted in zip(maps[:3], maps[3:], strict=True):
            assert not np.ma.getmaskarray(target).any()
            assert np.array_equal(np.ma.getmaskarray(predicted), ~removed)


def test_fixed_images_are_the_same_every_time_and_whole(tmp_path):
    for number in range(11):
        Image.fromarray(np.full((40, 50), 20 * number, np.uint8)).save(tmp_path / f"{number:02d}.png")
    dataset = FolderImages([tmp_path], 32, 0, 0.01)
    images = panel.fixed_images(dataset, 3)
    assert images.shape == (3, 1, 32, 32)
    assert torch.equal(images, panel.fixed_images(dataset, 3))
    everything = panel.fixed_images(dataset, 100)
    assert [round(float(image.mean()) * 255) for image in everything] == list(range(0, 220, 20))
