"""A build keeps no copies and no leaks, whatever the number of workers, and whenever it was killed."""

import csv
import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from test_prepare_cutting import write_geotiff
from test_prepare_likeness import compressed
from test_prepare_overlap import chip, clutter

import prepare_data
from hivit_mae.prepare import build as building
from hivit_mae.prepare import workers
from hivit_mae.prepare.build import MANIFEST, SETTINGS, UNFINISHED, build, read_manifest
from hivit_mae.prepare.options import BuildOptions
from saratrx.errors import InputError
from saratrx.files import find_images, write_text


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Chips and scenes, some of which hold what is to be tested on; what each must be dropped for."""
    root = tmp_path_factory.mktemp("data")
    test_chips = [chip(seed) for seed in range(6)]
    test_scene = clutter(99, 400, 500)
    (root / "test scenes").mkdir()
    (root / "test scenes" / "torn.png").write_bytes(b"no image")
    for number, image in enumerate(test_chips):
        save(root / "chips" / "TEST" / "a" / f"{number}.png", image)
    save(root / "test scenes" / "scene.png", test_scene)
    train = root / "chips" / "train"
    for seed in range(20, 32):
        save(train / "a" / f"{seed}.png", chip(seed))
    save(train / "b" / "20 again.bmp", chip(20))
    save(train / "b" / "21 again.png", compressed(chip(21), 80))
    save(train / "b" / "21 turned.png", np.ascontiguousarray(np.rot90(chip(21))))
    save(train / "b" / "test 0.png", test_chips[0])
    save(train / "b" / "test 1.png", compressed(test_chips[1][:, ::-1], 80))
    save(train / "b" / "cut out.png", test_scene[100:200, 300:390])
    save(train / "b" / "flat.png", np.full((50, 50), 7, np.uint8))
    (train / "b" / "torn.png").write_bytes((train / "a" / "20.png").read_bytes()[:500])
    pasted = clutter(7, 250, 250)
    pasted[100:196, 30:126] = test_chips[3]
    save(root / "scenes" / "pasted.jpg", pasted)
    sea = np.sqrt(np.random.default_rng(8).exponential(400.0, (700, 800)))
    sea[100:106, 200:212] += 200
    write_geotiff(root / "scenes" / "sea.tif", (sea * 40).astype(np.uint16))
    dropped = {
        "TEST/a": "kept out",
        "train/b/20 again.bmp": "duplicate",
        "train/b/21 again.png": "near duplicate",
        "train/b/21 turned.png": "near duplicate",
        "train/b/test 0.png": "leak",
        "train/b/test 1.png": "leak",
        "train/b/cut out.png": "leak",
        "train/b/flat.png": "constant",
        "train/b/torn.png": "unreadable",
        "pasted.jpg": "leak",
    }
    return root, dropped


def options(root, output, **others):
    words = {"window": 256, "overlap": 32, "empty": 0.1, "workers": 1} | others
    return BuildOptions(
        sources=(str(root / "chips"), str(root / "scenes")),
        output_dir=str(output),
        keep_out=(str(root / "chips" / "TEST"), str(root / "test scenes")),
        **words,
    )


@pytest.fixture(scope="session")
def built(data, tmp_path_factory):
    output = tmp_path_factory.mktemp("built")
    build(options(data[0], output))
    return output


def files_of(output):
    """All files of a set, but for its settings."""
    return {str(path.relative_to(output)): path.read_bytes() for path in sorted(output.rglob("*")) if path.is_file()}


def test_each_image_is_kept_or_dropped_for_its_reason(data, built):
    _, dropped = data
    chips = read_manifest(built / MANIFEST)
    for row in chips:
        if row.file == "sea.tif":
            assert row.dropped in ("", "background")
            continue
        reason = next((kind for name, kind in dropped.items() if row.file.startswith(name)), "")
        assert row.dropped == reason, row
    reasons = {row.file: row.reason for row in chips}
    assert reasons["train/b/test 0.png"] == "equals TEST/a/0.png"
    assert reasons["train/b/test 1.png"].startswith("nearly equals TEST/a/1.png (0.9")
    assert reasons["train/b/cut out.png"] == "overlaps test scenes/scene.png at row 100, column 300"
    assert reasons["pasted.jpg"] == "overlaps TEST/a/3.png at row -100, column -30"
    assert reasons["train/b/20 again.bmp"] == "equals chips/train/a/20.png"
    assert reasons["train/b/torn.png"].startswith("train/b/torn.png cannot be read")
    with (built / MANIFEST).open(newline="") as file:
        first = next(csv.DictReader(file))
    assert first["part"] == "test"
    assert (first["source"], first["file"]) == ("chips", "TEST/a/0.png")


def test_windows_of_a_scene_are_thinned_but_not_those_with_a_target(data, built):
    rows = [row for row in read_manifest(built / MANIFEST) if row.file == "sea.tif"]
    kept = [row for row in rows if not row.dropped]
    assert len(rows) == 12
    assert 1 <= len(kept) < 8
    assert any(row.top <= 100 and row.top + 256 >= 106 and row.left <= 200 <= row.left + 244 for row in kept)
    assert all(row.remap.startswith("percentile 0 to") for row in rows)


def test_no_kept_chip_holds_a_test_image_or_lies_in_one(data, built):
    """By brute force: the middle of each is slid over the other, and the best correlation taken."""
    root, _ = data
    tests = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in sorted(root.glob("*/TEST/*/*"))]
    tests.append(cv2.imread(str(root / "test scenes" / "scene.png"), cv2.IMREAD_GRAYSCALE))
    kept = [cv2.imread(path, cv2.IMREAD_GRAYSCALE) for path in find_images(built / "chips")]
    leaked = cv2.imread(str(root / "scenes" / "pasted.jpg"), cv2.IMREAD_GRAYSCALE)

    def likeness(one, other):
        best = 0.0
        for small, large in ((one, other), (other, one)):
            top, left = (side // 2 - 24 for side in small.shape)
            middle = small[top : top + 48, left : left + 48]
            if min(large.shape) >= 48:
                best = max(best, cv2.matchTemplate(large, middle, cv2.TM_CCOEFF_NORMED).max())
        return best

    assert len(kept) > 12
    assert max(likeness(image, test) for image in kept for test in tests) < 0.7
    assert max(likeness(leaked, test) for test in tests) > 0.9


def test_the_manifest_tells_the_chips(built):
    chips = [row for row in read_manifest(built / MANIFEST) if not row.dropped]
    found = find_images(built / "chips")
    assert found == sorted(str(built / "chips" / row.path) for row in chips)
    for row in chips:
        with Image.open(built / "chips" / row.path) as image:
            assert (image.height, image.width, image.mode) == (row.height, row.width, "L")
    assert sorted(path.name for path in (built / "contact_sheets").iterdir()) == ["chips.png", "scenes.png"]
    assert not (built / UNFINISHED).exists()


def test_any_number_of_workers_builds_the_same(data, built, tmp_path, capsys):
    build(options(data[0], tmp_path / "set", workers=3))
    assert files_of(tmp_path / "set") == files_of(built)
    told = capsys.readouterr().out
    warning, table = told.split("\n", 1)
    assert warning.startswith("warning: --keep_out: ")
    assert "torn.png cannot be read" in warning
    build(options(data[0], tmp_path / "set", workers=2))  # nothing to do
    assert capsys.readouterr().out == table
    assert "kept out" in table


def test_it_does_not_depend_on_the_place_of_the_data(data, built, tmp_path):
    shutil.copytree(data[0], tmp_path / "moved")
    build(options(tmp_path / "moved", tmp_path / "set"))
    assert (tmp_path / "set" / MANIFEST).read_bytes() == (built / MANIFEST).read_bytes()


def die(*_):
    os._exit(9)


def die_in_journal(name, lines):
    """Have a process die in the middle of a line of a journal."""
    each = workers.each

    def torn(function, shared, items, *rest):
        for number, result in enumerate(each(function, shared, items, *rest)):
            if number == lines and items and function.__name__ == name:
                journal = next(path for path in FOLDER[0].glob("*.jsonl") if path.stem.startswith(JOURNALS[name]))
                with journal.open("ab") as file:
                    file.write(b'[{"path": "tor')
                die()
            yield result

    workers.each = torn


JOURNALS = {"cut": "cut", "find_overlap": "overlap"}
FOLDER = []


def die_at(name):
    """Have a process die where it would call a function of the build."""
    setattr(building, name, die)


MOMENTS = {
    "cutting": lambda: die_in_journal("cut", 9),
    "cutting again": lambda: die_in_journal("cut", 5),
    "comparing": lambda: die_at("near_duplicates"),
    "overlaps": lambda: die_in_journal("find_overlap", 4),
    "deciding": lambda: die_at("write_text"),
    "decided": lambda: die_at("finish"),
    "sheets": lambda: die_at("write_sheet"),
    "manifest": lambda: die_at("find_spec"),
}


def run_and_die(moment, chosen):
    FOLDER[:] = [Path(chosen.output_dir, UNFINISHED)]
    MOMENTS[moment]()
    build(chosen)


def test_a_killed_build_goes_on_to_the_same_set(data, built, tmp_path):
    output = tmp_path / "set"
    seen = {}
    for moment in MOMENTS:
        child = multiprocessing.get_context("fork").Process(target=run_and_die, args=(moment, options(data[0], output)))
        child.start()
        child.join(60)
        assert child.exitcode == 9, moment
        assert not (output / MANIFEST).exists()
        seen[moment] = sorted(path.name for path in (output / UNFINISHED).iterdir())
    assert seen["cutting again"] == ["chips", "cut.jsonl"]
    assert seen["overlaps"] == ["chips", "cut.jsonl", "overlap.jsonl"]
    assert MANIFEST in seen["decided"]
    assert "chips" not in seen["sheets"]
    build(options(data[0], output, workers=2))
    assert files_of(output) == files_of(built)


def refused(match, chosen):
    with pytest.raises(InputError, match=match) as error:
        build(chosen)
    assert "\n" not in str(error.value)


def test_what_cannot_be_built_is_told_in_a_sentence(data, built, tmp_path):
    root, _ = data
    refused(r"--output_dir .*built\S*: was begun with --window 256, not --window 128", options(root, built, window=128))
    for folder in (root / "chips" / "out", root):
        refused("lie in each other", options(root, folder))
    (tmp_path / "full").mkdir()
    write_text(tmp_path / "full" / "mine.txt", "")
    refused("is not empty, and holds no set", options(root, tmp_path / "full"))
    assert os.listdir(tmp_path / "full") == ["mine.txt"]
    (tmp_path / "torn").mkdir()
    write_text(tmp_path / "torn" / SETTINGS, "{")
    refused("settings.json cannot be read", options(root, tmp_path / "torn"))
    (tmp_path / "empty").mkdir()
    refused("no image in it", BuildOptions((str(tmp_path / "empty"),), str(tmp_path / "set")))
    refused("no such folder, and no set of that name", BuildOptions((str(tmp_path / "none"),), str(tmp_path / "set")))
    refused("MSTAR .* without --root", BuildOptions(("mstar",), str(tmp_path / "set")))
    save(tmp_path / "bad" / "a.png", chip(0))
    (tmp_path / "bad" / "a.png").write_bytes(b"no image")
    refused(
        "none of 1 images can be read; the first: a.png", BuildOptions((str(tmp_path / "bad"),), str(tmp_path / "s"))
    )


def test_changed_images_are_not_mixed_with_those_before(tmp_path):
    for number in range(3):
        save(tmp_path / "in" / f"{number}.png", chip(number))
    chosen = BuildOptions((str(tmp_path / "in"),), str(tmp_path / "set"), workers=1)
    build(chosen)
    save(tmp_path / "in" / "3.png", chip(3))
    refused("was begun with other images", chosen)


def test_files_that_differ_by_their_kind_alone_become_chips_of_two_names(tmp_path):
    save(tmp_path / "in" / "a.png", chip(0))
    save(tmp_path / "in" / "a.bmp", chip(1))
    save(tmp_path / "more" / "in" / "a.png", chip(2))
    folders = (str(tmp_path / "in"), str(tmp_path / "more" / "in"))
    build(BuildOptions(folders, str(tmp_path / "set"), workers=1))
    names = [os.path.relpath(path, tmp_path / "set" / "chips") for path in find_images(tmp_path / "set" / "chips")]
    assert names == ["in-2/a.png", "in/a.bmp.png", "in/a.png.png"]


def test_what_is_like_a_dropped_copy_only_stays(tmp_path):
    rng = np.random.default_rng(0)
    image = chip(0)[16:80, 16:80].astype(float)
    for number in range(3):  # each less like the first
        save(tmp_path / "in" / f"{number}.png", image.clip(0, 255).astype(np.uint8))
        image += rng.normal(0, 0.27 * image.std(), image.shape)
    build(BuildOptions((str(tmp_path / "in"),), str(tmp_path / "set"), radius=16, workers=1))
    rows = read_manifest(tmp_path / "set" / MANIFEST)
    assert [row.dropped for row in rows] == ["", "near duplicate", ""]
    assert rows[1].reason.startswith("nearly equals in/0.png (0.9")


def test_names_may_have_any_signs(tmp_path):
    (tmp_path / "in").mkdir()
    for number, name in enumerate((b"\xff.png", b"a, b.png", b"two\nlines.png", "é.png".encode())):
        Image.fromarray(chip(number)).save(tmp_path / "0.png")
        (tmp_path / "0.png").rename(tmp_path / "in" / os.fsdecode(name))
    build(BuildOptions((str(tmp_path / "in"),), str(tmp_path / "set"), workers=1))
    rows = read_manifest(tmp_path / "set" / MANIFEST)
    assert len(rows) == 4
    assert all((tmp_path / "set" / "chips" / row.path).exists() for row in rows)
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra parquet is not installed")
    table = parquet.read_table(tmp_path / "set" / "manifest.parquet").to_pydict()
    assert sorted(table["file"]) == sorted(["a, b.png", "two\nlines.png", "é.png", r"\udcff.png"])


def test_a_set_of_which_nothing_is_left_is_told_as_such(tmp_path, capsys):
    for number in range(2):
        save(tmp_path / "in" / f"{number}.png", np.full((40, 40), number, np.uint8))
    build(BuildOptions((str(tmp_path / "in"),), str(tmp_path / "set"), workers=1))
    assert [row.dropped for row in read_manifest(tmp_path / "set" / MANIFEST)] == ["constant", "constant"]
    assert capsys.readouterr().out.splitlines()[-2].split() == ["all", "2", "2", "0", "0", "0", "0", "0", "2", "0", "0"]


def test_a_published_set_is_found_by_name_and_its_test_part_kept_out(tmp_path):
    save(tmp_path / "mstar_soc" / "TRAIN" / "T72" / "0.png", chip(0))
    save(tmp_path / "mstar_soc" / "TEST" / "T72" / "1.png", chip(1))
    build(BuildOptions(("MSTAR",), str(tmp_path / "set"), root=str(tmp_path), workers=1))
    rows = [(row.file, row.part, row.dropped) for row in read_manifest(tmp_path / "set" / MANIFEST)]
    assert rows == [("TEST/T72/1.png", "test", "kept out"), ("TRAIN/T72/0.png", "train", "")]


def test_the_command_tells_all_mistakes_and_ends_with_2(tmp_path):
    words = [sys.executable, prepare_data.__file__, "build", "nowhere", "--output_dir", str(tmp_path / "set")]
    done = run([*words, "--window", "10", "--radius", "99", "--keep_out", "none"])
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: --keep_out none: no such folder",
        "error: --window 10: must be at least 64",
        "error: --overlap 64: must be from 0 to 5",
        "error: --radius 99: must be from 0 to 16",
    ]
    done = run([sys.executable, prepare_data.__file__, "clean"])
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def run(words):
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
