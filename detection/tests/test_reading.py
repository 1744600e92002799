"""Training, tests, scenes and check_coco read the same files under the same remap and channel."""

import json
import re
from itertools import product

import numpy as np
import pytest
import rasterio
import sar_writers
import torch
from detection_tools import run_here
from mmdet.registry import DATASETS, TRANSFORMS
from mmengine.registry import init_default_scope
from PIL import Image
from rasterio.transform import Affine
from small_detector import write_small_detector
from test_windows import BrightSquares

from coco_annotations import coco_check
from coco_annotations.run_options import RunOptions
from hivit_det.data_sets import check_data
from hivit_det.loading import reading_of, wrong_reading
from hivit_det.running import read_config
from hivit_det.scenes import detection_files
from hivit_det.scenes.scene import open_scene
from hivit_det.scenes.windows import Detections, starts
from saratrx import grey_scale, sar_image
from saratrx.command_line import parse
from saratrx.errors import InputError

RNG = np.random.default_rng(0)
AMPLITUDE = RNG.gamma(1.0, 300.0, (70, 90)) + 1
COMPLEX = (AMPLITUDE * np.exp(1j * RNG.uniform(-3, 3, AMPLITUDE.shape))).astype(np.complex64)
TWO = np.stack([AMPLITUDE, RNG.gamma(1.0, 100.0, AMPLITUDE.shape)]).astype(np.uint16)  # VH, VV
REMAPS = ("percentile", "decibel", "density")


def write(path, values=TWO):
    """Write a file of the kind that its name says; a TIFF has the bands VH and VV, and a place on the map."""
    if path.suffix == ".tif":
        size = {"height": values.shape[1], "width": values.shape[2], "count": len(values), "dtype": values.dtype}
        place = {"crs": "EPSG:32650", "transform": Affine(10, 0, 500000, 0, -10, 4000000)}
        with rasterio.open(path, "w", driver="GTiff", **size, **place) as file:
            file.write(values)
            file.descriptions = ("VH", "VV")[: len(values)]
    elif path.suffix == ".npz":
        np.savez(path, VH=values[0], VV=values[1])
    elif path.suffix == ".npy":
        np.save(path, COMPLEX)
    elif path.suffix == ".png":
        Image.fromarray(values[0]).save(path)
    elif path.suffix == ".nitf":
        pytest.importorskip("sarkit")
        sar_writers.sicd(path, COMPLEX, "RE32F_IM32F")
    else:  # MSTAR
        path.write_bytes(sar_writers.mstar(np.abs(COMPLEX), np.angle(COMPLEX)))
    return path


@pytest.mark.parametrize("remap", REMAPS)
@pytest.mark.parametrize(
    ("name", "channel"),
    [
        ("a.tif", "VV"),
        ("a.tif", "span"),
        ("a.tif", "max"),
        ("a.npz", 1),
        ("a.png", None),
        ("a.npy", None),
        ("a.nitf", None),
        ("a.017", 0),
    ],
)
def test_a_scene_in_windows_is_the_whole_image_whatever_the_windows(tmp_path, name, channel, remap):
    path = write(tmp_path / name)
    whole = sar_image.read(path, remap=remap, channel=channel)
    scene = open_scene(path, remap, channel)
    assert (scene.height, scene.width) == whole.shape == (70, 90)
    for side in (17, 32, 100):
        height, width = min(side, 70), min(side, 90)
        found = np.zeros_like(whole)
        for top, left in product(starts(70, height, 3), starts(90, width, 3)):
            found[top : top + height, left : left + width] = scene.read(left, top, width, height)
        assert np.array_equal(found, whole)
    assert np.array_equal(scene.overview(90), whole)


@pytest.mark.parametrize("remap", ["percentile", "decibel"])
def test_targets_of_a_scene_do_not_depend_on_the_windows(tmp_path, remap):
    values, expected = RNG.integers(1, 60, (2, 300, 400)).astype(np.uint16), []
    for top, left in product(range(10, 260, 60), range(20, 360, 70)):
        values[1, top : top + 28, left : left + 28] = 60_000
        expected.append((left, top, left + 28, top + 28))
    values[:, :, 390:] = 0  # no data, which no scale counts
    scene = open_scene(write(tmp_path / "a.tif", values), remap, "VV")
    assert not scene.read(390, 0, 10, 300).any()
    for window, overlap in ((96, 40), (150, 33), (500, 0)):
        boxes = BrightSquares(28).detect(scene, window, overlap).boxes.tolist()
        assert sorted(tuple(map(int, box)) for box in boxes) == sorted(expected)
    nothing = BrightSquares(28).detect(open_scene(scene.path, remap, "VH"), 96, 40)
    assert not {tuple(box) for box in nothing.boxes.tolist()} & set(expected)


def test_the_overview_of_a_large_scene_is_its_mean_in_squares(tmp_path, monkeypatch):
    monkeypatch.setattr(grey_scale, "STRIP_PIXELS", 56 * 100)
    grey = RNG.integers(0, 255, (2100, 56), dtype=np.uint8)
    np.save(tmp_path / "a.npy", grey)
    expected = grey.reshape(300, 7, 8, 7).mean(axis=(1, 3))
    assert np.abs(open_scene(tmp_path / "a.npy").overview(300) - expected).max() <= 0.5
    assert open_scene(tmp_path / "a.npy").overview(299).shape == (299, 8)


def test_only_what_has_a_place_on_the_map_gets_map_coordinates(tmp_path):
    found = Detections(torch.tensor([[3.0, 5, 20, 11]]), torch.tensor([0.9]), torch.tensor([0]), ("ship",))
    for name, channel, suffixes in (
        ("a.tif", "VH", [".json", ".csv", ".jpg", ".geojson"]),
        ("b.nitf", None, [".json", ".csv", ".jpg"]),
        ("c.017", None, [".json", ".csv", ".jpg"]),
    ):
        scene = open_scene(write(tmp_path / name), channel=channel)
        written = detection_files.write_all(tmp_path / "out", scene, found)
        assert [path.suffix for path in written] == suffixes


def test_several_bands_are_refused_with_their_names(tmp_path):
    path = write(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"a.tif has 2 bands of uint16 .*; choose a channel \(VH, VV\)"):
        open_scene(path)
    with pytest.raises(InputError, match=r"a.tif has no channel HH; it has VH, VV, or 0 to 1, or span"):
        open_scene(path, channel="HH")
    with pytest.raises(InputError, match=r"a.png has no channel VV; it has grey, or 0 to 0, or span"):
        open_scene(write(tmp_path / "a.png"), channel="VV")
    torn = write(tmp_path / "a.017")
    torn.write_bytes(torn.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"a.017 has 50,903 bytes.*it is torn"):
        open_scene(torn)


@pytest.mark.parametrize("kind", ["LoadImageFromFile", "LoadSarImage"])
@pytest.mark.parametrize(("name", "channel"), [("a.tif", "VV"), ("a.tif", "max"), ("a.png", None), ("a.017", None)])
def test_the_loading_transform_reads_so(tmp_path, kind, name, channel):
    path = write(tmp_path / name)
    init_default_scope("mmdet")
    how = {"type": kind, "imdecode_backend": "saratrx", "remap": "decibel", "channel": channel}
    expected = sar_image.read(path, remap="decibel", channel=channel)
    read = TRANSFORMS.build(how)({"img_path": str(path)})
    assert np.array_equal(read["img"], np.repeat(expected[..., None], 3, axis=2))
    of_inferencer = TRANSFORMS.build(how | {"type": "InferencerLoader", "imdecode_backend": "saratrx"})
    assert np.array_equal(of_inferencer(str(path))["img"], read["img"])
    as_ever = TRANSFORMS.build({"type": "LoadSarImage"})({"img_path": str(write(tmp_path / "b.png"))})["img"]
    assert np.array_equal(as_ever[..., 0], sar_image.read(tmp_path / "b.png"))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A detector, trained for an epoch on VV under `decibel`, and its set, whose images have two bands of 16 bits."""
    folder = tmp_path_factory.mktemp("reading")
    config = write_small_detector(folder, images=2)
    content = json.loads((folder / "boxes.json").read_text())
    for image in content["images"]:
        squared = np.asarray(Image.open(folder / image["file_name"])).astype(np.uint16) ** 2
        image["file_name"] = image["file_name"].replace("png", "tif")
        write(folder / image["file_name"], np.stack([squared // 2 + 1, squared]))
    (folder / "boxes.json").write_text(json.dumps(content))
    words = ["--init-weights", "none", "--cfg-options", "train_cfg.max_epochs=1", "train_dataloader.num_workers=0"]
    how = ["--work-dir", folder / "run", "--remap", "decibel", "--channel", "VV"]
    done = run_here("tools/train.py", config, *words, "train_dataloader.persistent_workers=False", *how)
    assert done.returncode == 0, done.stderr
    return folder


def opened(folder, *words):
    return read_config(parse([RunOptions], "A test.", [str(folder / "small.py"), *words], hyphens=True)[0])


def text_of(cfg):
    """A config as a file, in a fraction of the time of its `pretty_text`."""
    return "\n".join(f"{name} = {value!r}" for name, value in cfg.to_dict().items())


def test_a_config_reads_as_the_command_says(small):
    cfg = opened(small, "--remap", "sqrt", "--channel", "VV")
    init_default_scope("mmdet")
    for part in ("train", "val", "test"):
        loader = cfg[f"{part}_dataloader"]
        assert reading_of(loader) == {"remap": "sqrt", "channel": "VV"}
        dataset = DATASETS.build(loader.dataset)
        for number in range(2):
            expected = sar_image.read(small / f"{number}.tif", remap="sqrt", channel="VV")
            seen = dataset[number]["inputs"][0].numpy()
            assert np.array_equal(seen[: len(expected)] if part != "train" else np.sort(seen), seen_as(expected, part))
    assert reading_of(opened(small).test_dataloader) == {"remap": "percentile", "channel": None}


def seen_as(grey, part):
    """Flips keep what a row holds."""
    return np.sort(grey) if part == "train" else grey


def test_what_a_config_cannot_read_is_told_before_it_runs(small, tmp_path):
    cfg = opened(small)
    with pytest.raises(InputError, match=r"0.tif has 2 bands of uint16 .*; choose a channel \(VH, VV\)"):
        check_data(cfg.train_dataloader.dataset)
    with pytest.raises(InputError, match=r"0.tif has no channel HH; it has VH, VV"):
        check_data(opened(small, "--channel", "HH").test_dataloader.dataset)
    check_data(opened(small, "--channel", "span").test_dataloader.dataset)
    with pytest.raises(InputError, match=r"remap=dB of .*small.py: unknown; choose one of percentile, .*, pedf"):
        opened(small, "--cfg-options", "test_dataloader.dataset.pipeline.0.remap=dB")
    cfg.test_dataloader.dataset.pipeline[0].channel = ["VV"]
    assert wrong_reading(cfg) == [f"channel=['VV'] of {cfg.filename}: must be a name, a number from 0, span or max"]
    (tmp_path / "small.py").write_text(re.sub("LoadSarImage|saratrx", "LoadImageFromFile", text_of(cfg)))
    with pytest.raises(InputError, match=r"--remap --channel: .*small.py loads no image by saratrx; write dict"):
        opened(tmp_path, "--remap", "sqrt", "--channel", "VV")


def test_a_test_says_how_it_read_and_draws_so(small, tmp_path, caplog):
    words = [small / "small.py", small / "run/epoch_1.pth", "--work-dir", tmp_path, "--show-dir", tmp_path / "shown"]
    done = run_here("tools/test.py", *words, "--channel", "VV", "--remap", "decibel")
    assert done.returncode == 0, done.stderr
    assert "was trained on" not in caplog.text
    said = json.loads((tmp_path / "results.json").read_text())["data"]
    assert (said["remap"], said["channel"]) == ("decibel", "VV")
    drawn = np.asarray(Image.open(tmp_path / "shown/0_0.jpg").convert("L").resize((64, 64))).astype(float)
    like, unlike = (sar_image.read(small / "0.tif", remap=remap, channel="VV") for remap in ("decibel", "percentile"))
    assert abs(np.median(drawn) - np.median(like)) < 25 < abs(np.median(drawn) - np.median(unlike))


def test_scenes_are_read_as_the_config_says_unless_the_command_does(small, tmp_path, caplog):
    (tmp_path / "other.py").write_text(  # as the README has it
        f"_base_ = '{small}/small.py'\n"
        "for loader in (_base_.train_dataloader, _base_.val_dataloader, _base_.test_dataloader):\n"
        "    loader.dataset.pipeline[0].update(remap='decibel', channel='VV')\n"
    )
    path, chip = write(tmp_path / "scene.tif"), write(tmp_path / "chip.017")
    start = [tmp_path / "other.py", small / "run/epoch_1.pth"]
    for scene, words, how in (
        (path, [], {"remap": "decibel", "channel": "VV"}),
        (path, ["--channel", "0", "--remap", "log"], {"remap": "log", "channel": "VH"}),
        (chip, ["--channel", "span"], {"remap": "decibel"}),
    ):
        done = run_here(
            "huge_image_infer.py", *start, scene, "--score", 1, "--output_dir", "found", *words, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        drawn = np.asarray(Image.open(tmp_path / f"found/{scene.stem}_targets.jpg").convert("L")).astype(float)
        assert np.abs(drawn - sar_image.read(scene, **how)).mean() < 8
        said = "epoch_1.pth was trained on images read with remap=decibel channel=VV, and these are read with remap="
        assert (said in caplog.text) == bool(words)
        caplog.clear()
    done = run_here("huge_image_infer.py", *start, path, "--channel", "HV", "--output_dir", "none", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"error: {path} has no channel HV; it has VH, VV, or 0 to 1, or span, or max\n"
    assert not (tmp_path / "none").is_dir() or not list((tmp_path / "none").iterdir())
    done = run_here("huge_image_infer.py", *start, path, "--remap", "dB", cwd=tmp_path)
    assert done.returncode == 2
    assert re.match(r"error: --remap: invalid choice: 'dB' \(choose from '?percentile", done.stderr)


def test_check_coco_reads_as_the_command_or_the_config_says(small, tmp_path):
    def unreadable(*words):
        done = run_here("tools/check_coco.py", small / "boxes.json", *words)
        row = next(line for line in done.stdout.splitlines() if line.startswith(coco_check.UNREADABLE))
        return row.split()[-1], done.stdout

    count, said = unreadable()
    assert count == "2"
    assert "choose a channel (VH, VV)" in said
    assert unreadable("--channel", "VV", "--remap", "log")[0] == "ok"
    (tmp_path / "other.py").write_text(text_of(opened(small, "--channel", "VH")))
    assert unreadable("--config", tmp_path / "other.py")[0] == "ok"
    assert unreadable("--config", tmp_path / "other.py", "--channel", "HH")[0] == "2"
