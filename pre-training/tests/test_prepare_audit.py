"""An audit tells what is wrong with a set, by itself."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_prepare_likeness import compressed
from test_prepare_overlap import chip, clutter

from hivit_mae.prepare.audit import audit, guess_by_size, is_noise
from hivit_mae.prepare.options import AuditOptions
from saratrx.errors import InputError


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def report(folder, capsys):
    audit(AuditOptions(str(folder), workers=1))
    return capsys.readouterr().out


def row(text, start):
    """The figures of a table's row."""
    line = next(line for line in text.splitlines() if line.startswith(start + "  "))
    return line[len(start) :].split()


def test_copies_labels_and_parts(tmp_path, capsys):
    for number in range(8):
        save(tmp_path / "train" / "ab"[number % 2] / f"{number}.png", chip(number))
    save(tmp_path / "train" / "b" / "0 again.png", chip(0))  # in two classes
    save(tmp_path / "test" / "a" / "0 again.png", chip(0))  # in two parts
    save(tmp_path / "test" / "b" / "1 again.png", compressed(chip(1), 80))
    save(tmp_path / "test" / "b" / "9.png", chip(9))
    text = report(tmp_path, capsys)
    assert row(text, "exact")[:2] == ["2", "2"]
    assert row(text, "exact, in two classes")[0] == "1"
    assert row(text, "exact, in two parts")[0] == "2"
    assert row(text, "near")[:2] == ["1", "1"]
    assert row(text, "near, in two parts")[:2] == ["1", "1"]
    assert row(text, "near, in two classes")[0] == "0"
    assert row(text, "a") == ["1", "4"]
    assert row(text, "96 x 96") == ["12"]


def test_images_that_show_nothing(tmp_path, capsys):
    rng = np.random.default_rng(0)
    save(tmp_path / "flat.png", np.full((64, 64), 9, np.uint8))
    save(tmp_path / "noise.png", rng.gamma(1, 40, (64, 64)).clip(0, 255).astype(np.uint8))
    bright = chip(0)
    bright[:20, :20] = 255
    save(tmp_path / "bright.png", bright)
    (tmp_path / "torn.png").write_bytes(b"\x89PNG")
    save(tmp_path / "good.png", chip(1))
    text = report(tmp_path, capsys)
    assert row(text, "unreadable")[0] == "1"
    assert "torn.png cannot be read" in text
    assert row(text, "constant") == ["1", "flat.png"]
    assert row(text, "noise alone (correlation at 4 px below 0.05)") == ["1", "noise.png"]
    assert row(text, "saturated (more than 1% of pixels)") == ["1", "bright.png"]
    assert "there is only one class" in text


def test_speckle_is_noise_and_a_target_is_not():
    assert is_noise(clutter(0, 128, 128))
    assert not is_noise(chip(0))
    assert not is_noise(np.zeros((128, 128), np.uint8))
    assert not is_noise(clutter(0, 10, 10))  # too small to tell


@pytest.mark.parametrize("is_trap", [True, False])
def test_sizes_that_tell_the_class_are_a_trap(tmp_path, capsys, is_trap):
    for number in range(24):
        side = 96 if is_trap and number % 2 else 80 + 4 * (number // 8)
        save(tmp_path / "ab"[number % 2] / f"{number}.png", chip(number)[:side, :side])
    text = report(tmp_path, capsys)
    assert ("a trap, the size alone tells much of the class" in text) == is_trap
    assert "the largest class has 50.0%" in text


def test_copies_alone_make_no_trap(tmp_path, capsys):
    for number in range(12):
        image = chip(number)[: 70 + 2 * number]
        save(tmp_path / "ab"[number % 2] / f"{number}.png", image)
        save(tmp_path / "ab"[number % 2] / f"{number} again.png", compressed(image, 85))
    text = report(tmp_path, capsys)
    assert row(text, "near")[:2] == ["12", "12"]
    assert "the size tells little" in text


def test_guesses_are_those_of_a_plain_loop():
    rng = np.random.default_rng(0)
    sizes = [(int(side), int(side)) for side in rng.integers(0, 12, 200)]
    labels = ["abc"[(size[0] + extra) % 3] for size, extra in zip(sizes, rng.integers(0, 2, 200), strict=True)]
    right = 0
    for index, (size, label) in enumerate(zip(sizes, labels, strict=True)):
        others = [other for place, other in enumerate(labels) if place != index]
        alike = [other for place, other in enumerate(labels) if place != index and sizes[place] == size]
        counts = Counter(alike or others)
        right += min(counts, key=lambda name: (-counts[name], name)) == label
    guessed, chance = guess_by_size(sizes, labels)
    assert guessed == right / 200
    assert chance == max(Counter(labels).values()) / 200


def test_folders_without_images_are_refused(tmp_path):
    for folder, words in ((tmp_path / "none", "no such folder"), (tmp_path, "no image in it")):
        with pytest.raises(InputError, match=words):
            audit(AuditOptions(str(folder), workers=1))
    (tmp_path / "torn.png").write_bytes(b"\x89PNG")
    with pytest.raises(InputError, match="no image can be read"):
        audit(AuditOptions(str(tmp_path), workers=1))


def test_sizes_of_mstar_tell_its_classes():
    folder = Path(os.environ.get("SARATRX_SHARED", Path(__file__).parents[3] / "shared"), "data", "MSTAR_SOC")
    if not folder.is_dir():
        pytest.skip(f"no real images in {folder}: set SARATRX_SHARED to the folder that holds data/MSTAR_SOC")
    sizes, labels = [], []
    for path in sorted(folder.rglob("*.jpeg")):
        with Image.open(path) as image:
            sizes.append(image.size)
        labels.append(path.parent.name)
    guessed, chance = guess_by_size(sizes, labels)
    assert (round(guessed, 3), round(chance, 3)) == (0.530, 0.111)
