"""The benchmark of partial labels, with a detector that learns nothing in a second."""

import json
from pathlib import Path

import pytest
from detection_tools import MICRO, run_here
from mmengine.registry import init_default_scope
from PIL import Image

from saratrx.errors import InputError

ROOT = Path(__file__).parents[1]
MADE_UP = {
    "figures": {"coco/bbox_mAP": 0.25, "coco/bbox_mAP_50": 0.5},
    "per_class": {"vehicle": {"mAP_50": 0.75}, "ship": {"mAP_50": 0.25}},
}
SMALL = [
    *(f"{key}={value}".replace(" ", "") for key, value in MICRO.items()),
    *("optim_wrapper.paramwise_cfg.num_layers=2", "train_dataloader.num_workers=0", "val_dataloader.num_workers=0"),
    *("val_dataloader.persistent_workers=False", "test_dataloader.persistent_workers=False"),
    "test_dataloader.num_workers=0",
]


@pytest.fixture
def benchmark(monkeypatch):
    init_default_scope("mmdet")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import partial_labels  # noqa: PLC0415 -- found by the line above

    elsewhere = partial_labels.run

    def run_small(script, *words):
        if not script.startswith("detection/"):
            elsewhere(script, *words)
        elif words[0].stem == "masked":
            done = run_here(script.removeprefix("detection/"), *words, "--cfg-options", *SMALL)
            assert done.returncode == 0, done.stderr
            assert "'b', in which vehicle is not annotated" in done.stdout + done.stderr or "test.py" in script
        else:  # these are plain detectors, which other tests train
            results = words[words.index("--work-dir") + 1] / "results.json"
            results.parent.mkdir(parents=True, exist_ok=True)
            results.write_text(json.dumps(MADE_UP))

    monkeypatch.setattr(partial_labels, "run", run_small)
    return partial_labels


def test_the_three_ways_are_trained_tested_told_and_drawn(benchmark, tmp_path, monkeypatch, capsys):
    words = ["partial_labels.py", str(tmp_path / "out"), "--strips", "2", "1", "--epochs", "1", "--seeds", "1"]
    words += ["--weights", "none", "--json", str(tmp_path / "found.json"), "--figure", str(tmp_path / "found.png")]
    monkeypatch.setattr("sys.argv", words)
    benchmark.main()
    found = json.loads((tmp_path / "found.json").read_text())
    assert {way: len(runs) for way, runs in found["runs"].items()} == {"full": 1, "unmasked": 1, "masked": 1}
    assert all(0 <= runs[0]["mAP_50"] <= 1 for runs in found["runs"].values())
    assert Image.open(tmp_path / "found.png").size[0] > 500
    said = capsys.readouterr().out
    assert "seed 0, masked: mAP50" in said
    assert "full      vehicle 75.0 +- 0.0   ship 25.0 +- 0.0" in said

    full, partial = (json.loads((tmp_path / f"out/{name}.json").read_text()) for name in ("full", "partial"))
    assert [(image["width"], image["height"]) for image in full["images"]] == [(1536, 512)] * 2
    assert {box["category_id"] for box in full["annotations"] if box["image_id"] == 1} == {1, 2}
    left = [box for box in full["annotations"] if box["category_id"] == box["image_id"]]
    assert partial["annotations"] == left
    scenes = json.loads((tmp_path / "out/simulated/scenes/annotations/train.json").read_text())
    second = [box for box in scenes["annotations"] if box["image_id"] == 6]  # right of the fourth and the fifth
    moved = [box["bbox"] for box in full["annotations"] if box["image_id"] == 2][-len(second) :]
    assert moved == [[box["bbox"][0] + 1024, *box["bbox"][1:]] for box in second]

    monkeypatch.setattr(benchmark, "run", lambda script, *_: script.startswith("example/") or pytest.fail(script))
    benchmark.main()  # all is there
    monkeypatch.setattr("sys.argv", [*words[:6], "2", *words[7:]])
    with pytest.raises(InputError, match="has trainings with other settings; name another folder"):
        benchmark.main()
