"""A run reads all its images under the remap and channel of its config."""

import json

import numpy as np
import pytest
import sar_writers
import torch
from PIL import Image
from small_sets import draw, options, parse
from torchvision.transforms.v2.functional import resize

import train
from dassl.config import get_cfg_default
from dassl.data import DatasetWrapper
from dassl.data.datasets import build_dataset
from dassl.data.transforms import build_transform
from dassl.engine import build_trainer
from dassl.utils import read_image, reading_of
from hivit_cls import encoder, feature_bank, pictures
from hivit_cls.configuration import setup_cfg
from hivit_cls.results_file import protocol_of
from hivit_cls.settings import deciding_settings, differences
from saratrx import sar_image
from saratrx.errors import InputError
from saratrx.reading import AS_DEFAULT, Reading

pytestmark = pytest.mark.usefixtures("undrawn")
SIDE = 48


def amplitudes(label, number):
    """Values of 16 bits, skewed, so that remaps differ."""
    return draw(label, number).astype(np.uint16) ** 2 // 3 + 1


def write_set(root):
    """Write `mine`: of one class 16-bit PNG, of the other raw chips of MSTAR; and a file that is no image."""
    for part, first, count in (("train", 0, 5), ("test", 100, 2)):
        for label, name in enumerate("ab"):
            folder = root / "mine" / part / name
            folder.mkdir(parents=True)
            (folder / "notes.027").write_text("no image")
            for number in range(first, first + count):
                values = amplitudes(label, number)
                if name == "a":
                    Image.fromarray(values).save(folder / f"{number}.png")
                else:
                    (folder / f"hb{number}.015").write_bytes(sar_writers.mstar(values, np.zeros_like(values)))
    return root


def write_two_channels(root, vh_of=lambda number: number + 500):
    """Write `mine`: files of the channels VH and VV."""
    for part, first, count in (("train", 0, 5), ("test", 100, 2)):
        for label, name in enumerate("ab"):
            folder = root / "mine" / part / name
            folder.mkdir(parents=True)
            for number in range(first, first + count):
                channels = {"VV": amplitudes(label, number), "VH": amplitudes(label, vh_of(number))}
                np.savez(folder / f"{number}.npz", **channels)
    return root


def config(root, output, *opts):
    mine = ("DATASET.FOLDER", "mine", "DATASET.PARTS", "['train', 'test']", "MODEL.RANDOM_INIT", True)
    cfg = setup_cfg(parse(root, output, *mine, *opts, flags=["--seed", 0]))
    cfg.DATASET.NAME = "ImageFolders"
    return cfg


def items_of(cfg):
    found = build_dataset(cfg)
    return found.train_x + found.val + found.test


@pytest.mark.parametrize("remap", ["percentile", "decibel", "pedf"])
def test_files_of_any_kind_are_found_and_read_under_one_remap(tmp_path, remap):
    cfg = config(write_set(tmp_path), tmp_path, "INPUT.REMAP", remap, "INPUT.SIZE", (SIDE, SIDE))
    items = items_of(cfg)
    assert {item.impath.rpartition(".")[2] for item in items} == {"png", "015"}
    assert len(items) == 14
    batches = DatasetWrapper(cfg, items, build_transform(cfg, is_train=False, centre_crop=0))
    for item, batch in zip(items, batches, strict=True):
        expected = sar_image.read(item.impath, remap=remap)
        assert np.array_equal((batch["img"][0] * 255).round().numpy(), expected)
        assert np.array_equal(read_image(item.impath, Reading(remap)), expected)
        assert (remap == "percentile") == np.array_equal(read_image(item.impath), expected)


@pytest.mark.parametrize("channel", ["VV", "0", "span"])
def test_one_of_several_channels_is_read(tmp_path, channel):
    cfg = config(write_two_channels(tmp_path), tmp_path, "INPUT.CHANNEL", channel)
    for batch in DatasetWrapper(cfg, items_of(cfg)):
        assert np.array_equal(batch["img"], sar_image.read(batch["impath"], channel=channel))


def test_what_cannot_be_read_so_is_told_before_the_run(tmp_path):
    with pytest.raises(InputError, match=r"mine/t\w+/a/\d+.npz has 2 channels, not one: VH, VV; choose one"):
        items_of(config(write_two_channels(tmp_path), tmp_path))
    with pytest.raises(InputError, match=r"\d+.npz has no channel HH; it has VH, VV, or 0 to 1, or span"):
        items_of(config(tmp_path, tmp_path, "INPUT.CHANNEL", "HH"))
    with pytest.raises(InputError, match=r"INPUT.REMAP dB: unknown; choose one of percentile, linear, .*, pedf"):
        config(tmp_path, tmp_path, "INPUT.REMAP", "dB")


def test_a_config_written_for_dassl_reads_as_ever():
    assert reading_of(get_cfg_default()) == AS_DEFAULT


def test_images_are_compared_as_they_are_read(tmp_path):
    write_two_channels(tmp_path, vh_of=lambda number: number % 100)  # VH of the test is that of training
    assert len(items_of(config(tmp_path, tmp_path, "INPUT.CHANNEL", "VV"))) == 14
    with pytest.raises(InputError, match="4 training images are test images too"):
        items_of(config(tmp_path, tmp_path, "INPUT.CHANNEL", "VH"))


def test_a_bank_is_of_one_way_to_read(tmp_path):
    root, recipes = write_two_channels(tmp_path), []
    for opts in (("VV",), ("VH",), ("VH", "INPUT.REMAP", "log")):
        cfg = config(root, tmp_path / "out", "INPUT.CHANNEL", *opts)
        frozen = encoder.FrozenEncoder(cfg, torch.device("cpu"))
        bank = feature_bank.FeatureBank(frozen, build_transform(cfg, is_train=False, centre_crop=0))
        items = items_of(cfg)[:2]
        image = bank.transform(read_image(items[0].impath, reading_of(cfg)))
        torch.testing.assert_close(bank.features(items)[0], frozen(image[None])[0], rtol=0, atol=1e-5)
        recipes.append(json.loads((bank.folder / "recipe.json").read_text()))
    said = [(recipe["remap"], recipe["channel"]) for recipe in recipes]
    assert said == [("percentile", "VV"), ("percentile", "VH"), ("log", "VH")]
    cfg = config(root, tmp_path / "out")
    bank = feature_bank.FeatureBank(encoder.FrozenEncoder(cfg, torch.device("cpu")), bank.transform)
    assert not {"remap", "channel"} & json.loads((bank.folder / "recipe.json").read_text()).keys()


def test_protocols_and_settings_of_earlier_runs_stay_as_they_were(tmp_path):
    keys = {"INPUT.REMAP", "INPUT.CHANNEL"}
    write_set(tmp_path)
    plain, other = (config(tmp_path, tmp_path / "out", *opts) for opts in ((), ("INPUT.REMAP", "sqrt")))
    stamps = [protocol_of(cfg, build_trainer(cfg), "mine", "test") for cfg in (plain, other)]
    assert not keys & stamps[0].keys()
    assert stamps[1] == stamps[0] | {"INPUT.REMAP": "sqrt"}
    earlier = {key: value for key, value in deciding_settings(plain).items() if key not in keys}
    assert not differences(earlier, deciding_settings(plain))
    assert differences(earlier, deciding_settings(other)) == "INPUT.REMAP None (now sqrt)"


def test_mistakes_are_shown_as_they_were_read(tmp_path):
    np.savez(tmp_path / "a.npz", VV=amplitudes(0, 1), VH=amplitudes(1, 2))
    mistake = pictures.Mistake(str(tmp_path / "a.npz"), "a", "b", 0.9)
    figure = pictures.mistakes([mistake], 1, 1, 0, Reading("log", "VH"))
    image = torch.from_numpy(sar_image.read(mistake.path, remap="log", channel="VH"))[None]
    shown = resize(image, [pictures.TILE, pictures.TILE], antialias=True)[0].numpy()
    canvas = figure.axes[0].images[0].get_array()
    assert np.array_equal(canvas[pictures.CAPTION :, : pictures.TILE], shown)


def test_captions_have_two_lines(tmp_path):
    np.savez(tmp_path / "a.npz", VV=amplitudes(0, 1))
    rows = [[(str(tmp_path / "a.npz"), "T72\n93%")]]
    figure = pictures.beside(rows, "one\nimage", Reading("log", None), 0)
    assert [text.get_text() for text in figure.axes[0].texts] == ["T72\n93%"]


def test_a_whole_run_on_one_channel(tmp_path, checkpoint):
    write_two_channels(tmp_path)
    words = ("DATASET.NAME", "ImageFolders", "DATASET.FOLDER", "mine", "DATASET.PARTS", "['train', 'test']")
    how = ("INPUT.CHANNEL", "VV", "INPUT.REMAP", "density", "MODEL.INIT_WEIGHTS", checkpoint)
    train.main(options(tmp_path, tmp_path / "out", *words, *how, dataset="MyDataset", flags=["--seed", 0]))
    protocol = json.loads((tmp_path / "out/results.json").read_text())["protocol"]
    assert (protocol["INPUT.CHANNEL"], protocol["INPUT.REMAP"]) == ("VV", "density")
