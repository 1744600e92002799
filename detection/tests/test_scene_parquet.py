"""The targets of all scenes in one table."""

import csv
import os

import numpy as np
import pytest
import torch
from detection_tools import run_here
from PIL import Image
from random_detector import write_random_detector

from coco_annotations import scene_options
from hivit_det.scenes import detection_files
from hivit_det.scenes.parquet import write_parquet
from hivit_det.scenes.scene import open_scene
from hivit_det.scenes.windows import Detections
from saratrx.errors import InputError

NAMES = ("1", 'a "b"\nc, d', "舰船", "")


def write_table(folder, name, count, sides=4):
    """A scene and the CSV file of what was found there; gives both paths and the rows."""
    path = folder / name
    Image.fromarray(np.full((9, 9), 7, np.uint8)).save(path, "png")
    labels = torch.arange(count) % len(NAMES)
    found = Detections(torch.rand(count, sides) * 9, torch.rand(count), labels, NAMES)
    table = folder / f"{count}.csv"
    detection_files.write_csv(table, open_scene(path), found)
    with table.open(newline="", encoding="utf-8") as file:
        return path, table, list(csv.reader(file))


@pytest.mark.parametrize("sides", [4, 5])
def test_it_has_the_rows_of_all_scenes(tmp_path, sides):
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra parquet is not installed")
    names = ("b.png", "a.png", os.fsdecode(b"sc\xe9ne.png"))
    scenes = [write_table(tmp_path, name, count, sides) for name, count in zip(names, (5, 0, 9), strict=True)]
    assert write_parquet(tmp_path / "all.parquet", {path: table for path, table, _ in scenes}) == 14
    found = parquet.read_table(tmp_path / "all.parquet")
    assert found.column_names == ["scene", *scenes[0][2][0]]
    expected = [
        (str(path.parent / name), row)
        for (path, _, rows), name in zip(scenes, (*names[:2], r"sc\udce9ne.png"), strict=True)
        for row in rows[1:]
    ]
    assert found.column("scene").to_pylist() == [scene for scene, _ in expected]
    assert found.column("class").to_pylist() == [row[0] for _, row in expected]
    for number, name in enumerate(found.column_names[2:], start=1):
        assert found.column(name).to_pylist() == [float(row[number]) for _, row in expected]


def test_without_pyarrow_it_is_refused_before_anything_is_done(tmp_path, monkeypatch):
    for name in ("a.py", "a.pth", "a.png"):
        (tmp_path / name).write_text("model = 1")
    paths = {"config": tmp_path / "a.py", "checkpoint": tmp_path / "a.pth", "scenes": (tmp_path / "a.png",)}
    monkeypatch.setattr(scene_options, "find_spec", lambda name: None)
    scene_options.SceneOptions(**paths)
    with pytest.raises(InputError, match=r"--parquet needs the package pyarrow: pip install -e '.\[parquet\]'"):
        scene_options.SceneOptions(**paths, parquet=tmp_path / "all.parquet")
    monkeypatch.setattr(scene_options, "find_spec", lambda name: name)
    with pytest.raises(InputError, match=r"--parquet .*: is a folder; name a file"):
        scene_options.SceneOptions(**paths, parquet=tmp_path)


def test_the_command_writes_it_of_finished_scenes_too(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra parquet is not installed")
    write_random_detector(tmp_path)
    Image.fromarray(np.random.default_rng(3).integers(0, 255, (96, 96), np.uint8)).save(tmp_path / "a.png")
    words = ["small.py", "small.pth", "a.png", "--score", 0.2, "--device", "cpu", "--parquet", "of/all.parquet"]
    tables = []
    for _ in range(2):
        done = run_here("huge_image_infer.py", *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        tables.append(parquet.read_table(tmp_path / "of/all.parquet"))
        (tmp_path / "of/all.parquet").unlink()
    assert "was finished by the same command" in done.stdout
    assert tables[0].equals(tables[1])
    rows = (tmp_path / "detections/a_targets.csv").read_text().splitlines()
    assert len(tables[0]) == len(rows) - 1 > 0
