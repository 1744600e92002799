"""The quickstart's page holds all that it shows, and asks nothing of the net."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

import report
from saratrx.errors import InputError


def png(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 6), value, np.uint8)).save(path)


@pytest.fixture
def output(tmp_path):
    png(tmp_path / "simulated/classes.png", 11)
    png(tmp_path / "pretrain/reconstruction-4.png", 22)
    png(tmp_path / "detect/found.png", 33)
    log = [{"train_loss": 1 / epoch, "epoch": epoch} for epoch in (1, 2, 3)]
    (tmp_path / "pretrain/log.txt").write_text("".join(json.dumps(line) + "\n" for line in log))
    (tmp_path / "classify").mkdir()
    rows = ["raw <pixels>\t5\t12.5\t1.0", "raw <pixels>\t40\t20\t0", "shipped\t5\t40.25\t2", "shipped\t40\t61\t1"]
    (tmp_path / "classify/table.tsv").write_text("\n".join(rows) + "\n")
    for start, value in (("random", 0.1), ("shipped", 0.5)):
        folder = tmp_path / "detect" / start / "20260101_000000/vis_data"
        folder.mkdir(parents=True)
        lines = [{"loss": 1.0}, {"coco/bbox_mAP": value / 2, "coco/bbox_mAP_50": value}]
        (folder / "scalars.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "commands.txt").write_text("python main_pretrain.py --data_path 'a & b'\n")
    return tmp_path


def test_it_holds_pictures_tables_and_commands(output):
    page = report.page(output)
    pictures = [base64.b64decode(data) for data in re.findall(r'src="data:image/png;base64,([^"]+)"', page)]
    levels = [np.asarray(Image.open(io.BytesIO(data)))[0, 0] for data in pictures]
    assert [int(level) for level in levels if level.ndim == 0] == [11, 22, 33]
    assert len(pictures) == 5
    for cell in ("raw &lt;pixels&gt;", "12.5 ± 1.0", "40.2 ± 2.0", "61.0 ± 1.0"):
        assert f"<td>{cell}</td>" in page
    assert "<td>shipped weights</td><td>50.0</td><td>25.0</td>" in page
    assert "'a &amp; b'" in page.replace("&#x27;", "'")
    assert not re.findall(r'(?:src|href|url\()\s*=?\s*["\']?(?!data:)\w+:', page)
    assert "http" not in page


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("classify/table.tsv", "label\tfive\n"),
        ("classify/table.tsv", ""),
        ("classify/table.tsv", "label\t5\t12.5\t-1\n"),
        ("pretrain/log.txt", "{torn"),
        ("pretrain/log.txt", ""),
        ("pretrain/log.txt", '{"train_loss": 1}\n'),
        ("pretrain/log.txt", '"train_loss"\n'),
        ("simulated/classes.png", None),
        ("simulated/classes.png", "no PNG"),
        ("commands.txt", None),
        ("detect/random/20260101_000000/vis_data/scalars.json", '{"loss": 1}\n'),
        ("detect/random/20260101_000000/vis_data/scalars.json", '{"coco/bbox_mAP_50": 1, "coco/bbox_mAP": null}\n'),
    ],
)
def test_a_part_that_is_missing_or_damaged_is_named(name, content, output):
    path = output / name
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises(InputError, match=r"run quickstart.sh again"):
        report.page(output)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        report.Options(tmp_path / "none")
