"""Finding, checking and splitting the images of a data set."""

import json
import random
import shutil
from collections import Counter

import golden
import pytest
from PIL import Image
from small_sets import CLASSES, dataset, draw, names, vehicles, write

from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from hivit_cls.datasets.published import AIRCRAFT, LAYOUTS, VEHICLES
from saratrx.errors import InputError
from saratrx.files import content_hash


def parts(found):
    return [names(part) for part in (found.train_x, found.val, found.test)]


def test_the_seven_sets_have_the_published_classes():
    soc = ["BMP2", "BTR70", "T72", "BTR60", "2S1", "BRDM2", "D7", "T62", "ZIL131", "ZSU234"]
    fusar = [
        "Bridges",
        "Cargo",
        "CoastalLands_island",
        "Fishing",
        "LandPatches",
        "OtherShip",
        "SeaClutterWaves",
        "SeaPatches",
        "StrongFalseAlarms",
        "Tanker",
    ]
    aircraft = ["A220", "A330", "ARJ21", "Boeing737", "Boeing787"]
    expected = {
        "MSTAR_SOC": soc,
        "MSTAR_EOC1": ["2S1", "BRDM2", "T72", "ZSU234"],
        "MSTAR_EOC2C": ["BMP2", "BRDM2", "BTR70", "T72"],
        "MSTAR_EOC2V": ["BMP2", "BRDM2", "BTR70", "T72"],
        "New_FUSAR": fusar,
        "SAR_ACD": aircraft,
        "MyDataset": soc + fusar + aircraft,
    }
    assert {name: list(layout.classes) for name, layout in LAYOUTS.items()} == expected
    for name, layout in LAYOUTS.items():
        assert DATASET_REGISTRY.get(name).layout is layout
        assert layout.centre_crop == (128 if name.startswith("MSTAR") else 0)
        assert set(layout.counts) <= set(layout.classes)
    totals = [sum(count[part] for count in LAYOUTS["MSTAR_SOC"].counts.values()) for part in (0, 1)]
    assert totals == [2747, 2425]
    aircraft_counts = LAYOUTS["MyDataset"].counts
    assert all(sum(aircraft_counts[name]) == LAYOUTS["SAR_ACD"].counts[name][0] for name in AIRCRAFT)


def test_labels_names_and_parts(tmp_path):
    found = dataset(vehicles(tmp_path, train=12, test=5))
    assert found.num_classes == 4
    assert found.lab2cname == {label: VEHICLES[name] for label, name in enumerate(CLASSES)}
    assert found.classnames == [VEHICLES[name] for name in CLASSES]
    for part, size in ((found.train_x, 10), (found.val, 2), (found.test, 5)):  # round(0.2 * 12) = 2
        assert Counter(item.label for item in part) == dict.fromkeys(range(4), size)
        assert all(item.impath.split("/")[-2] == CLASSES[item.label] for item in part)
    train, val, _ = parts(found)
    assert len({*train, *val}) == 48
    assert found.centre_crop == 128


def test_shots_and_validation_shots(tmp_path):
    root = vehicles(tmp_path, train=60)
    for shots, validation in ((1, 1), (3, 3), (11, 10), (100, 10)):
        found = dataset(root, "DATASET.NUM_SHOTS", shots)
        assert Counter(item.label for item in found.train_x) == dict.fromkeys(range(4), min(shots, 48))
        assert Counter(item.label for item in found.val) == dict.fromkeys(range(4), validation)


def test_more_shots_begin_with_fewer(tmp_path):
    root = vehicles(tmp_path, train=40)
    few, more = (set(names(dataset(root, "DATASET.NUM_SHOTS", shots).train_x)) for shots in (3, 7))
    assert few < more


def test_a_split_follows_from_the_seed_alone(tmp_path):
    """Neither from where the folder lies, nor from the order in which its files were written or are listed."""
    root = vehicles(tmp_path / "a", train=20)
    other = tmp_path / "b" / "MSTAR_EOC1"
    for path in sorted(root.rglob("*.jpeg"), reverse=True):
        copy = other / path.relative_to(root / "MSTAR_EOC1")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    shots = ("DATASET.NUM_SHOTS", 4)
    seeds = [parts(dataset(root, *shots, seed=seed)) for seed in range(4)]
    assert [parts(dataset(tmp_path / "b", *shots, seed=seed)) for seed in range(4)] == seeds
    assert len({str(found) for found in seeds}) == 4
    assert len({str(parts(dataset(root, *shots, seed=-1))) for _ in range(4)}) == 4


def test_a_draw_without_seed_follows_from_pythons_generator():
    items = [Datum(f"{number:02d}.png", number % 2, classname="x") for number in range(40)]
    base = DatasetBase(train_x=items)
    draws = []
    for order in (items, items[::-1]):
        random.seed(5)
        draws.append(sorted(item.impath for item in base.generate_fewshot_dataset(order, num_shots=3)))
    assert draws[0] == draws[1]
    assert len(draws[0]) == 6
    assert draws[0] != sorted(item.impath for item in base.generate_fewshot_dataset(items, num_shots=3))
    assert base.generate_fewshot_dataset(items) is items
    both = base.generate_fewshot_dataset(items, items[:4], num_shots=3, repeat=True)
    assert [len(part) for part in both] == [6, 6]
    assert [len(part) for part in base.generate_fewshot_dataset(items, items[:4], num_shots=3)] == [6, 4]


def test_extended_operating_conditions(tmp_path, capsys):
    """A test part of one class, an empty folder, and class sets that differ."""
    write(
        tmp_path / "MSTAR_EOC2C",
        {"TRAIN": dict.fromkeys(("BMP2", "BRDM2", "BTR70", "T72"), 5), "TEST": {"T72": 7}},
        ".jpeg",
    )
    (tmp_path / "MSTAR_EOC2C/TEST/BMP2").mkdir()
    found = dataset(tmp_path, name="MSTAR_EOC2C")
    assert found.num_classes == 4
    assert {item.label for item in found.test} == {3}
    write(tmp_path / "MSTAR_EOC2V", {"TRAIN": {"BMP2": 5, "BRDM2": 5}, "TEST": {"BTR70": 3, "T72": 3}}, ".jpeg")
    found = dataset(tmp_path, name="MSTAR_EOC2V")
    assert found.num_classes == 2
    assert {item.label for item in found.test} == {2, 3}
    assert set(found.lab2cname) == {0, 1, 2, 3}
    assert len(found.classnames) == 2
    out = capsys.readouterr().out
    assert "TRAIN/T72 5 (232), TEST/T72 7 (2710)\n" in out
    assert "TEST/BMP2 0 (857), TEST/BTR70 3 (0), TEST/T72 3 (2712)\n" in out


def test_a_set_without_fixed_split(tmp_path, capsys):
    """SAR-ACD: a tenth is for training; no image is in two parts, and copies of an image stay on one side."""
    folder = tmp_path / "SAR_ACD/images"
    for label, name in enumerate(AIRCRAFT):
        (folder / name).mkdir(parents=True)
        for number in range(40):
            original = draw(label, 100 * label + number // (2 if number < 30 else 1))  # fifteen come twice
            Image.fromarray(original).save(folder / name / f"{number:02d}.jpg")
    for number in range(35, 40):  # five lie in two folders, as two do in the real set
        shutil.copy(folder / "A220" / f"{number}.jpg", folder / "A330" / f"{number}.jpg")
    for seed in range(5):
        found = dataset(tmp_path, name="SAR_ACD", seed=seed)
        sides = [
            set(map(content_hash, (item.impath for item in part))) for part in (found.train_x, found.val, found.test)
        ]
        assert not sides[0] & sides[1]
        assert not (sides[0] | sides[1]) & sides[2]
        assert len({*names(found.train_x), *names(found.val), *names(found.test)}) == 200
        learnt = Counter(item.label for item in found.train_x + found.val)
        assert all(3 <= count <= 4 for count in learnt.values())
        assert len(learnt) == 5
    assert "warning: 5 images lie in several classes' folders, such as " in capsys.readouterr().out


def test_real_aircraft(tmp_path):
    root = golden.SHARED / "data"
    if not (root / "SAR_ACD").is_dir():
        pytest.skip(f"no real images in {root}: set SARATRX_SHARED to the folder that holds data/SAR_ACD")
    for seed in range(3):
        found = dataset(root, name="SAR_ACD", seed=seed)
        sides = [{content_hash(item.impath) for item in part} for part in (found.train_x, found.val, found.test)]
        assert not sides[0] & sides[1]
        assert not (sides[0] | sides[1]) & sides[2]
        assert sum(map(len, (found.train_x, found.val, found.test))) == 2522
        assert 245 <= len(found.train_x) + len(found.val) <= 252


def test_a_split_file_replaces_the_split(tmp_path):
    root = vehicles(tmp_path)
    content = {
        "train": [["TRAIN/T72/000.jpeg", 0, "tank"], ["TRAIN/2S1/001.jpeg", 1, "howitzer"]],
        "val": [["TRAIN/T72/002.jpeg", 0, "tank"]],
        "test": [["TEST/2S1/000.jpeg", 1, "howitzer"]],
    }
    path = root / "MSTAR_EOC1/split_of_mine.json"
    path.write_text(json.dumps(content))
    found = dataset(root)
    assert [[item.label for item in part] for part in (found.train_x, found.val, found.test)] == [[0, 1], [0], [1]]
    assert found.lab2cname == {0: "tank", 1: "howitzer"}

    def refused(changes, match):
        path.write_text(json.dumps(content | changes) if isinstance(changes, dict) else changes)
        with pytest.raises(InputError, match=match):
            dataset(root)

    refused({"test": [["TEST/2S1/999.jpeg", 1, "x"]]}, r"2S1/999.jpeg, which split_of_mine.json lists: no such file")
    refused({"test": [["TEST/2S1/000.jpeg", -1, "x"]]}, "label -1 is negative")
    refused({"test": [["TEST/2S1/000.jpeg"]]}, "split_of_mine.json must be")
    refused("[1, 2]", "split_of_mine.json must be")
    refused("{", "cannot be read as JSON")
    refused({"test": content["val"]}, "1 training images are test images too")
    path.with_name("split_b.json").write_text("{}")
    refused({}, "holds split_b.json and split_of_mine.json: keep one")


def test_half_of_the_classes(tmp_path):
    root = vehicles(tmp_path)
    for which, kept in (("base", CLASSES[:2]), ("new", CLASSES[2:])):
        found = dataset(root, "DATASET.SUBSAMPLE_CLASSES", which)
        assert found.num_classes == 2
        assert found.classnames == [VEHICLES[name] for name in kept]
        assert {item.impath.split("/")[-2] for item in found.test} == set(kept)
        assert {item.label for item in found.test} == {0, 1}
    with pytest.raises(InputError, match="SUBSAMPLE_CLASSES old: unknown"):
        dataset(root, "DATASET.SUBSAMPLE_CLASSES", "old")


def test_folders_by_config_alone(tmp_path):
    write(tmp_path / "mine", {"fit": {"b": 10, "a": 5}, "check": {"a": 2, "c": 3}}, ".tif")
    keys = ("DATASET.FOLDER", "mine", "DATASET.PARTS", "['fit', 'check']", "DATASET.CENTRE_CROP", 32)
    found = dataset(tmp_path, *keys, name="ImageFolders")
    assert found.lab2cname == {0: "a", 1: "b", 2: "c"}
    assert found.centre_crop == 32
    assert Counter(item.label for item in found.train_x) == {0: 4, 1: 8}
    assert Counter(item.label for item in found.test) == {0: 2, 2: 3}
    found = dataset(tmp_path, *keys, "DATASET.CLASSES", "['b', 'a', 'c']", name="ImageFolders")
    assert found.lab2cname == {0: "b", 1: "a", 2: "c"}
    one = ("DATASET.FOLDER", "mine", "DATASET.PARTS", "['fit']", "DATASET.TRAIN_SHARE", 0.6)
    found = dataset(tmp_path, *one, name="ImageFolders")
    assert [len(part) for part in (found.train_x, found.val, found.test)] == [7, 2, 6]
    with pytest.raises(InputError, match="no image of d in fit or check"):
        dataset(tmp_path, *keys, "DATASET.CLASSES", "['a', 'd']", name="ImageFolders")
    with pytest.raises(InputError, match=r"DATASET.PARTS \[\]"):
        dataset(tmp_path, "DATASET.FOLDER", "mine", "DATASET.PARTS", "[]", name="ImageFolders")
    with pytest.raises(InputError, match="elsewhere: no such folder"):
        dataset(tmp_path, "DATASET.FOLDER", "elsewhere", name="ImageFolders")


def complete(root):
    """A small MSTAR_SOC, which must have every class in both parts."""
    return write(root / "MSTAR_SOC", {"TRAIN": dict.fromkeys(VEHICLES, 3), "TEST": dict.fromkeys(VEHICLES, 2)}, ".jpeg")


def test_what_is_missing_is_an_error(tmp_path):
    folder = complete(tmp_path)
    dataset(tmp_path, name="MSTAR_SOC")
    for path in (folder / "TEST/D7").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"TEST/D7: holds no image; MSTAR_SOC needs .jpeg files there"):
        dataset(tmp_path, name="MSTAR_SOC")
    (folder / "TEST/D7").rmdir()
    with pytest.raises(InputError, match="TEST/D7: no such folder"):
        dataset(tmp_path, name="MSTAR_SOC")
    shutil.rmtree(folder / "TEST")
    with pytest.raises(InputError, match="MSTAR_SOC/TEST: no such folder; MSTAR_SOC needs TRAIN and TEST"):
        dataset(tmp_path, name="MSTAR_SOC")
    with pytest.raises(InputError, match=r"MyDataset: no such folder; DATASET.ROOT must be the folder that holds"):
        dataset(tmp_path, name="MyDataset")
    vehicles(tmp_path)
    for part in ("TRAIN", "TEST"):
        shutil.rmtree(tmp_path / "MSTAR_EOC1" / part / "T72")
    with pytest.raises(InputError, match="MSTAR_EOC1: no image of T72 in TRAIN or TEST"):
        dataset(tmp_path)


def test_what_is_strange_is_a_warning(tmp_path, capsys):
    folder = complete(tmp_path)
    for name in ("T55", "zebra"):
        (folder / "TRAIN" / name).mkdir()
    dataset(tmp_path, name="MSTAR_SOC")
    out = capsys.readouterr().out
    assert f"warning: {folder / 'TRAIN'} has folders of no class of this set, which are left out: T55, zebra\n" in out
    assert "warning: MSTAR_SOC has other numbers of images than published (in brackets): TRAIN/BMP2 3 (233), " in out


def test_the_same_image_on_both_sides_is_an_error(tmp_path):
    root = vehicles(tmp_path)
    shutil.copy(root / "MSTAR_EOC1/TRAIN/T72/004.jpeg", root / "MSTAR_EOC1/TEST/2S1/copy.jpeg")
    with pytest.raises(
        InputError, match=r"1 training images are test images too: .*T72/004.jpeg equals .*2S1/copy.jpeg; DATASET.DUP"
    ):
        dataset(root)


def test_a_changed_file_has_another_hash(tmp_path):
    path = tmp_path / "a"
    path.write_text("one")
    first = content_hash(path)
    assert first == "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    path.write_text("other")
    assert content_hash(path) != first
    with pytest.raises(InputError, match="b cannot be read: No such file"):
        content_hash(tmp_path / "b")


def test_images_in_folders_of_serial_numbers_are_their_classes(tmp_path, capsys):
    """As MSTAR is delivered; at whatever depth, and told."""
    root = vehicles(tmp_path, train=5, test=3)
    folder = root / "MSTAR_EOC1/TEST/T72"
    for number, below in enumerate(["A64", "SN_812", "SN_812/deep"]):
        (folder / below).mkdir(parents=True)
        (folder / f"00{number}.jpeg").rename(folder / below / f"00{number}.jpeg")
    Image.fromarray(draw(2, 900)).save(folder / "900.jpeg")
    found = dataset(root)
    assert Counter(item.label for item in found.test) == {0: 3, 1: 3, 2: 4, 3: 3}
    out = capsys.readouterr().out
    assert (
        f"warning: {folder}: 3 of its 4 images lie in folders below it and are taken for the same class: A64, SN_812\n"
        in out
    )
    for seed in range(2):  # the draw follows from the paths, whichever folder they are in
        assert parts(dataset(root, seed=seed)) == parts(dataset(root, seed=seed))


def test_images_that_are_left_out_are_told(tmp_path, capsys):
    """Beside the classes' folders, in folders of no class, and of other kinds than the set has."""
    root = vehicles(tmp_path, train=5, test=3)
    part = root / "MSTAR_EOC1/TEST"
    for place in ("loose.jpeg", "17_DEG/x.jpeg", "T72/x.png"):
        (part / place).parent.mkdir(exist_ok=True)
        Image.fromarray(draw(0, 901)).save(part / place)
    assert len(dataset(root).test) == 12
    out = capsys.readouterr().out
    assert f"warning: {part}: 1 images lie in no class's folder and are left out, such as loose.jpeg\n" in out
    assert f"warning: {part} has folders of no class of this set, which are left out: 17_DEG\n" in out
    assert f"warning: {part}/T72: 1 images of other kinds than .jpeg are left out, such as x.png\n" in out


def test_a_class_that_a_part_lacks_is_told(tmp_path, capsys):
    write(tmp_path / "mine", {"train": {"a": 5, "b": 5}, "test": {"a": 3}})
    dataset(tmp_path, "DATASET.FOLDER", "mine", "DATASET.PARTS", "[train, test]", name="ImageFolders")
    assert "warning: mine has no image in test/b\n" in capsys.readouterr().out


def test_the_extended_sets_have_the_published_numbers():
    totals = {
        name: [sum(count[part] for count in LAYOUTS[name].counts.values()) for part in (0, 1)]
        for name in ("MSTAR_EOC1", "MSTAR_EOC2C", "MSTAR_EOC2V")
    }
    assert totals == {"MSTAR_EOC1": [1128, 1151], "MSTAR_EOC2C": [996, 2710], "MSTAR_EOC2V": [996, 857 + 2712]}
    assert LAYOUTS["MSTAR_EOC1"].counts == {
        "2S1": (299, 288),
        "BRDM2": (298, 287),
        "T72": (232, 288),
        "ZSU234": (299, 288),
    }
    assert LAYOUTS["MSTAR_EOC2V"].counts["BMP2"] == (233, 857)
    assert LAYOUTS["MSTAR_EOC2C"].counts["BMP2"] == (233, 0)


def test_split_files_of_other_systems(tmp_path):
    """A byte order mark, and paths with backslashes."""
    root = vehicles(tmp_path)
    rows = [["TRAIN\\T72\\000.jpeg", 0, "tank"], ["TRAIN/2S1/001.jpeg", 1, "howitzer"]]
    content = {"train": rows, "test": [["TEST\\2S1\\000.jpeg", 1, "howitzer"]]}
    (root / "MSTAR_EOC1/split.json").write_text(json.dumps(content), encoding="utf-8-sig")
    found = dataset(root)
    assert names(found.train_x) == ["T72/000.jpeg", "2S1/001.jpeg"]
    assert names(found.test) == ["2S1/000.jpeg"]
