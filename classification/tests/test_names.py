"""Names of folders and classes, whatever they look like and whatever their bytes."""

import io
import json
import os
import shutil
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from small_sets import options, write

import train
from hivit_cls import pictures
from hivit_cls.configuration import ConfigOptions, setup_cfg
from hivit_cls.datasets.image_folders import ImageFolders
from saratrx.names import readable

AS_NUMBERS = ["0", "010", "1e3", "2019", "on", "null", "~", "True", "0x1F", "1_000", "12:30", ".5", "2020-01-01"]
GBK = os.fsdecode("油轮".encode("gbk"))  # as unzip leaves a name of an archive made in China


@pytest.fixture(autouse=True)
def _fonts():
    families = list(mpl.rcParams["font.family"])
    yield
    mpl.rcParams["font.family"] = families
    pictures.can_draw.cache_clear()


def config(path, **keys):
    lines = [f"  {key}: {value}" for key, value in {"NAME": "ImageFolders", **keys}.items()]
    path.write_text("\n".join(["DATASET:", *lines, ""]))
    return path


@pytest.mark.parametrize("given", ["file", "option"])
def test_names_that_yaml_takes_for_something_else(tmp_path, given):
    write(tmp_path / "2020", {"2019": dict.fromkeys(AS_NUMBERS, 5), "010": dict.fromkeys(AS_NUMBERS, 2)})
    names = f"[{', '.join(AS_NUMBERS)}]"
    pairs = {"FOLDER": "2020", "PARTS": "[2019, 010]", "CLASSES": names}
    opts = tuple(word for key, value in pairs.items() for word in (f"DATASET.{key}", value))
    path = config(tmp_path / "mine.yaml", **(pairs if given == "file" else {}))
    cfg = setup_cfg(
        ConfigOptions(root=str(tmp_path), dataset_config_file=str(path), opts=opts if given == "option" else ())
    )
    found = ImageFolders(cfg)
    assert found.classnames == AS_NUMBERS
    assert len(found.test) == 2 * len(AS_NUMBERS)
    assert all(item.impath.split("/")[-2] == item.classname for item in found.test)


def test_options_that_name_files_are_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("2020", "1e3", "None"):
        (tmp_path / name).mkdir()
        cfg = setup_cfg(ConfigOptions(root=name, output_dir=name, resume=name, opts=("DATASET.FOLDER", name)))
        assert {cfg.DATASET.ROOT, cfg.OUTPUT_DIR, cfg.RESUME, cfg.DATASET.FOLDER} == {name}


def test_readable():
    assert readable(GBK) == r"\xd3\xcd\xc2\xd6"
    assert readable("油轮 $x_1$ é") == "油轮 $x_1$ é"
    assert readable("a\nb\x1b[31m") == r"a\nb\x1b[31m"


@pytest.mark.parametrize("name", ["a$b_$c", "油轮", GBK, "$", "%s {0}", "a\nb", "\\frac{", "x" * 200])
def test_no_name_of_a_class_ends_a_run(tmp_path, checkpoint, monkeypatch, name):
    """In pictures, results.json, the log, and on a terminal that takes nothing but ASCII."""
    write(tmp_path / "mine", {"train": {"tank": 5}, "test": {"tank": 3}})
    for part in ("train", "test"):
        shutil.copytree(tmp_path / "mine" / part / "tank", tmp_path / "mine" / part / name)
        for number, path in enumerate(sorted((tmp_path / "mine" / part / name).iterdir())):
            path.write_bytes(path.read_bytes())
            pixels = np.random.default_rng((part == "test", number)).integers(0, 255, (48, 48), dtype=np.uint8)
            pictures.Image.fromarray(pixels).save(path)
    path = config(tmp_path / "mine.yaml", FOLDER="mine", PARTS="[train, test]")
    console = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="backslashreplace")
    monkeypatch.setattr(sys, "stdout", console)
    opts = ("MODEL.INIT_WEIGHTS", checkpoint, "TEST.PER_CLASS_RESULT", True, "TRAINER.KNN.K", 1)
    flags = ["--dataset-config-file", path, "--seed", 0]
    train.main(options(tmp_path, tmp_path / "out", *opts, trainer="kNN", flags=flags))
    classes = json.loads((tmp_path / "out/results.json").read_text(encoding="utf-8"))["classes"]
    assert {row["name"] for row in classes} == {readable(name), "tank"}
    assert [row["total"] for row in classes] == [3, 3]
    assert readable(name) in (tmp_path / "out/log.txt").read_text(encoding="utf-8")
    for picture in ("confusion", "mistakes"):
        assert (tmp_path / f"out/{picture}.png").stat().st_size > 2000


def test_a_font_with_the_signs_is_found(monkeypatch):
    """Or, without one, they are escaped."""
    pictures.can_draw.cache_clear()
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [])
    assert pictures.shown("é$x 油") == r"é$x \u6cb9"
    pictures.can_draw.cache_clear()
    other = font_manager.FontEntry(fname="/fonts/han.ttf", name="Han")
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [other])
    known = pictures.signs_of
    monkeypatch.setattr(pictures, "signs_of", lambda path: {ord("油")} if path == other.fname else known(path))
    assert pictures.shown("油") == "油"
    assert mpl.rcParams["font.family"][-1] == "Han"


def test_no_sign_is_drawn_as_a_box(recwarn):
    """Matplotlib warns of glyphs that it does not have."""
    names = {0: "油轮", 1: "a$b", 2: "\U0001f6e5"}
    labels = np.arange(3)
    figure = pictures.confusion(labels, labels, names)
    pictures.FigureCanvasAgg(figure).draw()
    assert not [str(each.message) for each in recwarn if "missing" in str(each.message)]
    assert ord("a") in FT2Font(font_manager.findfont("DejaVu Sans")).get_charmap()
