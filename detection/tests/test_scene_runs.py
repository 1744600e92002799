"""A run over scenes that was stopped goes on, and ends as one that was not."""

import hashlib
import json
import os

import numpy as np
import pytest
import rasterio
import torch
from detection_tools import STAGE, Forked, run_here
from random_detector import write_random_detector
from rasterio.transform import Affine

from hivit_det.scenes import resuming
from hivit_det.scenes.resuming import Kept, is_finished, of_scene
from hivit_det.scenes.windows import SceneDetector
from saratrx.errors import InputError

KILLED = """
import os, runpy
from hivit_det.scenes import resuming
from hivit_det.scenes.windows import SceneDetector

look, left = SceneDetector.detect_in_windows, {left}
resuming.SECONDS = 0

def look_or_die(*args):
    global left
    left -= 1
    if left < 0:
        os._exit(9)
    return look(*args)

SceneDetector.detect_in_windows = look_or_die
runpy.run_path({command!r}, run_name="__main__")
"""
FILES = ("json", "csv", "geojson", "jpg")


def write_scene(path, seed):
    values = np.random.default_rng(seed).gamma(1.0, 40.0, (150, 210)).clip(0, 255).astype(np.uint8)
    about = {"width": 210, "height": 150, "count": 1, "dtype": "uint8", "crs": "EPSG:32650"}
    with rasterio.open(path, "w", driver="GTiff", transform=Affine(10, 0, 5e5, 0, -10, 4e6), **about) as file:
        file.write(values, 1)


def words(output, *more):
    size = ["--window", 96, "--overlap", 32, "--batch", 2, "--score", 0.2, "--device", "cpu"]
    return ["small.py", "small.pth", "a.tif", "b.tif", *size, "--output_dir", output, *more]


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def looks():
    """The windows that the detector looks at, in batches, in this process."""
    seen, look, threads = [], SceneDetector.detect_in_windows, torch.get_num_threads()

    def counted(self, scene, windows, score):
        seen.append((scene.path.name, *(corner for corner, _ in windows)))
        return look(self, scene, windows, score)

    torch.set_num_threads(1)  # as a command in a process of its own
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SceneDetector, "detect_in_windows", counted)
        yield seen
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, looks):
    """A folder with a detector and two scenes, and what a run that nothing stops finds in them and looks at."""
    folder = write_random_detector(tmp_path_factory.mktemp("harvest"))
    for seed, name in enumerate("ab"):
        write_scene(folder / f"{name}.tif", seed)
    done = run_here("huge_image_infer.py", *words("whole"), cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, contents(folder / "whole"), looks.copy()


@pytest.mark.parametrize(("output", "looks_of_b", "windows"), [("in_first", 2, 4), ("in_second", 5, 10)])
def test_a_killed_run_goes_on_and_finds_the_same(whole, looks, output, looks_of_b, windows):
    folder, expected, all_looks = whole
    first = sum(name == "a.tif" for name, *_ in all_looks) + looks_of_b
    assert len(all_looks) > first
    (folder / "killed.py").write_text(KILLED.format(left=first, command=str(STAGE / "huge_image_infer.py")))
    killed = Forked(folder / "log.txt", folder / "killed.py", *words(output), cwd=folder).ended()
    assert killed.returncode == 9
    assert "b_targets.part" in contents(folder / output)
    assert "b_targets.json" not in contents(folder / output)
    looks.clear()
    done = run_here("huge_image_infer.py", *words(output), cwd=folder)
    assert done.returncode == 0, done.stderr
    assert f"a.tif: was finished by the same command; to look again, delete {output}/a_targets.json" in done.stdout
    assert f"b.tif: goes on after {windows} windows, which {output}/b_targets.part has" in done.stdout
    assert looks == all_looks[first:]
    assert contents(folder / output) == expected
    looks.clear()
    done = run_here("huge_image_infer.py", *words(output), cwd=folder)
    assert done.stdout.count("was finished by the same command") == 2
    assert looks == []
    assert contents(folder / output) == expected


def test_what_another_run_has_left_does_not_count(whole, looks):
    folder, expected, all_looks = whole
    output = folder / "other"
    done = run_here("huge_image_infer.py", *words("other", "--wgs84"), cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "crs" not in json.loads((output / "a_targets.geojson").read_text())
    assert contents(output)["a_targets.csv"] == expected["a_targets.csv"]
    (output / "b_targets.json").write_text("{")
    (output / "b_targets.part").write_text("torn")
    os.utime(folder / "b.tif", ns=(0, (folder / "b.tif").stat().st_mtime_ns))  # another time of access is no change
    looks.clear()
    done = run_here("huge_image_infer.py", *words("other"), cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "other/a_targets.json is of another run (not the same wgs84): begun anew" in done.stdout
    assert "other/b_targets.part holds no windows that a run has kept: begun anew" in done.stdout
    assert looks == all_looks
    assert contents(output) == expected


@pytest.fixture
def finished(tmp_path):
    """A COCO file that says that it is finished, and the run that it is of."""
    (tmp_path / "a.tif").write_bytes(b"scene")
    (tmp_path / "a_targets.csv").write_text("class,score")
    run = of_scene({"checkpoint": "0a", "nms": 0.5, "classes": ["ship"]}, tmp_path / "a.tif")
    info = {"run": run, "files": {"a_targets.csv": hashlib.sha256(b"class,score").hexdigest()}}
    (tmp_path / "a_targets.json").write_text(json.dumps({"info": info}))
    return tmp_path / "a_targets.json", run


def test_a_scene_is_finished_if_all_its_files_are_of_this_run(finished, caplog):
    path, run = finished
    assert is_finished(path, run)
    for change in ({"checkpoint": "0b"}, {"nms": 0.4}, {"classes": None}, {"amp": False}):
        assert not is_finished(path, run | change)
        assert f"{path} is of another run (not the same {next(iter(change))})" in caplog.text
    assert not is_finished(path.with_name("b_targets.json"), run)
    (path.parent / "a_targets.csv").write_text("class,score\nship")
    assert not is_finished(path, run)
    (path.parent / "a_targets.csv").unlink()
    assert not is_finished(path, run)


def test_a_scene_that_was_changed_is_another(finished):
    path, run = finished
    scene = path.with_name("a.tif")
    os.utime(scene, ns=(0, 10**9))
    assert of_scene(run, scene)["scene"]["mtime_ns"] == 10**9
    assert not is_finished(path, of_scene(run, scene))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"info": 3}', '{"info": {"run": [1], "files": {}}}', "[" * 10**5])
def test_what_is_no_finished_scene_is_not_taken_for_one(finished, content):
    path, run = finished
    path.write_text(content)
    assert not is_finished(path, run)


FOUND = (torch.rand(3, 5), torch.rand(3), torch.tensor([0, 2, 1]), torch.rand(3, 4))


def test_windows_are_kept_exactly(tmp_path, monkeypatch):
    monkeypatch.setattr(resuming, "SECONDS", 0)
    path, run = tmp_path / os.fsdecode(b"sc\xe9ne.part"), {"nms": 0.5, "classes": None}
    kept = Kept(path, run)
    assert kept.of("first") == (0, [])
    kept.keep("first", 4, [FOUND, FOUND])
    kept.keep("second", 2, [FOUND])
    again = Kept(path, run)
    assert again.windows == 6
    for look, count, parts in (("first", 4, [FOUND, FOUND]), ("second", 2, [FOUND])):
        said, [found] = again.of(look)
        assert said == count
        for one, other in zip(found, zip(*parts, strict=True), strict=True):
            assert torch.equal(one, torch.cat(other))
            assert one.dtype == other[0].dtype
    again.remove()
    again.remove()
    assert not path.exists()


def test_windows_of_another_run_do_not_count(tmp_path, monkeypatch):
    monkeypatch.setattr(resuming, "SECONDS", 0)
    Kept(tmp_path / "a.part", {"nms": 0.5}).keep("first", 4, [FOUND])
    assert Kept(tmp_path / "a.part", {"nms": 0.5}).windows == 4
    assert Kept(tmp_path / "a.part", {"nms": 0.4}).windows == 0


def test_windows_are_written_now_and_then_alone(tmp_path):
    kept = Kept(tmp_path / "a.part", {})
    kept.keep("first", 4, [FOUND])
    assert not list(tmp_path.iterdir())
    kept.written -= resuming.SECONDS
    kept.keep("first", 5, [FOUND])
    kept.keep("first", 6, [FOUND])
    assert Kept(tmp_path / "a.part", {}).windows == 5


def test_kept_windows_that_cannot_be_written_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(resuming, "SECONDS", 0)
    kept = Kept(tmp_path / "absent/a.part", {})
    with pytest.raises(InputError, match=r"a.part cannot be written: No such file"):
        kept.keep("first", 4, [FOUND])


def test_a_pickle_is_no_kept_window(tmp_path):
    np.savez(tmp_path / "a.npz", run=np.array("{}"), windows=np.array([{"first": 1}], object))
    assert Kept(tmp_path / "a.npz", {}).windows == 0
