"""Labelled folders for the evaluation: which layouts are taken, how they are split, what is refused."""

import os
import re

import numpy as np
import pytest
import torch
from PIL import Image

from hivit_mae.data.labelled import find_labelled
from saratrx.errors import InputError


def fill(folder, count, size=(20, 20)):
    folder.mkdir(parents=True)
    for number in range(count):
        rng = np.random.default_rng(number)
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(folder / f"{number:02d}.png")


def test_one_level_is_split_into_halves_that_are_always_the_same(tmp_path, monkeypatch):
    fill(tmp_path / "tank", 11)
    fill(tmp_path / "a truck" / "deeper", 8)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "readme.txt").write_text("no image")
    train, test = find_labelled(tmp_path, 4)
    assert train.labels.tolist() == [0] * 4 + [1] * 5
    assert test.labels.tolist() == [0] * 4 + [1] * 6
    assert len({*train.paths, *test.paths}) == 19
    assert all(("a truck" in path) == (label == 0) for path, label in zip(train.paths, train.labels, strict=True))
    listdir, walk = os.listdir, os.walk
    monkeypatch.setattr(os, "listdir", lambda path: sorted(listdir(path), reverse=True))
    monkeypatch.setattr(os, "walk", lambda *a, **k: ((f, d[::-1], n[::-1]) for f, d, n in walk(*a, **k)))
    again = find_labelled(tmp_path, 4)
    assert [part.paths for part in again] == [train.paths, test.paths]


def test_train_and_test_in_any_case_share_their_labels(tmp_path):
    for name, counts in (("TRAIN", {"a": 5, "b": 6, "c": 5}), ("Test", {"c": 2, "b": 1})):
        for letter, count in counts.items():
            fill(tmp_path / name / letter, count)
    train, test = find_labelled(tmp_path, 5)
    assert train.labels.tolist() == [0] * 5 + [1] * 6 + [2] * 5
    assert test.labels.tolist() == [1, 2, 2]
    assert all("/TRAIN/" in path for path in train.paths)


def test_images_are_read_whole_and_the_middle_where_that_is_asked_for(tmp_path):
    fill(tmp_path / "train" / "a", 3, (100, 90))
    fill(tmp_path / "train" / "b", 3, (64, 80))
    fill(tmp_path / "test" / "a", 1)
    fill(tmp_path / "test" / "b", 1)
    train, _ = find_labelled(tmp_path, 1)
    cut = train.read(64, 64)
    assert (cut.shape, cut.dtype) == ((6, 1, 64, 64), torch.uint8)
    for image, path in zip(cut, train.paths, strict=True):
        whole = np.array(Image.open(path))
        top, left = (whole.shape[0] - 64) // 2, (whole.shape[1] - 64) // 2
        assert np.array_equal(image[0], whole[top : top + 64, left : left + 64])
    assert not torch.equal(train.read(64, 0), cut)
    bordered = train.read(128, 128)[0, 0]  # of 100 x 90 px: black where there is no image
    assert not bordered[:14].any()
    assert np.array_equal(bordered[14:114, 19:109], np.array(Image.open(train.paths[0])))


def wrong_folders(tmp_path):
    """Each kind of wrong folder, and what the sentence must say."""
    folders = {
        name: tmp_path / name for name in ("bare", "one", "few", "few train", "half", "new", "empty", "twice", "ran")
    }
    folders["bare"].mkdir()
    Image.new("L", (20, 20)).save(folders["bare"] / "0.png")
    fill(folders["one"] / "a", 20)
    for name, counts in (("few", (20, 9)), ("empty", (20, 0)), ("ran", (20, 20))):
        for letter, count in zip("ab", counts, strict=True):
            fill(folders[name] / letter, count)
    (folders["ran"] / "a" / "checkpoint-1.pth").touch()
    for part, counts in (("train", (5, 4)), ("test", (3, 3))):
        for letter, count in zip("ab", counts, strict=True):
            fill(folders["few train"] / part / letter, count)
    fill(folders["half"] / "train" / "a", 5)
    for part in ("train", "TRAIN", "test"):
        (folders["twice"] / part).mkdir(parents=True)
    for part, letters in (("train", "ab"), ("test", "ac")):
        for letter in letters:
            fill(folders["new"] / part / letter, 5)
    return {
        "bare": "bare: no class folder in it; it needs a folder of images for each class",
        "one": "one: only one class folder, a; two are needed to tell apart",
        "few": r"few: b has 4 images in the half that is for training \(fewer than --eval_shots 5\)",
        "few train": r"few train: b has 4 images for training \(fewer than --eval_shots 5\)",
        "half": "half: has train; it needs one folder train and one test",
        "twice": "twice: has TRAIN and test and train; it needs one folder train and one test",
        "new": "new: c has images for testing and none for training",
        "empty": "empty/b: no image in it",
        "ran": "ran/a: is the output folder of a run",
    }


def test_a_wrong_folder_gets_a_sentence(tmp_path):
    for name, sentence in wrong_folders(tmp_path).items():
        with pytest.raises(InputError, match=sentence) as raised:
            find_labelled(tmp_path / name, 5)
        assert re.match("--eval_data /", str(raised.value)), name


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    for letter in "ab":
        fill(tmp_path / letter, 4)
    (tmp_path / "b" / "03.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"--eval_data: .*b/03.png cannot be read as an image.*; fix or remove it"):
        for part in find_labelled(tmp_path, 1):
            part.read(32, 0)


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    def closed(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", closed)
    with pytest.raises(InputError, match=f"--eval_data {tmp_path}: cannot be listed: Permission denied"):
        find_labelled(tmp_path, 1)
