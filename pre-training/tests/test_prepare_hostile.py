"""What sources may hold: odd names, links, closed folders, tiny and empty files; and what may happen to a build."""

import multiprocessing
import os
import re
import resource
import shutil
import threading
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from sar_writers import mstar
from test_prepare_build import files_of, save
from test_prepare_cutting import write_geotiff
from test_prepare_overlap import chip, clutter

from hivit_mae.prepare import build as building
from hivit_mae.prepare.build import MANIFEST, SETTINGS, UNFINISHED, build, read_manifest
from hivit_mae.prepare.options import BuildOptions
from hivit_mae.prepare.sources import source_files, stems_of
from saratrx.errors import InputError
from saratrx.files import find_images
from saratrx.output_folder import claimed


def built(tmp_path, *sources, **others):
    """Build a set, and give the rows of its manifest by image; each kept one must be there, and nothing else."""
    folders = sources or (tmp_path / "in",)
    words = {"workers": 1, "output_dir": str(tmp_path / "set")} | others
    build(BuildOptions(tuple(map(str, folders)), **words))
    rows = read_manifest(tmp_path / "set" / MANIFEST)
    chips = tmp_path / "set" / "chips"
    there = sorted(str(path.relative_to(chips)) for path in chips.rglob("*") if path.is_file())
    assert there == sorted(row.path for row in rows if not row.dropped)
    assert not (tmp_path / "set" / UNFINISHED).exists()
    return rows


def test_images_of_alike_names_become_chips_of_their_own(tmp_path):
    """Among them: cases of letters, extensions, the name of another's chip, of a window, and of a folder."""
    names = (
        "a.png", "A.png", "a.PNG", "a.bmp", "a.png.png", "b.png", "b.y0.x0.png", "c.c0.png", "d.png/e.png", "d.bmp",
        "d.PNG.png", "x.000", "x.001", "y.png.bmp", "y.png", "é.png", "e\u0301.png",
    )  # fmt: skip
    for number, name in enumerate(names):
        if name.endswith((".000", ".001")):
            path = tmp_path / "in" / name
            path.write_bytes(mstar(chip(number).astype(np.float32), np.zeros((96, 96), np.float32)))
        else:
            path = tmp_path / "0.bmp"
            save(path, chip(number))
            (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
            path.rename(tmp_path / "in" / name)
    save(tmp_path / "in" / "b.tif", clutter(99, 800, 800))
    rows = built(tmp_path, window=512, empty=1)
    assert all(not row.dropped for row in rows)
    assert len(rows) == len(names) + 4
    assert len({row.path for row in rows}) == len(rows)


def test_names_of_chips_are_short_where_they_can_be_and_never_too_long():
    long = "ü" * 120
    stems = stems_of(["a/0.png", "b/0.png", "b/1.png", "b/1.tif", f"{long}.png", f"{long}.y.tif"])
    assert stems[:4] == ["a/0", "b/0", "b/1.png", "b/1.tif"]
    assert len({*stems[4:]}) == 2
    assert all(len(os.fsencode(stem)) == 200 for stem in stems[4:])
    assert all(stem.startswith("ü" * 80) for stem in stems[4:])


def test_the_longest_names_there_are_can_be_built_from(tmp_path):
    folder = tmp_path / "in" / ("f" * 255) / ("g" * 255)
    save(folder / f"{'h' * 251}.png", chip(0))
    save(folder / f"{'h' * 250}i.png", chip(1))
    write_geotiff(folder / f"{'j' * 251}.tif", clutter(1, 800, 100))
    assert [row.dropped for row in built(tmp_path, empty=1)] == [""] * 4


def test_sources_get_names_that_are_seen(tmp_path):
    for number, name in enumerate((".hidden", "a", "A", "more/a", "a-2")):
        save(tmp_path / name / "0.png", chip(number))
    folders = [tmp_path / name for name in (".hidden", "a", "A", "more/a", "a-2")]
    assert [file.source for file in source_files(folders, "SOURCE", [])] == ["hidden", "a", "A-2", "a-3", "a-2-2"]
    rows = built(tmp_path, *folders)
    assert len(find_images(tmp_path / "set" / "chips")) == len(rows) == 5


def test_links_lead_to_images_once_and_to_nothing_without_harm(tmp_path):
    save(tmp_path / "in" / "a" / "0.png", chip(0))
    save(tmp_path / "far" / "1.png", chip(1))
    save(tmp_path / "test" / "2.png", chip(2))
    (tmp_path / "in" / "circle").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "far").symlink_to(tmp_path / "far")
    (tmp_path / "in" / "self.png").symlink_to("self.png")
    (tmp_path / "in" / "nothing.png").symlink_to("nowhere.png")
    (tmp_path / "in" / "tested.png").symlink_to(tmp_path / "test" / "2.png")
    (tmp_path / "in" / "again.png").symlink_to("a/0.png")
    os.mkfifo(tmp_path / "in" / "pipe.png")
    rows = {row.file: row.dropped for row in built(tmp_path, keep_out=(str(tmp_path / "test"),))}
    assert rows == {
        "a/0.png": "",
        "again.png": "duplicate",
        "far/1.png": "",
        "nothing.png": "unreadable",
        "pipe.png": "unreadable",
        "self.png": "unreadable",
        "tested.png": "kept out",
    }


def test_images_of_one_pixel_of_none_and_of_no_height_do_no_harm(tmp_path):
    for name, shape in {"1.png": (1, 1), "row.png": (1, 3000), "column.png": (900, 2), "3.png": (3, 3)}.items():
        save(tmp_path / "in" / name, np.random.default_rng(0).integers(1, 255, shape, np.uint8))
    (tmp_path / "in" / "empty.png").touch()
    (tmp_path / "in" / "empty.tif").touch()
    np.save(tmp_path / "in" / "flat.npy", np.zeros((0, 5)))
    np.save(tmp_path / "in" / "nothing.npy", np.full((9, 9), np.nan))
    np.save(tmp_path / "in" / "deep.npy", np.zeros((2, 9, 9)))
    dropped = {row.file: row.dropped for row in built(tmp_path, empty=1)}
    assert dropped.pop("1.png") == "constant"
    assert {name for name, kind in dropped.items() if kind == "unreadable"} == {
        "empty.png", "empty.tif", "flat.npy", "nothing.npy", "deep.npy",
    }  # fmt: skip
    assert len(dropped) == 8
    assert Image.open(tmp_path / "set" / "contact_sheets" / "in.png").height > 100


def test_sources_that_are_kept_out_as_a_whole_are_refused(tmp_path):
    save(tmp_path / "in" / "0.png", chip(0))
    for outside in (tmp_path / "in", tmp_path):
        with pytest.raises(InputError, match="SOURCE: all images lie in folders that are kept out"):
            built(tmp_path, keep_out=(str(outside),), output_dir=str(tmp_path.parent / f"{tmp_path.name} set"))


def test_a_source_in_another_gives_copies_that_are_dropped(tmp_path):
    for number in range(3):
        save(tmp_path / "in" / "a" / f"{number}.png", chip(number))
    rows = built(tmp_path, tmp_path / "in" / "a", tmp_path / "in")
    assert [row.dropped for row in rows] == [""] * 3 + ["duplicate"] * 3


def test_a_folder_that_a_build_is_in_is_refused_to_a_second_one(tmp_path):
    save(tmp_path / "in" / "0.png", chip(0))
    process = multiprocessing.get_context("fork").Process(target=hold, args=(tmp_path / "set",))
    process.start()
    try:
        while not (tmp_path / "set" / ".run.lock").exists():
            process.join(0.05)
        with pytest.raises(InputError, match=r"--output_dir .*set is in use by process \d+"):
            built(tmp_path)
    finally:
        process.kill()
        process.join()
    assert len(built(tmp_path)) == 1


def hold(folder):
    with claimed(folder, "--output_dir"):
        threading.Event().wait(60)


def build_with_room(chosen, size, told):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    try:
        build(chosen)
    except InputError as error:
        told.send(str(error))


@pytest.mark.parametrize(
    ("size", "workers", "what"), [(2000, 1, "chips/in/00.png"), (2000, 2, "chips/in/0[01].png"), (5000, 2, "cut.jsonl")]
)
def test_a_build_without_room_says_so_and_goes_on_when_there_is(tmp_path, size, workers, what):
    for number in range(20):
        save(tmp_path / "in" / f"{number:02d}.png", chip(number)[20:76, 20:76] if size > 2000 else chip(number))
    chosen = BuildOptions((str(tmp_path / "in"),), str(tmp_path / "set"), workers=workers)
    heard, told = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=build_with_room, args=(chosen, size, told))
    process.start()
    process.join(30)
    assert process.exitcode == 0
    assert re.fullmatch(rf"\S*/set/.unfinished/{what} cannot be written: File too large", heard.recv())
    build(chosen)
    build(replace(chosen, output_dir=str(tmp_path / "new"), workers=1))
    assert files_of(tmp_path / "set") == files_of(tmp_path / "new")


def test_a_journal_that_is_damaged_is_done_again_from_there(tmp_path, monkeypatch):
    for number in range(6):
        save(tmp_path / "in" / f"{number}.png", chip(number))
    with monkeypatch.context() as patched:
        patched.setattr(building, "near_duplicates", None)
        with pytest.raises(TypeError):
            built(tmp_path)
    journal = tmp_path / "set" / UNFINISHED / "cut.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:2]) + b"\0" * 40 + b"\n" + b"".join(lines[3:]))
    assert [row.file for row in built(tmp_path)] == [f"{number}.png" for number in range(6)]


@pytest.mark.parametrize("content", ["[]", "{", '"a"', "\x00", "[" * 2000])
def test_settings_that_are_none_are_refused(tmp_path, content):
    save(tmp_path / "in" / "0.png", chip(0))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / SETTINGS).write_text(content)
    with pytest.raises(InputError, match=r"settings\.json cannot be read"):
        built(tmp_path)


def test_a_root_that_cannot_be_listed_is_refused(tmp_path, monkeypatch):
    def closed(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(type(tmp_path), "iterdir", closed)
    with pytest.raises(InputError, match=r"cannot be listed: Permission denied"):
        build(BuildOptions(("mstar",), str(tmp_path / "set"), root=str(tmp_path)))


# What the chips are made of


def test_the_middle_is_cut_and_its_leaks_are_found_whole_and_by_the_middle(tmp_path):
    """Mirrored, a test chip is found by its middle alone; a part beside the middle by the whole alone."""
    tested = clutter(40, 200, 300)
    save(tmp_path / "test" / "0.png", tested)
    sizes = [(96, 96), (129, 140), (64, 200), (40, 50)]
    for number, size in enumerate(sizes):
        save(tmp_path / "in" / f"{number}.png", clutter(number, *size))
    save(tmp_path / "in" / "mirrored.png", np.pad(tested[68:132, 118:182][:, ::-1], 20))
    save(tmp_path / "in" / "part.png", np.pad(tested[10:74, 200:264], 8))
    rows = {row.file: row for row in built(tmp_path, keep_out=(str(tmp_path / "test"),), middle=64)}
    assert rows["mirrored.png"].reason.startswith("nearly equals test/0.png (1.0")
    assert rows["part.png"].reason == "overlaps test/0.png at row 10, column 200"
    expected = {0: (16, 16, 64, 64), 1: (32, 38, 64, 64), 2: (0, 68, 64, 64), 3: (0, 0, 40, 50)}
    for number, (top, left, height, width) in expected.items():
        row = rows[f"{number}.png"]
        assert (row.dropped, row.top, row.left, row.height, row.width) == ("", top, left, height, width)
        found = np.asarray(Image.open(tmp_path / "set" / "chips" / row.path))
        assert np.array_equal(found, clutter(number, *sizes[number])[top : top + height, left : left + width])


def two_channels(folder, number):
    folder.mkdir(exist_ok=True)
    values = [clutter(number, 60, 70).astype(np.uint16) * 7, clutter(50 + number, 60, 70).astype(np.uint16) * 9]
    write_geotiff(folder / f"{number}.tif", *values)
    return values


def test_a_channel_or_each_by_itself(tmp_path):
    values = two_channels(tmp_path / "in", 0)
    with pytest.raises(InputError, match=r"none of 1 images can be read; the first: 0\.tif has 2 bands"):
        built(tmp_path, output_dir=str(tmp_path / "none"))
    one = built(tmp_path, channel="band2", remap="linear", output_dir=str(tmp_path / "set"))
    assert [(row.path, row.channel, row.remap) for row in one] == [("in/0.png", "", f"linear 0 to {values[1].max()}")]
    shutil.rmtree(tmp_path / "set")
    rows = built(tmp_path, channel="each", remap="linear")
    assert [(row.path, row.channel) for row in rows] == [("in/0.c0.png", "band1"), ("in/0.c1.png", "band2")]
    for row, each in zip(rows, values, strict=True):
        found = np.asarray(Image.open(tmp_path / "set" / "chips" / row.path))
        assert np.array_equal(found, np.rint(each * (255 / each.max())).astype(np.uint8))
    with pytest.raises(InputError, match="was begun with --channel each, not no --channel"):
        built(tmp_path, remap="linear")


def test_a_channel_that_shows_nothing_leaves_the_other(tmp_path):
    two_channels(tmp_path / "in", 0)
    write_geotiff(tmp_path / "in" / "1.tif", np.full((60, 70), np.nan, np.float32), clutter(3, 60, 70) + np.float32(1))
    rows = built(tmp_path, channel="each")
    assert [(row.path[3:], row.dropped) for row in rows[2:]] == [("1.c0.png", "unreadable"), ("1.c1.png", "")]


@pytest.mark.parametrize("channel", ["band1", "span"])
def test_all_channels_of_what_is_kept_out_are_kept_out(tmp_path, channel):
    """Whatever channel the chips are from, also where the images to keep out have none of that name."""
    first, second = two_channels(tmp_path / "test", 0)
    save(tmp_path / "test" / "1.png", chip(1))
    for name, values in {"first": first, "second": second, "span": np.hypot(first * 1.0, second)}.items():
        (tmp_path / "in").mkdir(exist_ok=True)
        amplitude = values.astype(np.float32)
        write_geotiff(tmp_path / "in" / f"{name}.tif", amplitude, amplitude * 0)
    write_geotiff(tmp_path / "in" / "chip.tif", chip(1).astype(np.uint16), np.zeros((96, 96), np.uint16))
    write_geotiff(tmp_path / "in" / "other.tif", chip(2).astype(np.uint16), np.zeros((96, 96), np.uint16))
    rows = built(tmp_path, channel=channel, keep_out=(str(tmp_path / "test"),))
    dropped = {row.file: row.dropped for row in rows}
    assert dropped["other.tif"] == ""
    assert {dropped[f"{name}.tif"] for name in ("first", "second", "chip")} == {"leak"}
    assert dropped["span.tif"] == ("leak" if channel == "span" else dropped["span.tif"])


def test_doubts_are_told_once_for_a_source(tmp_path, capsys):
    for number in range(4):
        save(tmp_path / "good" / f"{number}.png", chip(number))
        (tmp_path / "bad").mkdir(exist_ok=True)
        np.save(tmp_path / "bad" / f"{number}.npy", 20 * np.log10(clutter(number, 60, 60) + 1.0) - 60)
    for _ in range(2):  # an ended build tells again
        rows = built(tmp_path, tmp_path / "bad", tmp_path / "good")
        warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
        assert len(warnings) == 1
        assert warnings[0].startswith("warning: bad: 4 of 4 images are doubtful, such as 0.npy: ")
    assert [bool(row.doubt) for row in rows] == [True] * 4 + [False] * 4
