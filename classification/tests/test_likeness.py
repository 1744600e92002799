"""Images that are alike: guarded against by their pixels, and near copies reported or kept on one side."""

import shutil

import golden
import numpy as np
import pytest
from PIL import Image
from small_sets import dataset, draw, vehicles, write

from dassl.data.datasets import Datum
from hivit_cls.datasets import likeness
from hivit_cls.datasets.published import AIRCRAFT
from saratrx.errors import InputError

MINE = ("DATASET.FOLDER", "mine", "DATASET.PARTS", "['train', 'test']")


def grains(*numbers, side=48):
    """A smooth image of its own."""
    coarse = np.random.default_rng(numbers).uniform(0, 255, (6, 6)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))


def brighter(image):
    """A near copy."""
    noise = np.random.default_rng(int(image.sum())).normal(0, 2, image.shape)
    return (0.8 * image.astype(float) + 20 + noise).clip(0, 255).astype(np.uint8)


@pytest.fixture
def mine(tmp_path):
    """Two classes, whose images are in training and in the test each of their own."""
    return write(tmp_path / "mine", {"train": {"a": 6, "b": 6}, "test": {"a": 4, "b": 4}})


def test_a_copy_in_another_format_is_one(tmp_path, mine):
    """Its bytes differ, its pixels do not."""
    Image.open(mine / "train/a/001.png").save(mine / "test/b/copy.bmp")
    Image.open(mine / "train/a/002.png").save(mine / "test/a/copy.tif", compression="tiff_lzw")
    with pytest.raises(InputError) as caught:
        dataset(tmp_path, *MINE, name="ImageFolders")
    said = str(caught.value)
    assert "data set ImageFolders: 2 training images are test images too: " in said
    assert f"{mine}/train/a/001.png equals {mine}/test/b/copy.bmp" in said
    assert f"{mine}/train/a/002.png equals {mine}/test/a/copy.tif" in said
    assert said.endswith("DATASET.DUPLICATES drop leaves them out of training, DATASET.DUPLICATES warn in it")


@pytest.mark.parametrize(("choice", "learnt"), [("drop", 0), ("warn", 12)])
def test_the_ways_on(tmp_path, mine, capsys, choice, learnt):
    for name in ("a", "b"):
        for path in sorted((mine / "train" / name).iterdir()):
            shutil.copy(path, mine / "test" / name / f"copy_{path.name}")
    with pytest.raises(InputError, match=r"12 training images are test images too: (.* equals .*; ){10}and 2 more; "):
        dataset(tmp_path, *MINE, name="ImageFolders")
    opts = (*MINE, "DATASET.DUPLICATES", choice)
    if choice == "drop":
        Image.fromarray(draw(0, 999)).save(mine / "train/a/other.png")
        learnt = 1
    found = dataset(tmp_path, *opts, name="ImageFolders")
    assert len(found.train_x) + len(found.val) == learnt
    assert len(found.test) == 20
    out = capsys.readouterr().out
    assert ("left out of training" if choice == "drop" else "left in it") in out


def test_near_copies_are_reported(tmp_path, mine, capsys):
    for number, (part, name) in enumerate([("train", "a"), ("train", "b"), ("test", "a"), ("test", "b")]):
        for path in sorted((mine / part / name).iterdir()):
            Image.fromarray(grains(number, int(path.stem))).save(path)
    dataset(tmp_path, *MINE, name="ImageFolders")
    assert "near copy" not in capsys.readouterr().out
    near = brighter(grains(0, 3))
    Image.fromarray(near).save(mine / "test/a/near.png")
    Image.fromarray(near[::-1]).save(mine / "test/a/other.png")
    dataset(tmp_path, *MINE, name="ImageFolders")
    out = capsys.readouterr().out
    assert (
        "data set ImageFolders: 1 of 10 test images (10.0%) have a near copy in training (correlation above 0.99" in out
    )
    assert f"{mine}/test/a/near.png and {mine}/train/a/003.png\n" in out


def test_correlations_are_numpys(tmp_path):
    images = [grains(k) for k in range(5)] + [np.full((48, 48), 7, np.uint8)]
    items = []
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        items.append(Datum(str(tmp_path / f"{number}.png")))
    rows = likeness.unit_rows(items)
    small = [image.reshape(24, 2, 24, 2).mean(axis=(1, 3)).ravel() for image in images[:5]]
    np.testing.assert_allclose((rows @ rows.T)[:5, :5], np.corrcoef(small), atol=5e-3)
    assert not rows[5].any()


def test_groups_stay_on_one_side(tmp_path, capsys):
    """Each image of the small SAR-ACD comes four times, as in the real one; one also in another class's folder."""
    folder = tmp_path / "SAR_ACD/images"
    for label, name in enumerate(AIRCRAFT):
        (folder / name).mkdir(parents=True)
        for number in range(80):
            image = grains(label, number // 4)
            image = (image * (0.7 + 0.1 * (number % 4))).astype(np.uint8)
            Image.fromarray(image).save(folder / name / f"{number:02d}.jpg", quality=95)
    Image.fromarray(brighter(grains(0, 3))).save(folder / "A330/near.jpg", quality=95)
    found = dataset(tmp_path, name="SAR_ACD")
    assert "SPLIT_BY groups keeps near copies on one side" in capsys.readouterr().out
    assert likeness.near_copies(found.test, found.train_x + found.val)
    for seed in range(3):
        found = dataset(tmp_path, "DATASET.SPLIT_BY", "groups", name="SAR_ACD", seed=seed)
        assert not likeness.near_copies(found.test, found.train_x + found.val)
        assert not likeness.near_copies(found.val, found.train_x)
        assert len(found.train_x) + len(found.val) + len(found.test) == 401
        assert 30 <= len(found.train_x) + len(found.val) <= 40
    assert "near copy" not in capsys.readouterr().out


def test_real_aircraft(capsys):
    root = golden.SHARED / "data"
    if not (root / "SAR_ACD").is_dir():
        pytest.skip(f"no real images in {root}: set SARATRX_SHARED to the folder that holds data/SAR_ACD")
    found = dataset(root, name="SAR_ACD")
    near = len(likeness.near_copies(found.test, found.train_x + found.val))
    assert 0.35 < near / len(found.test) < 0.45
    assert f"{near:,} of {len(found.test):,} test images" in capsys.readouterr().out
    found = dataset(root, "DATASET.SPLIT_BY", "groups", name="SAR_ACD")
    assert not likeness.near_copies(found.test, found.train_x + found.val)
    assert sum(map(len, (found.train_x, found.val, found.test))) == 2522


def test_a_changed_file_is_read_again(tmp_path):
    vehicles(tmp_path)
    path = tmp_path / "MSTAR_EOC1/TRAIN/T72/000.jpeg"
    first = likeness.likeness(str(path)).digest
    Image.fromarray(draw(3, 12345)).save(path)
    assert likeness.likeness(str(path)).digest != first
    with pytest.raises(InputError, match="none cannot be read: No such file"):
        likeness.likeness(str(tmp_path / "none"))
