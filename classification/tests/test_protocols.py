"""The settings of ATRNet-STAR and SAMPLE: which image is in which part."""

import itertools
import json
import os
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_sets import STAGE, dataset, options

import train
from dassl.data.datasets import Datum
from hivit_cls.configuration import setup_cfg
from hivit_cls.datasets.atrnet_star import SETTINGS
from hivit_cls.options import parse_options
from saratrx.errors import InputError

ALL = "ATRNet-STAR/SOC_40classes"
NUMBER = itertools.count()
CARS = {  # of each class the same, number apart: scene by name
    "X_HH_15_0_1": "city",
    "X_VV_30_59_2": "sandstone",
    "X_HV_45_60_3": "Bare soil",
    "X_VH_60_119_4": "factory",
    "KU_HH_15_120_5": "woodland",
    "KU_VV_30_359_6": "sandstone",
    "ku_hv_60_360_7": "bare_soil",
    "KU_VH_45_299_8": "factory",
}
TRAIN, TEST = "1234567", "8"
EXPECTED = {  # numbers at the ends of the names: of training, and of testing by sub-test
    "ATRNet_EOC_Scene": ("2367", {"urban": "1", "factory": "48", "woodland": "5"}),
    "ATRNet_EOC_Depression": ("15", {"30": "26", "45": "38", "60": "47"}),
    "ATRNet_EOC_Azimuth": ("127", {"60": "34", "120": "5", "240": "8", "300": "6"}),
    "ATRNet_EOC_Band": ("234", {"": "5678"}),
    "ATRNet_EOC_Band_inverse": ("5678", {"": "234"}),
    "ATRNet_EOC_Polarization": ("15", {"VV": "26", "HV": "37", "VH": "48"}),
}


def chip(path, side=8):
    """An image that equals no other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(next(NUMBER)).integers(0, 256, (side, side), np.uint8)).save(path)


def car(root, folder, name, scene="city"):
    chip(root / folder / f"{name}.tif")
    xml = f"<annotation><source/><scene><scene_name>{scene}</scene_name></scene></annotation>"
    (root / folder / f"{name}.xml").write_text(xml)


@pytest.fixture(scope="module")
def cars(tmp_path_factory):
    """All images as SOC-40 is published: eight of each of two classes."""
    root = tmp_path_factory.mktemp("cars")
    for brand in ("Buick_GL8", "Audi_A6"):
        for name, scene in CARS.items():
            car(root, f"{ALL}/{'test' if name[-1] in TEST else 'train'}/{brand}", name, scene)
    return root


def numbers(part, label=None):
    """The numbers at the ends of the names, of one class or of all, each once."""
    return "".join(sorted(Path(item.impath).stem[-1] for item in part if label in (None, item.label)))


@pytest.mark.parametrize("name", EXPECTED)
def test_settings_follow_from_the_names(cars, name):
    found, (learnt, tests) = dataset(cars, name=name), EXPECTED[name]
    assert found.lab2cname == {0: "Audi_A6", 1: "Buick_GL8"}
    assert not found.val
    for label in (0, 1):
        assert numbers(found.train_x, label) == learnt
        own = [item for item in found.test if item.label == label]
        conditions = {item.condition for item in own}
        assert {test: numbers(i for i in own if i.condition == test) for test in conditions} == tests
    assert all(f"/{'Audi_A6' if item.label == 0 else 'Buick_GL8'}/" in item.impath for item in found.test)


def test_angles_are_those_of_the_names(cars):
    found = dataset(cars, name="ATRNet_EOC_Band_inverse")
    angles = {numbers([item]): (item.azimuth, item.depression) for item in found.test}
    assert angles == {"2": (59, 30), "3": (60, 45), "4": (119, 60)}
    found = dataset(cars, name="ATRNet_EOC_Scene")
    assert {item.azimuth for item in found.test} == {0, 119, 120, 299}


def test_soc40_is_as_published_where_its_folders_are_there(cars):
    found = dataset(cars, name="ATRNet_SOC40")
    assert [numbers(part, 0) for part in (found.train_x, found.test)] == [TRAIN, TEST]


def test_soc40_is_drawn_else_and_for_all_seeds_alike(tmp_path):
    for brand, number in itertools.product(("a", "b"), range(20)):
        car(tmp_path, f"ATRNet-STAR/{brand}", f"X_HH_15_{number}_{number}")
    found = [dataset(tmp_path, name="ATRNet_SOC40", seed=seed) for seed in (0, 1)]
    assert [item.impath for item in found[0].test] == [item.impath for item in found[1].test]
    assert Counter(item.label for item in found[0].train_x) == {0: 14, 1: 14}
    assert Counter(item.label for item in found[0].test) == {0: 6, 1: 6}
    assert not {item.impath for item in found[0].train_x} & {item.impath for item in found[0].test}
    drawn = [{Path(item.impath).name for item in found[0].test if item.label == label} for label in (0, 1)]
    assert drawn[0] != drawn[1]


def test_published_folders_come_first(tmp_path, capsys):
    folder = "ATRNet-STAR/EOC_depression"
    car(tmp_path, f"{ALL}/train/Audi_A6", "X_HH_15_0_1")
    for number, part in enumerate(("train", "test_30", "test_45", "test_60")):
        depression = part[-2:] if number else "15"
        car(tmp_path, f"{folder}/{part}/Audi_A6", f"X_HH_{depression}_0_{number}")
    found = dataset(tmp_path, name="ATRNet_EOC_Depression")
    assert numbers(found.train_x) == "0"
    assert {item.condition: numbers([item]) for item in found.test} == {"30": "1", "45": "2", "60": "3"}
    assert "belong to its other part" not in capsys.readouterr().out
    car(tmp_path, f"{folder}/test/Audi_A6", "X_HH_60_0_4")  # which holds all sub-tests' images, where it is there
    car(tmp_path, f"{folder}/test/Audi_A6", "X_HH_15_0_5")
    found = dataset(tmp_path, name="ATRNet_EOC_Depression")
    assert {item.condition: numbers([item]) for item in found.test} == {"15": "5", "60": "4"}
    out = capsys.readouterr().out
    assert "by name, 1 images belong to its other part, such as " in out
    assert "X_HH_15_0_5.tif\n" in out
    assert "EOC_depression has 1 training and 2 test images of 1 classes; published are 24,361 training and" in out


def test_the_inverse_of_a_published_band(tmp_path):
    car(tmp_path, "ATRNet-STAR/EOC_band/train/Audi_A6", "X_HH_15_0_1")
    car(tmp_path, "ATRNet-STAR/EOC_band/test/Audi_A6", "KU_HH_15_0_2")
    found = [dataset(tmp_path, name=f"ATRNet_EOC_Band{which}") for which in ("", "_inverse")]
    assert [[numbers(part) for part in (each.train_x, each.test)] for each in found] == [["1", "2"], ["2", "1"]]


def test_soc50_is_read_from_its_folders(tmp_path):
    (tmp_path / "ATRNet-STAR").mkdir()
    with pytest.raises(InputError, match="SOC_50classes/train: no such folder; SOC-50 needs its published folders"):
        dataset(tmp_path, name="ATRNet_SOC50")
    for part in ("train", "test"):
        car(tmp_path, f"ATRNet-STAR/SOC_50classes/{part}/Audi_A6", "X_HH_30_40_1")
        chip(tmp_path / f"ATRNet-STAR/SOC_50classes/{part}/T72/HB03333.tif")  # of MSTAR
    found = dataset(tmp_path, name="ATRNet_SOC50")
    assert [(item.classname, item.azimuth) for item in found.test] == [("Audi_A6", 40), ("T72", None)]
    assert found.centre_crop == 128


@pytest.mark.parametrize(
    "name", ["X_HH_15_0", "X_RH_15_0_1", "L_HH_15_0_1", "X_HH_20_0_1", "X_HH_15_361_1", "HB03333", "X_HH_15_-1_1"]
)
def test_a_name_that_does_not_follow_the_scheme_is_named(tmp_path, name):
    car(tmp_path, "ATRNet-STAR/Audi_A6", "X_HH_15_0_1")
    car(tmp_path, "ATRNet-STAR/Audi_A6", name)
    with pytest.raises(InputError, match=f"/{name}.tif: its name must be of the form KU_HH_15_0_253993.tif"):
        dataset(tmp_path, name="ATRNet_EOC_Azimuth")


def test_what_is_wrong_with_a_folder_gets_a_sentence(tmp_path):
    def refused(match, name="ATRNet_EOC_Scene"):
        with pytest.raises(InputError, match=match):
            dataset(tmp_path, name=name)

    refused("ATRNet-STAR: no such folder")
    folder = tmp_path / "ATRNet-STAR/Audi_A6"
    folder.mkdir(parents=True)
    refused("ATRNet-STAR: no .tif image there or below")
    car(tmp_path, "ATRNet-STAR/Audi_A6", "X_HH_15_0_1", "moon")
    refused("X_HH_15_0_1.xml: scene_name 'moon' is none of bare soil, factory, sandstone, urban, woodland")
    (folder / "X_HH_15_0_1.xml").write_text("<annotation/>")
    refused("X_HH_15_0_1.xml: no scene_name; it must be one of bare soil")
    (folder / "X_HH_15_0_1.xml").unlink()
    refused("X_HH_15_0_1.xml: no such file; the scene of the image stands there")
    os.mkfifo(folder / "X_HH_15_0_1.xml")  # which nobody writes to
    refused("X_HH_15_0_1.xml: no such file; the scene of the image stands there")
    car(tmp_path, "ATRNet-STAR/copy/Audi_A6", "X_HH_15_0_1")
    refused("X_HH_15_0_1.tif are one image: keep one of their folders")
    car(tmp_path, "ATRNet-STAR/EOC_pol/train", "X_HH_15_0_9")
    refused("EOC_pol/test: no .tif image there or below", "ATRNet_EOC_Polarization")
    car(tmp_path, "ATRNet-STAR/EOC_pol/test/Audi_A6", "X_VV_15_0_9")
    refused("train/X_HH_15_0_9.tif: lies in no class's folder", "ATRNet_EOC_Polarization")


def test_the_numbers_of_the_settings_are_those_of_all_images():
    """SOC-40's; EOC-Band, without the city, has fewer, and SOC-50 is drawn."""
    totals = {name: sum(setting.counts) for name, setting in SETTINGS.items()}
    whole = [name for name in SETTINGS if "Band" not in name and "50" not in name]
    assert {totals[name] for name in whole} == {97_375}
    assert len(whole) == 5
    assert totals["ATRNet_EOC_Band"] == totals["ATRNet_EOC_Band_inverse"] == 55_474


POSES = [(14, 10), (15, 11), (16, 80), (14, 12), (17, 20), (17, 79)]  # elevation, azimuth


@pytest.fixture
def pairs(tmp_path):
    """Six poses of two vehicles, simulated and measured."""
    for vehicle, kind, (elevation, azimuth) in itertools.product(("t72", "2s1"), ("real", "synth"), POSES):
        series = {"real": "A07", "synth": "A00"}[kind]
        name = f"{vehicle}_{kind}_{series}_elevDeg_{elevation:03d}_azCenter_{azimuth:03d}_22_serial_b01.png"
        chip(tmp_path / "SAMPLE/png_images/qpm" / kind / vehicle / name)
    return tmp_path


def poses(part, kind):
    """Vehicles and azimuths of the images of one kind."""
    found = [Path(item.impath).name.split("_") for item in part if f"_{kind}_" in item.impath]
    return sorted((words[0], int(words[6])) for words in found)


def test_simulated_training_measured_test(pairs):
    found = dataset(pairs, name="SAMPLE")
    learnt = [(vehicle, azimuth) for vehicle in ("2s1", "t72") for azimuth in (10, 11, 12, 80)]
    assert poses(found.train_x, "synth") == learnt
    assert poses(found.train_x, "real") == []
    assert poses(found.test, "real") == [("2s1", 20), ("2s1", 79), ("t72", 20), ("t72", 79)]
    assert poses(found.test, "synth") == []
    assert {(item.label, item.classname) for item in found.test} == {
        (0, "2S1, self-propelled howitzer"),
        (8, "T72, main battle tank"),
    }
    assert [(item.azimuth, item.depression, item.condition) for item in found.test[:2]] == [(20, 17, ""), (79, 17, "")]
    assert not found.val


def test_a_share_of_the_pairs_is_measured(pairs):
    shares = {k: dataset(pairs, "DATASET.MEASURED_SHARE", k, name="SAMPLE").train_x for k in (0.25, 0.5, 1.0)}
    for k, part in shares.items():
        measured, simulated = poses(part, "real"), poses(part, "synth")
        assert Counter(vehicle for vehicle, _ in measured) == {"2s1": 4 * k, "t72": 4 * k}
        assert sorted(measured + simulated) == [(v, a) for v in ("2s1", "t72") for a in (10, 11, 12, 80)]
    assert set(poses(shares[0.25], "real")) < set(poses(shares[0.5], "real"))
    seeds = {str(poses(dataset(pairs, "DATASET.MEASURED_SHARE", 0.5, name="SAMPLE", seed=s).train_x, "real"))
             for s in range(6)}  # fmt: skip
    assert len(seeds) > 1


def test_a_wrong_tree_of_pairs_gets_a_sentence(pairs):
    folder = pairs / "SAMPLE/png_images/qpm"

    def refused(match, *opts):
        with pytest.raises(InputError, match=match):
            dataset(pairs, *opts, name="SAMPLE")

    refused(r"MEASURED_SHARE 1.5: must be from 0 to 1", "DATASET.MEASURED_SHARE", 1.5)
    real, synth = (
        folder / kind / "t72/t72_K_A0N_elevDeg_016_azCenter_080_22_serial_b01.png" for kind in ("real", "synth")
    )
    real, synth = (path.with_name(path.name.replace("K", kind).replace("N", number))
                   for path, kind, number in ((real, "real", "7"), (synth, "synth", "0")))  # fmt: skip
    for name in ("t80_real_A07_elevDeg_016_azCenter_080_22_b01.png", real.name.replace("016", "018")):
        chip(real.with_name(name))
        refused(f"/{name}: its name must be of the form 2s1_real_A07_elevDeg_015_azCenter_010_22_serial_b01.png")
        real.with_name(name).unlink()
    synth.rename(synth.with_name("kept"))
    refused(f"{real}: its synth partner, which training needs, is not there")
    dataset(pairs, "DATASET.MEASURED_SHARE", 1.0, name="SAMPLE")
    synth.with_name("kept").rename(synth)
    chip(folder / "decibel" / real.name)
    refused(f"{real.name} are one image: keep one of their folders")


def test_pickled_images_keep_what_they_are():
    item = Datum("a.tif", 1, classname="a", condition="30", azimuth=5, depression=30.0)
    for protocol in range(5):
        assert pickle.loads(pickle.dumps(item, protocol)) == item  # made here: loader workers pickle it


def test_results_tell_sub_tests_and_curves(cars, tmp_path, checkpoint, capsys):
    argv = options(cars, tmp_path, "MODEL.INIT_WEIGHTS", checkpoint, dataset="ATRNet_EOC_Depression", trainer="kNN")
    train.main([*argv, "DATALOADER.TEST.BATCH_SIZE", "5"])
    found = json.loads((tmp_path / "results.json").read_text())
    tests = found["sub_tests"]
    assert {name: test["images"] for name, test in tests.items()} == {"30": 4, "45": 4, "60": 4}
    assert sum(test["correct"] for test in tests.values()) == np.trace(found["confusion"])
    assert [found["results"][f"accuracy_{name}"] for name in tests] == [t["accuracy"] for t in tests.values()]
    assert found["protocol"]["sub-tests"] == {"30": 4, "45": 4, "60": 4}
    assert "DATASET.MEASURED_SHARE" not in found["protocol"]
    assert [point["degrees"] for point in found["by_angle"]["depression"]] == [[30, 30], [45, 45], [60, 60]]
    assert [point["images"] for point in found["by_angle"]["azimuth"]] == [2, 2, 2, 2, 2, 2]
    said = ", ".join(f"{name} {test['accuracy']:.1f}% of 4" for name, test in tests.items())
    assert f"accuracy of the sub-tests: {said}\n" in capsys.readouterr().out
    assert {path.name for path in tmp_path.glob("accuracy_*")} == {"accuracy_azimuth.png", "accuracy_depression.png"}


@pytest.mark.usefixtures("undrawn")
def test_the_share_is_in_the_protocol_and_the_settings(pairs, tmp_path, checkpoint):
    argv = options(pairs, tmp_path / "a", "MODEL.INIT_WEIGHTS", checkpoint, dataset="SAMPLE", trainer="kNN")
    train.main([*argv, "DATASET.MEASURED_SHARE", "0.5"])
    found = json.loads((tmp_path / "a/results.json").read_text())
    assert found["protocol"]["DATASET.MEASURED_SHARE"] == 0.5
    assert "sub-tests" not in found["protocol"]
    assert "sub_tests" not in found
    assert [point["degrees"] for point in found["by_angle"]["azimuth"]] == [[20, 30], [70, 80]]
    assert "depression" not in found["by_angle"]


def test_every_setting_has_its_config():
    for name in (*SETTINGS, "SAMPLE"):
        words = ["--dataset-config-file", str(STAGE / "configs/datasets" / f"{name}.yaml")]
        assert name == setup_cfg(parse_options(words)[0]).DATASET.NAME
