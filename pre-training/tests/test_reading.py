"""A run reads its images by one remap and one channel, wherever they lie, and doubts are told once for a folder."""

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sar_writers import mstar
from small_runs import options, run_here
from test_prepare_cutting import write_geotiff

from hivit_mae.data import reading as module
from hivit_mae.data.folders import FolderImages
from hivit_mae.data.image_cache import open_cache
from hivit_mae.data.labelled import find_labelled
from hivit_mae.data.reading import SAMPLE, warn_of_doubts
from hivit_mae.data.shards import ShardImages, count_images
from hivit_mae.run.evaluation import open_evaluation
from hivit_mae.run.options import EvaluationOptions, parse_options
from saratrx.checkpoint import load_checkpoint
from saratrx.errors import InputError
from saratrx.files import find_images
from saratrx.reading import Reading

SQRT_OF_SECOND = Reading("sqrt", "band2")


def amplitudes(seed, height=40, width=48):
    return np.random.default_rng(seed).gamma(1.0, 900.0, (height, width)).astype(np.uint16)


def root_of(values):
    """The remap sqrt, written out: 99.5 % of the values are below white."""
    return np.rint(255 * np.sqrt(values / np.percentile(values, 99.5)).clip(0, 1)).astype(np.uint8)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Eighteen TIFFs of two channels in two folders, and the second channel's values by name."""
    root = tmp_path_factory.mktemp("scenes")
    values = {}
    for number in range(18):
        folder = root / "ab"[number % 2]
        folder.mkdir(exist_ok=True)
        path = folder / f"{number:02d}.tif"
        write_geotiff(path, amplitudes(100 + number), amplitudes(number))
        values[str(path)] = amplitudes(number)
    return root, values


def test_folders_caches_and_shards_are_read_alike(scenes, tmp_path):
    root, values = scenes
    paths = find_images(root)
    plain = FolderImages([root], 32, 0, 0.0, reading=SQRT_OF_SECOND)
    cached = FolderImages([root], 32, 0, 0.0, cache=tmp_path / "cache", reading=SQRT_OF_SECOND)
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for path in paths:
            archive.add(path, Path(path).name)
    urls = [str(tmp_path / "a.tar")]
    counts = count_images(urls, tmp_path)
    shards = ShardImages(
        urls, counts, 32, 0, 0.0, reading=SQRT_OF_SECOND, on_device=True, batch_size=1, rank=0, world_size=1
    )
    dealt = {index: (cut, crop) for index, cut, crop in shards}
    assert len(dealt) == len(paths) == 18
    for index, path in enumerate(paths):
        expected = root_of(values[path])
        assert np.array_equal(plain.decode(index), expected)
        assert np.array_equal(cached.decode(index), expected)
        cut, crop = dealt[index]
        assert np.array_equal(cut, crop.cut(expected))
    assert any(np.array_equal(image, root_of(values[paths[0]])) for image in shards.examples(18))


def test_another_way_to_read_gets_another_cache(scenes, tmp_path):
    paths = find_images(scenes[0])
    ways = [Reading("sqrt", "band2"), Reading("sqrt", "band1"), Reading("log", "band2")]
    caches = [open_cache(tmp_path, paths, way) for way in ways]
    assert len({cache.folder for cache in caches}) == 3
    again = open_cache(tmp_path, paths, ways[0])
    assert again.folder == caches[0].folder
    assert np.array_equal(again.read(3), root_of(scenes[1][paths[3]]))
    assert not np.array_equal(caches[2].read(3), again.read(3))


def test_labelled_images_are_read_likewise_and_other_figures_are_told_apart(scenes):
    root, values = scenes
    train, _ = find_labelled(root, 2)
    images = train.read(40, 40, SQRT_OF_SECOND)
    for image, path in zip(images, train.paths, strict=True):
        assert torch.equal(image[0], torch.from_numpy(root_of(values[path])[:, 4:44]))
    chosen = EvaluationOptions(eval_data=str(root), eval_shots=2)
    ways = [Reading("sqrt", "0"), Reading("log", "0"), Reading("sqrt", "1")]
    assert len({open_evaluation(chosen, 32, way).identity for way in ways}) == 3
    with pytest.raises(InputError, match=r"--eval_data: .*\d\d\.tif has 2 bands"):
        open_evaluation(chosen, 32)


def test_a_run_says_how_it_reads_and_goes_on_that_way_alone(scenes, tmp_path):
    root, _ = scenes
    common = {"epochs": 1, "warmup_epochs": 0, "num_workers": 0}
    printed = run_here(options(root, tmp_path / "out", **common, remap="sqrt", channel="span"))
    assert "18 images, remap sqrt, channel span, " in printed
    args = load_checkpoint(tmp_path / "out" / "checkpoint-1.pth")["args"]
    assert (args["remap"], args["channel"]) == ("sqrt", "span")
    common["resume"] = "auto"
    for said, ways in (
        ("a run with --remap sqrt, and this one has --remap log", {"remap": "log", "channel": "span"}),
        ("a run with --channel span, and this one has --channel 1", {"remap": "sqrt", "channel": "1"}),
        ("a run with --channel span, and this one has no --channel", {"remap": "sqrt"}),
    ):
        with pytest.raises(InputError, match=rf"checkpoint-1\.pth is of {said}: give it that"):
            run_here(options(root, tmp_path / "out", **common, **ways))


def test_what_a_checkpoint_does_not_tell_is_the_default(plain_run, images, tmp_path):
    content = torch.load(plain_run[0] / "checkpoint-8.pth")
    for name in ("remap", "channel"):
        del content["args"][name]
    torch.save(content, tmp_path / "checkpoint-8.pth")
    common = {"epochs": 8, "resume": tmp_path / "checkpoint-8.pth"}
    run_here(options(images, tmp_path / "same", **common))
    with pytest.raises(InputError, match="--remap percentile, and this one has --remap linear"):
        run_here(options(images, tmp_path / "other", **common, remap="linear"))


def test_an_unknown_remap_is_refused(images, tmp_path, capsys):
    with pytest.raises(SystemExit):
        parse_options(options(images, tmp_path, remap="cubic"))
    assert "invalid choice: 'cubic'" in capsys.readouterr().err


def test_raw_chips_of_mstar_are_found_in_folders_and_shards(tmp_path):
    magnitude = np.random.default_rng(0).gamma(2.0, 0.1, (50, 60)).astype(np.float32)
    content = mstar(magnitude, np.zeros((50, 60), np.float32))
    (tmp_path / "chips").mkdir()
    for name in ("HB03333.015", "HB03334.000", "HB03335.027"):
        (tmp_path / "chips" / name).write_bytes(content)
    found = FolderImages([tmp_path / "chips"], 32, 0, 0.0, reading=Reading("sqrt"))
    assert [Path(path).name for path in found.paths] == ["HB03333.015", "HB03334.000"]
    assert np.array_equal(found.decode(0), root_of(np.abs(magnitude + 0j).astype(float)))
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in ("HB03333.015", "HB03335.027"):
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    assert count_images([str(tmp_path / "a.tar")], tmp_path) == [1]


@pytest.fixture
def opened(monkeypatch):
    """The files that are opened."""
    names = []
    plain = module.sar_files.open
    monkeypatch.setattr(module.sar_files, "open", lambda path: names.append(path) or plain(path))
    return names


def decibels(folder, count):
    folder.mkdir()
    for number in range(count):
        np.save(folder / f"{number:03d}.npy", 20 * np.log10(amplitudes(number) + 1.0) - 80)
    return find_images(folder)


def test_decibels_are_told_in_one_line_for_a_folder_and_few_files_are_opened_for_it(tmp_path, opened, capsys):
    warn_of_doubts("--data_path a", decibels(tmp_path / "a", 30), Reading())
    told = capsys.readouterr().out
    assert told.startswith(f"warning: --data_path a: {SAMPLE} of {SAMPLE} images looked at are doubtful, such as ")
    assert "negative, as decibels are" in told
    assert told.count("\n") == 1
    assert len(opened) == SAMPLE
    assert (opened[0][-7:], opened[-1][-7:]) == ("000.npy", "029.npy")


def test_saturated_images_are_told_and_others_and_torn_ones_not(tmp_path, capsys):
    for number in range(3):
        Image.fromarray(amplitudes(number).clip(0, 1000)).save(tmp_path / f"{number}.png")
    Image.fromarray(amplitudes(3)).save(tmp_path / "3.png")
    (tmp_path / "4.png").write_bytes(b"\x89PNG")
    warn_of_doubts("DIR", find_images(tmp_path), Reading())
    assert capsys.readouterr().out == ""
    clipped = (amplitudes(0).astype(int) * 80).clip(0, 65535).astype(np.uint16)
    Image.fromarray(clipped).save(tmp_path / "2.png")
    warn_of_doubts("DIR", find_images(tmp_path), Reading())
    assert "warning: DIR: 1 of 4 images looked at are doubtful, such as" in capsys.readouterr().out


def test_a_run_warns_once_for_each_folder(tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        decibels(folder, 8)
    words = options("", tmp_path / "out", epochs=2, num_workers=0)
    place = words.index("--data_path")
    words[place + 1 : place + 2] = map(str, folders)
    printed = run_here(words)
    assert [line.split(": ")[1] for line in printed.splitlines() if line.startswith("warning: ")] == [
        f"--data_path {folder}" for folder in folders
    ]


def test_a_folder_that_cannot_be_listed_is_told(tmp_path, monkeypatch, capsys):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").touch()
    plain = os.scandir

    def closed(path):
        if os.fspath(path).endswith("b"):
            raise PermissionError(13, "Permission denied", path)
        return plain(path)

    monkeypatch.setattr(os, "scandir", closed)
    assert find_images(tmp_path) == [str(tmp_path / "a" / "0.png")]
    assert capsys.readouterr().out == (
        f"warning: --data_path {tmp_path}: left out {tmp_path / 'b'}, which cannot be listed: Permission denied\n"
    )
