import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from hivit_mae.data.folders import FolderImages
from saratrx.errors import InputError
from saratrx.files import find_images


def make_images(folder, count=12, side=40):
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(rng.integers(0, 256, (side, side + number), dtype=np.uint8)).save(folder / f"{number:02d}.png")


def names(paths, root):
    return [path.removeprefix(f"{root}/") for path in paths]


def test_images_are_found_at_any_depth_and_sorted(tmp_path):
    for name in ("b/2.JPG", "b/1.tif", "a/x/y/3.npy", "0.png", "notes.txt", ".hidden.png", ".cache/4.png", "b/._1.tif"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    assert names(find_images(tmp_path), tmp_path) == ["0.png", "a/x/y/3.npy", "b/1.tif", "b/2.JPG"]


def test_links_to_other_folders_are_followed(tmp_path):
    make_images(tmp_path / "far", 2)
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "link").symlink_to(tmp_path / "far")
    assert names(find_images(tmp_path / "near"), tmp_path) == ["near/link/00.png", "near/link/01.png"]


def test_no_folder_and_no_image_are_errors(tmp_path):
    with pytest.raises(InputError, match="nowhere: no such folder"):
        find_images(tmp_path / "nowhere")
    (tmp_path / "a.txt").touch()
    with pytest.raises(InputError, match="no image in it"):
        find_images(tmp_path)


def test_what_runs_write_is_no_training_data(tmp_path, capsys):
    make_images(tmp_path / "data", 2)
    for output, mark in (("ended", "checkpoint-8.pth"), ("running", ".run.lock")):
        (tmp_path / "data" / output / "more").mkdir(parents=True)
        (tmp_path / "data" / output / mark).touch()
        make_images(tmp_path / "data" / output, 1)
        make_images(tmp_path / "data" / output / "more", 1)
    assert names(find_images(tmp_path / "data"), tmp_path) == ["data/00.png", "data/01.png"]
    assert capsys.readouterr().out.count("an output folder of a run") == 2
    with pytest.raises(InputError, match="ended: is the output folder of a run"):
        find_images(tmp_path / "data" / "ended")


def test_an_image_depends_on_seed_epoch_and_index_alone(tmp_path):
    make_images(tmp_path)
    dataset = FolderImages([tmp_path], 32, 0, 0.01)
    state = torch.get_rng_state()
    first = [dataset[i][1] for i in range(12)]
    assert torch.equal(state, torch.get_rng_state())
    assert all(x.shape == (1, 32, 32) and x.dtype == torch.float32 and x.min() >= 0 and x.max() <= 1 for x in first)
    for workers in (0, 2):
        indices, images = zip(*DataLoader(dataset, batch_size=5, num_workers=workers), strict=True)
        assert torch.cat(indices).tolist() == list(range(12))
        assert torch.equal(torch.cat(images), torch.stack(first))
    dataset.start(1)
    assert not any(torch.equal(x, dataset[i][1]) for i, x in enumerate(first))
    dataset.start(0)
    assert torch.equal(first[3], dataset[3][1])
    assert not torch.equal(first[3], FolderImages([tmp_path], 32, 1, 0.01)[3][1])


def test_workers_that_live_on_follow_the_epoch(tmp_path):
    make_images(tmp_path)
    dataset = FolderImages([tmp_path], 32, 0, 0.01)
    loader = DataLoader(dataset, batch_size=4, num_workers=2, persistent_workers=True)
    first = torch.cat([images for _, images in loader])
    dataset.start(1)
    second = torch.cat([images for _, images in loader])
    assert not torch.equal(first, second)
    assert torch.equal(second[7], dataset[7][1])


def test_augmentation_is_the_published_one(tmp_path):
    """Crops of 20 to 100 % of the area, flipped half the time, contrast between 0.5 and 1.5."""
    ramp = np.tile(np.linspace(60, 180, 200).round().astype(np.uint8), (200, 1))
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    dataset = FolderImages([tmp_path], 32, 0, 0.01)
    flips, slopes = [], []
    for epoch in range(400):
        dataset.start(epoch)
        row = dataset[0][1][0, 16]
        flips.append(bool(row[-1] < row[0]))
        slopes.append(float((row[-1] - row[0]).abs()) * 255 / 120)  # width of the crop times contrast
    assert 0.42 < np.mean(flips) < 0.58
    assert 0.1 < min(slopes) < 0.35
    assert 1.2 < max(slopes) < 1.55


def test_unreadable_images_are_replaced_and_named_once_by_whoever_meets_them(tmp_path, capfd):
    make_images(tmp_path)
    (tmp_path / "03.png").write_text("broken")
    dataset = FolderImages([tmp_path], 32, 0, max_bad=0.1)
    for workers in (2, 2, 0):
        loaded = torch.cat([images for _, images in DataLoader(dataset, batch_size=4, num_workers=workers)])
        assert loaded[3].std() > 0
    dataset.check_bad()
    assert dataset.bad.nonzero().tolist() == [[3]]
    printed = capfd.readouterr().err
    assert printed.count("03.png") == 1
    assert printed.startswith("skipped: ")


def test_the_crop_of_a_replaced_image_is_drawn_for_its_own_index(tmp_path):
    make_images(tmp_path)
    (tmp_path / "03.png").write_text("broken")
    dataset = FolderImages([tmp_path], 32, 0, max_bad=0.1)
    replacement = dataset.read(4)
    crop = dataset.augmentation.draw(0, 3, *replacement.shape)
    assert torch.equal(dataset[3][1], dataset.augmentation.apply(replacement, crop))
    assert not torch.equal(dataset[3][1], dataset[4][1])


def test_too_many_unreadable_images_end_the_run(tmp_path):
    make_images(tmp_path)
    for name in ("03.png", "04.png"):
        (tmp_path / name).write_text("broken")
    dataset = FolderImages([tmp_path], 32, 0, max_bad=0.1)
    for index in range(12):
        dataset[index]
    with pytest.raises(
        InputError, match=r"at least 2 of 12 images cannot be read, such as .*03.png: more than --max_bad 0.1"
    ):
        dataset.check_bad()


def test_a_cache_changes_nothing_but_the_speed(tmp_path, capfd):
    make_images(tmp_path / "images")
    (tmp_path / "images" / "03.png").write_text("broken")
    plain = FolderImages([tmp_path / "images"], 32, 0, 0.1)
    cached = FolderImages([tmp_path / "images"], 32, 0, 0.1, cache=tmp_path / "cache")
    assert cached.bad.nonzero().tolist() == [[3]]
    assert "03.png" in capfd.readouterr().out
    for index in range(12):
        assert torch.equal(plain[index][1], cached[index][1])
    assert all(np.array_equal(a, b) for a, b in zip(plain.examples(5), cached.examples(5), strict=True))
